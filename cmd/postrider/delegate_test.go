package main

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/timetest"
)

// Whoever administers a unit changes and ends what is its own, and what he changes
// is in effect on an open relay; of others, and of what is granted, nothing.
func TestW17_AdministratorsOfAUnit(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "chem", "--contact", "it@chem.campus.test", "--administrator", "anna")
	r.ok("owner", "add", "physics", "--contact", "it@physics.campus.test", "--administrator", "bert")
	r.register("ours.campus.test", "chem", "--address", "127.8.0.1")
	r.register("theirs.campus.test", "physics", "--address", "127.8.0.2")
	sends := func(from string) bool {
		_, err := submit(t, r.smtp, from, login{}, "x@inet.test")
		return err == nil
	}
	timetest.Await(t, "both may send", func() bool { return sends("127.8.0.1") && sends("127.8.0.2") })

	t.Setenv("SUDO_USER", "anna")
	r.ok("device", "edit", "ours.campus.test", "addresses=127.8.0.3", "contacts+=anna@chem.campus.test")
	timetest.Await(t, "the change is in effect", func() bool { return sends("127.8.0.3") && !sends("127.8.0.1") })
	if d := r.device("ours.campus.test"); d.By != "anna" {
		t.Errorf("changed by %s", d.By)
	}
	for _, c := range []struct {
		why  string
		args []string
	}{
		{"it belongs to physics; you administer chem", []string{"device", "edit", "theirs.campus.test", "addresses=127.8.0.4"}},
		{"it belongs to physics", []string{"device", "retire", "theirs.campus.test"}},
		{"it belongs to physics", []string{"device", "request", "new.campus.test", "--owner", "physics", "--address", "127.8.0.5"}},
		{"the rest was granted", []string{"device", "edit", "ours.campus.test", "senders=boss@campus.test"}},
		{"the rest was granted", []string{"device", "edit", "ours.campus.test", "limits.messages_per_hour=100000"}},
		{"no device of chem", []string{"credential", "add", "stolen", "--device", "theirs.campus.test"}},
		{"for the postmaster", []string{"block", "add", "127.8.0.2", "--reason", "rival"}},
		{"for the postmaster", []string{"owner", "add", "chem", "--administrator", "anna", "--replace"}},
		{"for the postmaster", []string{"queue", "ls"}},
		{"for the postmaster", []string{"trace", "x@inet.test"}},
		{"for the postmaster", []string{"contain", "theirs.campus.test", "--reason", "rival"}},
	} {
		r.fails(4, c.why, c.args...)
	}
	r.ok("device", "suspend", "ours.campus.test", "--reason", "jammed")
	r.fails(4, "who makes it active is the postmaster", "device", "resume", "ours.campus.test")
	r.ok("device", "retire", "ours.campus.test")
	if got := r.device("theirs.campus.test"); got.State != "active" || len(got.Addresses) != 1 || got.Addresses[0].String() != "127.8.0.2" {
		t.Errorf("theirs: %+v", got)
	}
}

// The administrator of a unit asks for principals and secrets of it, and rotates
// them; who lets them send is the postmaster.
func TestP18_AdministratorsAskForTheirUnit(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "chem", "--contact", "it@chem.campus.test", "--administrator", "anna")
	t.Setenv("SUDO_USER", "anna")
	r.ok("device", "request", "app.campus.test", "--owner", "chem", "--proof", "credential")
	r.fails(4, "who makes it active is the postmaster", "device", "approve", "app.campus.test")
	t.Setenv("SUDO_USER", "postmaster")
	r.ok("device", "approve", "app.campus.test")
	t.Setenv("SUDO_USER", "anna")
	first := strings.TrimSpace(r.ok("credential", "add", "app", "--device", "app.campus.test"))
	second := strings.TrimSpace(r.ok("credential", "rotate", "app"))
	timetest.Await(t, "both hold", func() bool {
		for _, secret := range []string{first, second} {
			if _, err := submit(t, r.submission, "127.8.0.9", login{"app", secret}, "x@inet.test"); err != nil {
				return false
			}
		}
		return true
	})
	t.Setenv("SUDO_USER", "bert") // of no unit: the account's own rights
	r.ok("queue", "ls")
}
