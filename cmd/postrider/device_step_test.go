package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

func (r *relay) device(name string) (d registry.Device) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.ok("device", "show", name, "-o", "json")), &d); err != nil {
		r.t.Fatal(err)
	}
	return d
}

// Every answer of the request forms is kept, and asked for with --form.
func TestDeviceForm(t *testing.T) {
	r := start(t)
	const name = "app.chem.campus.test"
	got := r.do("device", "request", name, "--form", "--owner", "chem")
	for _, flag := range []string{"--contact", "--address", "--sender", "--traffic", "--unit", "--service-owner", "--purpose", "--audience", "--type", "--why-no-auth", "--terms", "--attested-by", "--attested-title", "--signature",
		"--affiliation", "--application", "--owner-affiliation", "--runs-mta", "--workstation"} {
		if got.code != 2 || !strings.Contains(got.err, flag) {
			t.Errorf("%d, no %s in %s", got.code, flag, got.err)
		}
	}
	r.ok("owner", "add", "chem", "--contact", "it@campus.test")
	r.ok("device", "request", name, "--form", "--owner", "chem", "--contact", "it@campus.test,backup@campus.test", "--address", "127.3.0.1", "--address", "127.3.1.0/24",
		"--sender", "app@campus.test", "--header-sender", "news@campus.test", "--traffic", "newsletter", "--proof", "either", "--max-size", "5MB", "--max-session", "10", "--max-recipients", "20",
		"--messages-per-hour", "100", "--recipients-per-hour", "200", "--override-from", "app@campus.test", "--default-domain", "campus.test", "--hide-ehlo", "CHUNKING", "--legacy-tls", "--repair-newlines",
		"--phi", "--exempt", "no AUTH in firmware", "--exempt-until", "2027-06-30", "--by", "kim", "--unit", "College of Letters", "--service-owner", "lee@campus.test", "--purpose", "research",
		"--audience", "lists", "--type", "web application", "--why-no-auth", "old library", "--runs-mta", "yes", "--workstation", "no", "--contract", "C-1", "--terms", "2026-09", "--attested-by", "Kim K.", "--attested-title", "administrator",
		"--affiliation", "Staff", "--owner-affiliation", "faculty", "--application", "Course evaluation", "--signature", "/s/ Kim K.",
		"--comment", "please", "--ticket", "4711", "--reason", "new app")
	d := r.device(name)
	a := d.Application
	if a == nil || *a != (registry.Application{By: "kim", Unit: "College of Letters", ServiceOwner: "lee@campus.test", Purpose: "research", Audience: "lists", Type: "web application",
		Affiliation: "Staff", OwnerAffiliation: "faculty", Name: "Course evaluation", Signature: "/s/ Kim K.", AttestedVersion: "2026-09",
		WhyNoAuth: "old library", RunsMTA: "yes", Workstation: "no", Contract: "C-1", TermsVersion: "2026-09", AttestedBy: "Kim K.", AttestedTitle: "administrator", Comment: "please"}) {
		t.Errorf("form: %+v", a)
	}
	if d.Limits != (registry.Limits{Size: 5_000_000, Session: 10, Recipients: 20, MessagesPerHour: 100, RecipientsPerHour: 200}) || !d.PHI || len(d.Addresses) != 2 || len(d.Contacts) != 2 {
		t.Errorf("%+v", d)
	}
	q := d.Quirks
	if q.From != "app@campus.test" || q.Domain != "campus.test" || len(q.HideEHLO) != 1 || !q.LegacyTLS || !q.RepairNewlines || d.HeaderSenders[0] != "news@campus.test" || d.Exempt.Reason == "" || d.Exempt.Until.IsZero() {
		t.Errorf("%+v", d)
	}
	if d.Dates.Requested.IsZero() || d.Dates.Attested.IsZero() || !d.Dates.Approved.IsZero() || d.Ticket != "4711" || d.Reason != "new app" {
		t.Errorf("%+v", d.Dates)
	}
	r.ok("device", "approve", name, "--expires", "30d")
	if d = r.device(name); d.Approver != actor() || d.Dates.Approved.IsZero() || d.Dates.Activated.IsZero() || d.Exempt.By != actor() || time.Until(d.Dates.Expires) < 29*24*time.Hour || d.Application == nil {
		t.Errorf("approved: %+v", d)
	}
	first := d.Dates.Expires
	if got := r.ok("device", "renew", name, "--attested-by", "Lee L.", "--terms", "2027-01"); !strings.Contains(got, name+" is active until 20") {
		t.Errorf("renew says %q", got)
	}
	if d = r.device(name); !d.Dates.Expires.After(first) || d.Application.AttestedBy != "Lee L." || d.Application.AttestedTitle != "administrator" || d.Application.TermsVersion != "2027-01" {
		t.Errorf("renewed: %+v %+v", d.Dates, d.Application)
	}
	r.fails(2, "--expires", "device", "renew", name, "--expires", "soon")

	// Help desks note what they know; who is missing is said.
	got = r.do("device", "request", "bare.campus.test")
	if got.code != 0 || !strings.Contains(got.err, "Nobody hears about trouble") || !strings.Contains(got.err, "belongs to no unit") {
		t.Errorf("%+v", got)
	}
	r.fails(2, "say why", "device", "deny", "bare.campus.test")
	r.ok("device", "deny", "bare.campus.test", "--reason", "a workstation")
	if d = r.device("bare.campus.test"); d.State != registry.StateRetired || d.Dates.Retired.IsZero() || d.Reason != "a workstation" {
		t.Errorf("denied: %+v", d)
	}
	r.fails(5, "cannot be denied", "device", "deny", name, "--reason", "late")
	r.ok("device", "request", "bare.campus.test", "--owner", "chem", "--contact", "a@campus.test")
	if d = r.device("bare.campus.test"); d.State != registry.StateRequested || !d.Dates.Retired.IsZero() {
		t.Errorf("asked for anew: %+v", d)
	}
	r.fails(2, "more than 10", append([]string{"device", "request", "many.campus.test"}, strings.Fields(strings.Repeat("--sender s@campus.test ", 11))...)...)
	r.fails(2, "stands for many", "device", "request", "many.campus.test", "--sender", "*@campus.test")
	r.fails(2, "--exempt-until", "device", "request", "many.campus.test", "--exempt-until", "30d")
}

