package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// A third party is registered for its subdomain, never for the institution's own
// domain, whichever command tries.
func TestW42_ThirdPartiesAreRegisteredForSubdomains(t *testing.T) {
	r := start(t)
	r.ok("domain", "add", "campus.test", "--internal")
	r.ok("owner", "add", "acme", "--contact", "x@acme.test", "--external", "--contract", "C-7")
	r.ok("owner", "add", "chem", "--contact", "it@campus.test")
	const want = "acme is a third party, and campus.test is for internal owners: it sends as a subdomain"
	r.ok("device", "request", "x.campus.test", "--owner", "acme", "--sender", "x@Campus.test")
	r.fails(4, want, "device", "approve", "x.campus.test")
	r.ok("device", "edit", "x.campus.test", "senders=x@acme.campus.test")
	r.ok("device", "approve", "x.campus.test")
	r.fails(4, want, "device", "edit", "x.campus.test", "senders+=x@campus.test")
	r.fails(4, want+" (--header-sender)", "device", "edit", "x.campus.test", "header_senders=x@campus.test")
	r.ok("device", "request", "y.campus.test", "--owner", "chem", "--sender", "y@campus.test")
	r.ok("device", "approve", "y.campus.test")
	r.fails(4, want, "device", "edit", "y.campus.test", "owner=acme")
}

// Where logins hold at their addresses only, nobody is registered without any.
func TestS7_WhoIsHeldToHisAddressesHasSome(t *testing.T) {
	none := map[string]string{"address": "", "proof": "credential"}
	r := office(t, "policy: {address_lock: enforce}\n")
	r.refusesForm(4, map[string]map[string]string{"every login holds at the addresses of its device only, and it has none (--address": none})
	r.ok(apply("x.campus.test", map[string]string{"proof": "credential"})...)
	r.ok("device", "edit", "x.campus.test", "addresses=")
	r.fails(4, "it has none", "device", "approve", "x.campus.test", "--reason", "fits")
	r.ok("device", "edit", "x.campus.test", "addresses=127.8.0.1")
	r.ok("device", "approve", "x.campus.test", "--reason", "fits")
}

// A file that was written before a suspension does not lift it: that takes a
// ticket here, too.
func TestP30_NoFileLiftsASuspension(t *testing.T) {
	r := start(t)
	const name = "a.campus.test"
	r.register(name, "chem")
	file := filepath.Join(t.TempDir(), "registry.yaml")
	write(t, file, r.ok("registry", "export"))
	r.ok("device", "suspend", name, "--cause", "abuse")
	got := r.do("registry", "apply", file)
	if got.code != 2 || !strings.Contains(got.stdout+got.err, "suspended for abuse, which a ticket lifts only") {
		t.Errorf("%+v", got)
	}
	if d := r.device(name); d.State != registry.StateSuspended {
		t.Errorf("%+v", d)
	}
	r.ok("registry", "apply", file, "--ticket", "4711", "--confirm", r.plan(file, "--ticket", "4711"))
	if d := r.device(name); d.State != registry.StateActive || d.Ticket != "4711" || d.Suspension != nil {
		t.Errorf("%+v", d)
	}
	// One by a person needs none.
	r.ok("device", "suspend", name)
	r.ok("registry", "apply", file, "--confirm", r.plan(file))
	if d := r.device(name); d.State != registry.StateActive {
		t.Errorf("%+v", d)
	}
}
