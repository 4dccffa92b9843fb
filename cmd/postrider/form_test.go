package main

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/timetest"
)

// The rows of the requirements about registering, each by the real commands
// against a running relay, and by what that relay then answers over SMTP.

// filled is a complete form, but for what a test changes; an empty one is left
// out.
func filled(changed map[string]string) []string {
	all := map[string]string{
		"owner": "chem", "contact": "it@campus.test", "address": "127.8.0.1", "sender": "prn@campus.test", "traffic": "transactional",
		"by": "kim", "affiliation": "staff", "application": "Course evaluation", "unit": "College of Letters", "service-owner": "lee@campus.test",
		"owner-affiliation": "faculty", "purpose": "teaching", "audience": "users", "type": "web application", "why-no-auth": "old library",
		"runs-mta": "no", "workstation": "no", "terms": "2026-09", "attested-by": "Kim K.", "attested-title": "administrator", "signature": "/s/ Kim K.",
	}
	maps.Copy(all, changed)
	out := []string{"--form"}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name] != "" {
			out = append(out, "--"+name, all[name])
		}
	}
	return out
}

func apply(name string, changed map[string]string, more ...string) []string {
	return append(append([]string{"device", "request", name}, filled(changed)...), more...)
}

// office is a relay whose registrations need the whole form.
func office(t *testing.T, more string) *relay {
	t.Helper()
	r := startWith(t, `
registration: {form: true, terms: "2026-09", terms_url: "https://relay.campus.test/terms"}
networks: {campus: [127.0.0.0/8], workstations: [127.9.1.0/24], dhcp: [127.9.2.0/24], deny: [127.9.3.0/24]}
`+more)
	r.ok("domain", "add", "campus.test", "--route", "smtp://"+r.mx.Addr())
	r.ok("owner", "add", "chem", "--contact", "it@campus.test")
	return r
}

// refusesForm checks that a form is refused for each of these answers.
func (r *relay) refusesForm(code int, cases map[string]map[string]string) {
	r.t.Helper()
	for text, changed := range cases {
		r.fails(code, text, apply("x.campus.test", changed)...)
	}
	r.fails(3, "no device is called", "device", "show", "x.campus.test")
}

func TestP2_OwnersAreStaffOrFaculty(t *testing.T) {
	r := office(t, "")
	r.ok("owner", "add", "acme", "--contact", "x@acme.test", "--external")
	r.refusesForm(4, map[string]map[string]string{
		`"vendor" may not own what is registered; that is for staff, faculty`: {"owner-affiliation": "vendor"},
		`"Student" may not own`:                        {"owner-affiliation": "Student"},
		"acme is a third party":                        {"owner": "acme"},
		"x@acme.test is no address in a hosted domain": {"service-owner": "x@acme.test"},
	})
	r.ok(apply("x.campus.test", map[string]string{"owner-affiliation": "Staff"})...)
}

func TestW8_WhyNoOtherWay(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"--why-no-auth": {"why-no-auth": ""}})
	got := r.do(apply("x.campus.test", nil)...)
	if got.code != 0 || !strings.Contains(got.err, "No other way would do, since: old library\n") {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(r.ok("device", "request", "--help"), "why neither SMTP AUTH nor OAuth to the mail service would do") {
		t.Error("the question is not asked")
	}
}

func TestW9_PurposeIsShownToTheApprover(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"--purpose": {"purpose": ""}})
	r.ok(apply("x.campus.test", nil)...)
	if got := r.do("device", "approve", "x.campus.test", "--reason", "fits"); got.code != 0 || !strings.Contains(got.err, "x.campus.test is for: teaching. Asked for by kim, staff\n") {
		t.Errorf("%+v", got)
	}
}

func TestW10_StaffAndFacultyMayAsk(t *testing.T) {
	r := office(t, "")
	r.refusesForm(4, map[string]map[string]string{
		`"student" may not ask; that is for staff, faculty (--affiliation)`: {"affiliation": "student"},
		`"vendor" may not ask`: {"affiliation": "vendor"},
	})
	r.refusesForm(2, map[string]map[string]string{"--affiliation": {"affiliation": ""}})
	r.ok(apply("x.campus.test", map[string]string{"affiliation": "Faculty"})...)
}

func TestS20_UnitIsRequired(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --unit\n": {"unit": ""}})
	r.ok(apply("x.campus.test", nil)...)
	if d := r.device("x.campus.test"); d.Application.Unit != "College of Letters" {
		t.Errorf("%+v", d.Application)
	}
}

