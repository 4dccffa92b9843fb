package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// The rows of the requirements about what follows on a request.

func TestP13_NothingIsActiveWithoutARequest(t *testing.T) {
	r := office(t, "")
	const from, name = "127.8.0.1", "x.campus.test"
	sends := r.admits(from, "a@inet.test")
	r.fails(3, "no device is called", "device", "approve", name, "--reason", "fits")
	// A help desk may note less elsewhere; here the form is wanted.
	r.fails(2, "the form is not complete", "device", "request", name, "--owner", "chem")
	r.ok(apply(name, nil)...)
	if sends() {
		t.Error("a requested device sends")
	}
	r.fails(5, "credentials are given out once it is approved", "credential", "add", "x", "--device", name)
	// What was answered can be taken back, and is missed then.
	r.ok("device", "edit", name, "application.purpose=")
	r.fails(4, "not complete: postrider device edit "+name+" application.purpose=…", "device", "approve", name, "--reason", "fits")
	r.ok("device", "edit", name, "application.purpose=research")
	r.ok("device", "approve", name, "--reason", "fits")
	timetest.Await(t, "it sends", sends)
}

func TestP14_EveryStepHasActorAndTime(t *testing.T) {
	r := office(t, "")
	const name = "x.campus.test"
	r.ok(apply(name, nil)...)
	if got := r.ok("device", "contact", name, "--reason", "by phone"); got != name+" is requested; noted that it is contacted\n" {
		t.Errorf("%q", got)
	}
	r.ok("device", "approve", name, "--reason", "fits")
	r.fails(5, "is active: it cannot be contacted", "device", "contact", name)
	r.ok("device", "suspend", name)
	r.ok("device", "resume", name)
	r.ok("device", "retire", name)
	var steps []string
	last := time.Time{}
	for _, row := range r.list("device", "history", name) {
		at, err := time.Parse(time.RFC3339, row["at"].(string))
		if err != nil || at.Before(last) || row["by"] != actor() {
			t.Errorf("%v", row)
		}
		last = at
		for _, f := range row["fields"].([]any) {
			switch field := f.(map[string]any); field["field"] {
			case "dates.contacted":
				steps = append(steps, "contacted ("+row["reason"].(string)+")")
			case "state":
				steps = append(steps, strings.Trim(field["to"].(string), `"`))
			}
		}
	}
	if got := strings.Join(steps, ", "); got != "requested, contacted (by phone), active, suspended, active, retired" {
		t.Error(got)
	}
	d := r.device(name).Dates
	if d.Contacted.Before(d.Requested) || d.Approved.Before(d.Contacted) || d.Activated.Before(d.Approved) || d.Retired.Before(d.Activated) {
		t.Errorf("%+v", d)
	}
}

func TestP19_TheIssuerIsShownNeverTheSecret(t *testing.T) {
	r := start(t)
	const name = "smtp-relay/svc.campus.test"
	made := r.do("credential", "add", "own", "--device", "prn.campus.test")
	r.ok("credential", "add", name, "--device", "prn.campus.test", "--outside")
	text := strings.Replace(read(t, r.file), `metrics:`, `auth: {kerberos: {realm: CAMPUS.TEST, keytab: /etc/krb5.keytab}, ldap: {url: "ldaps://ldap.campus.test", base: "dc=campus"}}`+"\nmetrics:", 1)
	withRealm := strings.Replace(r.file, "postrider.yaml", "realm.yaml", 1)
	write(t, withRealm, text)
	got := postrider(t, "", "--config", withRealm, "credential", "ls", "-o", "jsonl")
	if got.code != 0 || !strings.Contains(got.stdout, `"name":"own","device":"prn.campus.test","state":"active","issuer":"relay"`) ||
		!strings.Contains(got.stdout, `"state":"outside","issuer":"kerberos CAMPUS.TEST or directory ldap.campus.test"`) {
		t.Errorf("%+v", got)
	}
	if strings.Contains(got.stdout, strings.TrimSpace(made.stdout)) || strings.Contains(got.stdout, "argon2") {
		t.Error("the secret is shown")
	}
	r.fails(5, "an authority elsewhere checks it", "credential", "rotate", name)
}