// Where a device may not be, it is not registered.
func TestDevicePlaces(t *testing.T) {
	r := start(t)
	for _, network := range []string{"campus 127.0.0.0/8", "campus 10.0.0.0/8", "workstations 10.1.0.0/16", "dhcp 10.2.0.0/16", "residential 10.3.0.0/16", "nat 10.4.0.0/16", "cloud 192.0.2.0/24", "deny 10.5.0.0/16"} {
		r.ok(append([]string{"network", "add"}, strings.Fields(network)...)...)
	}
	request := func(name string, args ...string) []string {
		return append([]string{"device", "request", name}, args...)
	}
	for address, why := range map[string]string{
		"10.1.2.3": "is for workstations", "10.2.2.3": "changes hands by DHCP", "10.0.0.0/8": "workstations", "10.3.0.1": "residential",
		"10.4.0.1": "has to authenticate", "192.0.2.1": "has to authenticate", "10.5.0.1": "without anonymous senders", "198.51.100.1": "outside the campus networks",
	} {
		r.fails(4, why, request("x.campus.test", "--address", address)...)
	}
	for _, address := range []string{"10.4.0.1", "192.0.2.1", "10.5.0.1"} {
		name := "d" + strings.ReplaceAll(address, ".", "-") + ".campus.test"
		r.ok(request(name, "--address", address, "--proof", "both")...)
		r.fails(4, "has to authenticate", "device", "edit", name, "proof=either")
	}
	r.fails(4, "DHCP", request("x.campus.test", "--address", "10.2.0.1", "--proof", "both")...)
	r.fails(2, "say why", request("x.campus.test", "--address", "10.2.0.1", "--any-network")...)
	r.ok(request("x.campus.test", "--address", "10.2.0.1", "--any-network", "--reason", "a fixed lease")...)
	r.fails(4, "DHCP", "device", "approve", "x.campus.test")
	r.ok("device", "approve", "x.campus.test", "--any-network", "--reason", "a fixed lease")
	r.ok(request("ok.campus.test", "--address", "10.9.0.1")...)
	r.fails(4, "outside the campus", "device", "edit", "ok.campus.test", "addresses+=198.51.100.1")
	r.fails(5, "belongs to prn.campus.test", "device", "edit", "ok.campus.test", "addresses+=127.0.0.1")
}