// The owner of a service is an address of the institution, and its mail server
// knows it.
func TestS21_ServiceOwnerExists(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --service-owner": {"service-owner": ""}, "is not an e-mail address": {"service-owner": "lee"}})
	r.refusesForm(4, map[string]map[string]string{
		"there is no mailbox 550-5.1.1@campus.test (--service-owner)": {"service-owner": "550-5.1.1@campus.test"},
		"lee@elsewhere.test is no address in a hosted domain":         {"service-owner": "lee@elsewhere.test"},
	})
	r.ok(apply("x.campus.test", nil)...)
}

func TestS22_SendersAreRequired(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{
		"still to say: --sender": {"sender": ""}, `"prn" is not an e-mail address`: {"sender": "prn"}, "stands for many": {"sender": "*@campus.test"},
	})
	r.ok(apply("x.campus.test", map[string]string{"sender": "other@campus.test"})...)
	r.ok("device", "approve", "x.campus.test", "--reason", "fits")
	timetest.Await(t, "the relay holds it to that", func() bool {
		_, err := submit(t, r.smtp, "127.8.0.1", login{}, "a@inet.test") // as prn@campus.test
		return err != nil && strings.Contains(err.Error(), "prn@campus.test")
	})
}

func TestS23_HeaderSendersAreHeldToTheSame(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{`"news" is not an e-mail address`: {"header-sender": "news"}, "stands for many": {"header-sender": "%@campus.test"}})
	r.ok(apply("x.campus.test", nil)...)
	r.ok(apply("y.campus.test", map[string]string{"header-sender": "news@campus.test", "address": "127.8.0.2", "application": "Other"})...)
	if d := r.device("y.campus.test"); !slices.Equal(d.HeaderSenders, []string{"news@campus.test"}) {
		t.Errorf("%+v", d)
	}
}

func TestS24_AddressesAreRequiredAndOurs(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{
		"still to say: --address (or --proof credential)": {"address": ""}, `"prn" is neither an address`: {"address": "prn"}, "host bits": {"address": "127.8.0.1/24"},
	})
	r.refusesForm(4, map[string]map[string]string{"outside the campus networks": {"address": "198.51.100.1"}, "without anonymous senders": {"address": "127.9.3.1"}})
	r.refusesForm(5, map[string]map[string]string{"belongs to prn.campus.test": {"address": "127.0.0.1"}})
	r.ok(apply("x.campus.test", map[string]string{"address": "", "proof": "credential"})...)
	r.ok(apply("y.campus.test", map[string]string{"application": "Other"})...)
	if d := r.device("y.campus.test"); !d.Sends(netip.MustParseAddr("127.8.0.1")) {
		t.Errorf("%+v", d)
	}
}

func TestS25_NamesOfApplicationsAreUnique(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --application": {"application": ""}})
	r.ok(apply("x.campus.test", nil)...)
	second := map[string]string{"address": "127.8.0.2", "application": "course EVALUATION"}
	const taken = `the application "course EVALUATION" is x.campus.test already, which is requested`
	r.fails(5, taken, apply("y.campus.test", second)...)
	r.fails(5, "in the registry already", apply("x.campus.test", map[string]string{"address": "127.8.0.3", "application": "Third"})...)
	r.ok(apply("y.campus.test", map[string]string{"address": "127.8.0.2", "application": "Other"})...)
	r.fails(5, taken, "device", "edit", "y.campus.test", "application.name=course EVALUATION")
	r.ok("device", "deny", "x.campus.test", "--reason", "no use")
	r.ok("device", "edit", "y.campus.test", "application.name=course EVALUATION")
	r.ok("device", "approve", "y.campus.test", "--reason", "fits")
}

// Whom the mail is for makes it bulk, and the rule for bulk holds.
func TestS26_AudienceDrivesTheRulesForBulk(t *testing.T) {
	r := office(t, "policy: {bulk: enforce}\n")
	r.refusesForm(2, map[string]map[string]string{"still to say: --audience": {"audience": ""}, `"everybody" is none of unit, users, campus, lists, public`: {"audience": "everybody"}})
	const name = "x.campus.test"
	got := r.do(apply(name, map[string]string{"audience": "campus"})...)
	if got.code != 0 || !strings.Contains(got.err, name+" is held to the rules for bulk: it sends transactional to campus") {
		t.Errorf("%+v", got)
	}
	r.ok("device", "approve", name, "--reason", "fits")
	timetest.Await(t, "it is sent to the list service", func() bool {
		_, err := submit(t, r.smtp, "127.8.0.1", login{}, "a@inet.test")
		return err != nil && strings.Contains(err.Error(), "Bulk mail goes through the list service")
	})
	r.ok("device", "edit", name, "application.audience=users")
	timetest.Await(t, "it sends to those who asked", r.admits("127.8.0.1", "a@inet.test"))
}