func TestW11_TermsAreAcceptedInAVersion(t *testing.T) {
	r := office(t, "")
	r.refusesForm(2, map[string]map[string]string{
		`"2025-01" is not the version that holds now, 2026-09: https://relay.campus.test/terms`: {"terms": "2025-01"},
	})
	r.ok(apply("x.campus.test", nil)...)
	r.ok(apply("y.campus.test", map[string]string{"address": "127.8.0.2", "application": "Other"})...)
	if d := r.device("x.campus.test"); d.Application.TermsVersion != "2026-09" || d.Dates.Accepted.IsZero() {
		t.Errorf("%+v", d)
	}
	if rows := r.list("device", "ls", "--terms-outdated"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
	// A new version holds: a configuration that says so lists who has not accepted
	// it, and takes the acceptance of no other.
	newer := *r
	newer.file = strings.Replace(r.file, "postrider.yaml", "newer.yaml", 1)
	write(t, newer.file, strings.Replace(read(t, r.file), "2026-09", "2027-01", 1))
	if rows := newer.list("device", "ls", "--terms-outdated"); len(rows) != 2 {
		t.Errorf("%v", rows)
	}
	newer.fails(4, `"2026-09" was accepted; the terms of use are those of version 2027-01`, "device", "approve", "y.campus.test", "--reason", "fits")
	newer.fails(2, "is not the version that holds now", "device", "attest", "x.campus.test", "--terms", "2026-09")
	before := newer.device("x.campus.test").Dates
	newer.ok("device", "attest", "x.campus.test", "--terms", "2027-01", "--reason", "by letter")
	if d := newer.device("x.campus.test"); d.AcceptedTerms() != "2027-01" || !d.Dates.Accepted.After(before.Accepted) || !d.Dates.Attested.Equal(before.Attested) || d.Application.AttestedVersion != "2026-09" {
		t.Errorf("%+v %+v", d.Application, d.Dates)
	}
	if rows := newer.list("device", "ls", "--terms-outdated"); len(rows) != 1 || rows[0]["name"] != "y.campus.test" {
		t.Errorf("%v", rows)
	}
	if rows := newer.list("device", "ls", "terms:2027-*"); len(rows) != 1 || rows[0]["name"] != "x.campus.test" {
		t.Errorf("%v", rows)
	}
}

// A device that sends as somebody else's domain is approved, and waits for that
// domain's word; then the relay activates it by itself.
func TestS6_ADomainHasToAllowIt(t *testing.T) {
	dns := dnstest.Start(t, `campus.test. 0 TXT "v=spf1 include:_spf.relay.test -all"`)
	r := office(t, fmt.Sprintf("policy: {sender_proof: enforce, spf: enforce, spf_include: _spf.relay.test}\ndns: {resolver: %q}\n", dns.Addr()))
	sends := r.admits("127.8.0.1", "a@inet.test")
	r.ok(apply("x.campus.test", map[string]string{"header-sender": "editor@journal.test"})...)
	got := r.do("device", "approve", "x.campus.test", "--reason", "fits")
	_, record, found := strings.Cut(got.err, "the record ")
	record = strings.TrimSpace(strings.Split(record, "\n")[0])
	if got.stdout != "x.campus.test is approved\n" || !found || !strings.HasPrefix(record, `_postrider.journal.test TXT "postrider=`) ||
		!strings.Contains(got.err, "include:_spf.relay.test in the SPF policy of campus.test") {
		t.Fatalf("%+v", got)
	}
	if d := r.device("x.campus.test"); d.State != registry.StateApproved || d.Decision != "fits" || !d.Dates.Activated.IsZero() || sends() {
		t.Errorf("%+v", d)
	}
	for _, ask := range []string{"show", "explain"} { // and not: approve it
		args := map[string][]string{"show": {"device", "show", "x.campus.test"}, "explain": {"explain", "x.campus.test"}}[ask]
		if text := r.ok(args...); !strings.Contains(text, "include:_spf.relay.test in the SPF policy of campus.test, and the record _postrider.journal.test") || strings.Contains(text, "device approve") {
			t.Errorf("%s:\n%s", ask, text)
		}
	}
	name, text, _ := strings.Cut(record, " TXT ")
	if err := dns.Set(`_spf.relay.test. 0 TXT "v=spf1 -all"` + "\n" + name + ". 0 TXT " + text); err != nil {
		t.Fatal(err)
	}
	r.ok("device", "edit", "x.campus.test", "application.comment=published") // a change asks for another look
	timetest.Await(t, "it is active", sends)
	if d := r.device("x.campus.test"); d.State != registry.StateActive || d.By != "review" || d.Decision != "fits" || d.Approver != actor() || d.Dates.Activated.IsZero() {
		t.Errorf("%+v", d)
	}
	r.fails(4, "other.test is not hosted and has not allowed it. Publish the record _postrider.other.test TXT", "device", "edit", "x.campus.test", "senders+=a@other.test")
	r.ok("device", "edit", "x.campus.test", "header_senders=", "senders+=chief@journal.test") // allowed already
}

func TestS10_ThirdPartiesNeedAContract(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "acme", "--contact", "x@acme.test", "--external")
	r.ok("owner", "add", "beta", "--contact", "x@beta.test", "--external", "--contract", "C-7")
	r.ok("device", "request", "x.campus.test", "--owner", "acme")
	const want = "acme is a third party, and neither it nor the device has the reference of a contract (--contract)"
	r.fails(4, want, "device", "approve", "x.campus.test")
	r.fails(4, want, apply("y.campus.test", map[string]string{"owner": "acme"})...)
	r.ok("device", "edit", "x.campus.test", "application.contract=C-1")
	r.ok("device", "approve", "x.campus.test")
	r.fails(4, want, "device", "edit", "x.campus.test", "application.contract=")
	r.ok("device", "request", "z.campus.test", "--owner", "beta")
	r.ok("device", "approve", "z.campus.test")
	r.fails(4, want, "device", "edit", "z.campus.test", "owner=acme")
	if rows := r.list("owner", "ls"); len(rows) != 2 || rows[1]["contract"] != "C-7" {
		t.Errorf("%v", rows)
	}
}