// Many at once, by selector; what a ticket is needed for, only with one.
func TestDeviceBulk(t *testing.T) {
	r := start(t)
	for _, name := range []string{"prn-1", "prn-2", "cam-1"} {
		r.ok("device", "request", name+".campus.test", "--owner", "chem")
	}
	r.ok("device", "request", "prn-9.campus.test", "--owner", "physics", "--address", "127.6.0.9", "--address", "127.6.0.10")
	if got := r.ok("device", "approve", "--all"); strings.Count(got, "is active") != 4 {
		t.Errorf("%q", got)
	}
	r.fails(3, "no device that fits", "device", "approve", "owner:chem")
	for address, n := range map[string]int{"127.6.0.0/28": 1, "127.6.0.10": 1, "127.6.0.1?": 1, "127.6.0.11": 0, "127.6.1.0/24": 0} {
		if rows := r.list("device", "ls", "address:"+address); len(rows) != n {
			t.Errorf("address:%s: %v", address, rows)
		}
	}
	dry := r.do("device", "suspend", "owner:chem", "--dry-run")
	if dry.code != 0 || !strings.Contains(dry.err, "3 devices would be suspended") || !strings.Contains(dry.err, "prn.campus.test is left alone: it comes from the configuration file") {
		t.Errorf("%+v", dry)
	}
	if got := r.ok("device", "suspend", "owner:chem", "-device:cam-*", "--cause", "reports", "--reason", "nobody reads them"); got != "prn-1.campus.test is suspended\nprn-2.campus.test is suspended\n" {
		t.Errorf("%q", got)
	}
	if rows := r.list("device", "ls", "cause:reports"); len(rows) != 2 {
		t.Errorf("%v", rows)
	}
	r.fails(4, "lifted by a ticket only", "device", "resume", "prn-1.campus.test")
	r.fails(4, "lifted by a ticket only", "device", "resume", "cause:reports")
	if got := r.ok("device", "resume", "cause:reports", "--ticket", "4711"); strings.Count(got, "is active") != 2 {
		t.Errorf("%q", got)
	}
	if d := r.device("prn-1.campus.test"); d.Ticket != "4711" || d.Suspension != nil || d.By == "" {
		t.Errorf("%+v", d)
	}
	r.ok("device", "suspend", "cam-1.campus.test", "prn-2.campus.test", "--needs-ticket")
	r.fails(4, "ticket", "device", "resume", "cam-1.campus.test")

	// Retiring many shows them first.
	plan := r.do("device", "retire", "owner:chem")
	_, id, _ := strings.Cut(plan.err, "--confirm ")
	id = strings.TrimSpace(id)
	if plan.code != 0 || id == "" || strings.Contains(plan.stdout, "is retired") || !strings.Contains(plan.stdout, "prn-2.campus.test") {
		t.Fatalf("%+v", plan)
	}
	r.ok("device", "edit", "prn-2.campus.test", "class=scan")
	if got := r.do("device", "retire", "owner:chem", "--confirm", id); got.code != 5 || !strings.Contains(got.err, "the plan has changed") || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	plan = r.do("device", "retire", "owner:chem")
	_, id, _ = strings.Cut(plan.err, "--confirm ")
	if got := r.ok("device", "retire", "owner:chem", "--confirm", strings.TrimSpace(id)); strings.Count(got, "is retired") != 3 {
		t.Errorf("%q", got)
	}

	// One address of several.
	nine, ten := r.admits("127.6.0.9", "a@inet.test"), r.admits("127.6.0.10", "a@inet.test")
	timetest.Await(t, "both send", func() bool { return nine() && ten() })
	r.ok("device", "suspend", "prn-9.campus.test", "--address", "127.6.0.9")
	timetest.Await(t, "one is stopped", not(nine))
	if !ten() {
		t.Error("the other is stopped, too")
	}
	r.fails(3, "has no address 127.6.0.8; it has 127.6.0.9 127.6.0.10", "device", "resume", "prn-9.campus.test", "--address", "127.6.0.8")
	r.ok("device", "resume", "prn-9.campus.test", "--address", "127.6.0.9")
	timetest.Await(t, "it sends again", nine)

	r.fails(5, "it cannot be renewed from there\nTo let it send: postrider device request cam-1.campus.test --owner chem --contact ADDRESS, then postrider device approve cam-1.campus.test", "device", "renew", "cam-1.campus.test")
	for text, args := range map[string][]string{
		"say which": {"suspend"}, "contradict": {"suspend", "--all", "owner:x"}, "unknown key": {"suspend", "sender:x"}, "is none of requested, approved": {"ls", "state:activ"}, "is none of yes, ended": {"ls", "exempt:maybe"}, "neither an address nor a range": {"ls", "address:prn"}, "did you mean 10.2.3.0/24": {"ls", "address:10.2.3.4/24"}, "owner has no value": {"suspend", "owner:"},
		"did you mean device:prn-*": {"suspend", "prn-*"}, "is none of operator": {"suspend", "prn-9.campus.test", "--cause", "mood"},
	} {
		r.fails(2, text, append([]string{"device"}, args...)...)
	}
}