func TestM2_MailServersAreAskedFor(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --runs-mta": {"runs-mta": ""}, "is none of yes, no": {"runs-mta": "maybe"}})
	const advice = "x.campus.test runs a mail server, which can deliver by itself: is the relay for it?"
	if got := r.do(apply("x.campus.test", map[string]string{"runs-mta": "yes"})...); got.code != 0 || !strings.Contains(got.err, advice) {
		t.Errorf("%+v", got)
	}
	if got := r.do("device", "approve", "x.campus.test", "--reason", "an internet fax"); got.code != 0 || !strings.Contains(got.err, advice) {
		t.Errorf("%+v", got)
	}
}

// A workstation is refused by what the form says, and by its network.
func TestM3_WorkstationsAreNotRegistered(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --workstation": {"workstation": ""}})
	r.refusesForm(4, map[string]map[string]string{
		"workstations are not registered; their mail programs log in": {"workstation": "yes"}, "is for workstations (network 127.9.1.0/24": {"address": "127.9.1.7"},
	})
}

func TestM6_OwnersAreUnits(t *testing.T) {
	r := office(t, "")
	r.fails(2, "is a person; what has devices is a unit", "owner", "add", "kim@campus.test")
	r.fails(2, "is a person; a device belongs to a unit", "device", "request", "x.campus.test", "--owner", "kim@campus.test")
	r.refusesForm(4, map[string]map[string]string{`"physics" is no unit that is known here`: {"owner": "physics"}})
	r.refusesForm(2, map[string]map[string]string{"still to say: --owner": {"owner": ""}})
}

// Only static addresses of the institution, unless an operator says why.
func TestM7_OnlyTheInstitutionsAddresses(t *testing.T) {
	r := office(t, "")
	r.refusesForm(4, map[string]map[string]string{
		"198.51.100.1 is outside the campus networks": {"address": "198.51.100.1"}, "changes hands by DHCP": {"address": "127.9.2.1"},
		"127.8.0.0/13": {"address": "127.8.0.0/13"}, // holds others
	})
	r.fails(2, "say why", apply("x.campus.test", map[string]string{"address": "198.51.100.1"}, "--any-network")...)
	r.ok(apply("x.campus.test", map[string]string{"address": "198.51.100.1"}, "--any-network", "--reason", "a branch office")...)
	r.fails(4, "outside the campus networks", "device", "approve", "x.campus.test", "--reason", "fits")
	r.ok("device", "approve", "x.campus.test", "--reason", "a branch office", "--any-network")
}

func TestM19_WhatItIsAndWhyItCannotAuthenticate(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{"still to say: --type\n": {"type": ""}, "still to say: --why-no-auth\n": {"why-no-auth": ""}})
	r.ok(apply("x.campus.test", nil)...)
	if a := r.device("x.campus.test").Application; a.Type != "web application" || a.WhyNoAuth != "old library" {
		t.Errorf("%+v", a)
	}
}

// Name, signature, day and unit of who vouches for a device, and the version of
// what was signed.
func TestM21_FourPartsOfASignature(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{
		"still to say: --attested-by\n": {"attested-by": ""}, "still to say: --signature\n": {"signature": ""}, "still to say: --unit\n": {"unit": ""},
		"still to say: --attested-title\n": {"attested-title": ""}, `"tomorrow" is no day`: {"attested-on": "tomorrow"}, `"2999-01-01" is no day`: {"attested-on": "2999-01-01"},
	})
	r.ok(apply("x.campus.test", map[string]string{"attested-on": "2026-01-15", "signature": "paper, folder 7"})...)
	d := r.device("x.campus.test")
	if a := d.Application; a.AttestedBy != "Kim K." || a.Signature != "paper, folder 7" || a.Unit == "" || a.AttestedTitle != "administrator" || a.AttestedVersion != "2026-09" ||
		d.Dates.Attested.Local().Format(time.DateOnly) != "2026-01-15" {
		t.Errorf("%+v %+v", a, d.Dates)
	}
	r.fails(2, "say who attests", "device", "attest", "x.campus.test")
	r.ok("device", "attest", "x.campus.test", "--attested-by", "Lee L.", "--signature", "/s/ Lee L.")
	if d = r.device("x.campus.test"); d.Application.AttestedBy != "Lee L." || d.Application.Signature != "/s/ Lee L." || time.Since(d.Dates.Attested) > time.Hour {
		t.Errorf("%+v %+v", d.Application, d.Dates)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