func TestS19_TheDecisionIsKept(t *testing.T) {
	r := office(t, "")
	r.ok(apply("x.campus.test", nil)...)
	r.fails(2, "say why", "device", "approve", "x.campus.test")
	r.ok("device", "approve", "x.campus.test", "--reason", "fits the service")
	r.ok("device", "edit", "x.campus.test", "class=scan", "--reason", "later")
	if d := r.device("x.campus.test"); d.Decision != "fits the service" || d.Approver != actor() || d.Dates.Approved.IsZero() {
		t.Errorf("%+v", d)
	}
	r.fails(2, "unknown key", "device", "edit", "x.campus.test", "decision=other")
	r.ok(apply("y.campus.test", map[string]string{"address": "127.8.0.2", "application": "Other"})...)
	r.fails(2, "say why", "device", "deny", "y.campus.test")
	r.ok("device", "deny", "y.campus.test", "--reason", "a list service exists")
	if d := r.device("y.campus.test"); d.State != registry.StateRetired || d.Reason != "a list service exists" || d.By != actor() {
		t.Errorf("%+v", d)
	}
}

// A credential is given out after the approval, shown once and kept as a hash; in
// rotation two hold, and never three.
func TestS29_CredentialsByCommand(t *testing.T) {
	r := office(t, "")
	r.ok(apply("x.campus.test", map[string]string{"address": "", "proof": "credential"})...)
	r.fails(5, "x.campus.test is requested: credentials are given out once it is approved", "credential", "add", "x", "--device", "x.campus.test")
	r.fails(5, "once it is approved", "credential", "add", "x", "--device", "x.campus.test", "--outside")
	r.ok("device", "approve", "x.campus.test", "--reason", "fits")
	first := strings.TrimSpace(r.ok("credential", "add", "x", "--device", "x.campus.test"))
	sends := func(secret string) func() bool {
		return func() bool {
			_, err := submit(t, r.submission, "127.8.0.9", login{"x", secret}, "a@inet.test")
			return err == nil
		}
	}
	timetest.Await(t, "the first secret holds", sends(first))
	second := strings.TrimSpace(r.ok("credential", "rotate", "x"))
	timetest.Await(t, "the second one, too", sends(second))
	if !sends(first)() || first == second {
		t.Error("the first secret ended with the rotation")
	}
	r.fails(5, "is being rotated", "credential", "rotate", "x")
	kept := r.ok("credential", "ls") + r.ok("registry", "export", "--with-secrets") + r.ok("registry", "log")
	if strings.Contains(kept, first) || strings.Contains(kept, second) || !strings.Contains(kept, "$argon2id$") {
		t.Error("a secret is kept in clear, or none is")
	}
	third := strings.TrimSpace(r.ok("credential", "rotate", "x", "--now"))
	timetest.Await(t, "the third one holds", sends(third))
	timetest.Await(t, "the others have ended", func() bool { return !sends(first)() && !sends(second)() })
}