func TestDeviceEdit(t *testing.T) {
	r := start(t)
	const name = "e.campus.test"
	r.ok("device", "request", name, "--owner", "chem", "--contact", "a@campus.test", "--address", "127.7.0.1", "--reason", "by phone")
	r.ok("device", "approve", name)
	r.ok("device", "suspend", name, "--address", "127.7.0.1")
	got := r.ok("device", "edit", name, "owner=physics", "contacts+=b@campus.test,a@campus.test", "addresses+=127.7.0.2", "limits.size=10MB", "limits.session=5", "quirks.legacy_tls=true",
		"exempt.reason=old", "exempt.until=90d", "application.purpose=research", "senders=x@campus.test,y@campus.test", "--reason", "moved", "--ticket", "12")
	for _, line := range []string{`e.campus.test: owner "chem" -> "physics"`, "limits.size = 10000000", `contacts ["a@campus.test"] -> ["a@campus.test","b@campus.test"]`} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	d := r.device(name)
	if d.Owner != "physics" || len(d.Contacts) != 2 || d.Addresses[0].State != registry.StateSuspended || d.Addresses[1].String() != "127.7.0.2" || d.Limits.Size != 10_000_000 || d.Limits.Session != 5 ||
		!d.Quirks.LegacyTLS || d.Exempt.Reason != "old" || d.Application.Purpose != "research" || len(d.Senders) != 2 || d.Reason != "moved" || d.Ticket != "12" || d.State != registry.StateActive {
		t.Errorf("%+v", d)
	}
	r.ok("device", "edit", name, "senders-=x@campus.test", "exempt=", "addresses=127.7.0.1", "quirks.legacy_tls=")
	if d = r.device(name); len(d.Senders) != 1 || d.Exempt != nil || len(d.Addresses) != 1 || d.Addresses[0].State != registry.StateSuspended || d.Quirks.LegacyTLS {
		t.Errorf("%+v", d)
	}
	if got := r.ok("device", "edit", name, "owner=physics"); got != name+" is so already\n" {
		t.Errorf("%q", got)
	}
	r.ok("device", "edit", name, "owner=none", "--dry-run")
	if d = r.device(name); d.Owner != "physics" {
		t.Error("a dry run changed it")
	}
	for text, setting := range map[string]string{
		"unknown key": "state=active", "is not KEY=VALUE": "owner", "is for lists": "owner+=x", "is not a whole number": "limits.session=ten", "neither true nor false": "phi=maybe",
		"is neither an address": "addresses=prn", "several values": "exempt=old", "traffic": "traffic=noise", "neither a date": "exempt.until=soon", "stands for many": "senders=*@campus.test", "less than nothing": "limits.session=-1",
	} {
		r.fails(2, text, "device", "edit", name, setting)
	}
	r.fails(5, "comes from the configuration file", "device", "edit", "prn.campus.test", "owner=x")

	var fields []string
	rows := r.list("device", "history", name)
	for _, row := range rows {
		fields = append(fields, row["change"].(string))
		if row["by"] != actor() || row["at"] == "" {
			t.Errorf("%v", row)
		}
	}
	if strings.Join(fields, " ") != "added changed changed changed changed" || rows[0]["reason"] != "by phone" || rows[3]["reason"] != "moved" || rows[3]["ticket"] != "12" {
		t.Errorf("%v", rows)
	}
	if table := r.ok("device", "history", name); !strings.Contains(table, `state "requested" -> "active"`) {
		t.Errorf("history:\n%s", table)
	}
	r.fails(3, "nothing was ever changed", "device", "history", "absent.campus.test")
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 5, time.UTC)
	for text, want := range map[string]time.Time{
		"":                     {},
		"2h":                   time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC),
		"7d":                   time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC),
		"2027-06-30T12:00:00Z": time.Date(2027, 6, 30, 12, 0, 0, 0, time.UTC),
		"2027-06-30":           time.Date(2027, 7, 1, 0, 0, 0, 0, time.Local),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"soon", "0s", "-1h", "2", "2027-13-01", "2026-11-20", "2026-11-22T09:00:00Z"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
