package main

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// A registration keeps all but its name, its credential goes with it, and both
// histories have who renamed it.
func TestP12_Renaming(t *testing.T) {
	r := start(t)
	const before, after, address = "before.campus.test", "after.campus.test", "127.5.0.1"
	r.register(before, "chem", "--address", address, "--sender", "prn@campus.test", "--contact", "it@campus.test")
	secret := strings.TrimSpace(r.ok("credential", "add", "app", "--device", before))
	timetest.Await(t, "it sends", r.admits(address, "a@inet.test"))
	was := r.device(before)

	r.fails(3, "no device is called", "device", "rename", "none.campus.test", after)
	r.fails(5, "is another device", "device", "rename", before, "prn.campus.test")
	r.fails(5, "comes from the configuration file", "device", "rename", "prn.campus.test", after)
	r.fails(2, "its name already", "device", "rename", before, "BEFORE.campus.test")
	r.fails(2, "name", "device", "rename", before, "no name")
	if got := r.ok("device", "rename", before, after, "--reason", "moved", "--ticket", "4711"); got != before+" is "+after+" now\n" {
		t.Errorf("%q", got)
	}
	r.fails(3, "no device is called", "device", "show", before)
	d := r.device(after)
	if d.Owner != was.Owner || d.State != registry.StateActive || !d.Dates.Activated.Equal(was.Dates.Activated) || len(d.Senders) != 1 || d.Contacts[0] != was.Contacts[0] ||
		d.By != actor() || d.Reason != "renamed from before.campus.test: moved" || d.Ticket != "4711" {
		t.Errorf("%+v", d)
	}
	if !r.admits(address, "a@inet.test")() {
		t.Error("it sends no longer")
	}
	timetest.Await(t, "its credential is with it", func() bool {
		_, err := submit(t, r.submission, "127.8.0.9", login{"app", secret}, "a@inet.test")
		return err == nil
	})
	if got := r.ok("credential", "ls", "-o", "csv"); !strings.Contains(got, "app,"+after) {
		t.Errorf("%s", got)
	}
	rows := r.list("device", "history", before)
	if last := rows[len(rows)-1]; last["change"] != "removed" || last["reason"] != "renamed to "+after || last["by"] != actor() {
		t.Errorf("%v", last)
	}
	if rows = r.list("device", "history", after); len(rows) == 0 || rows[0]["change"] != "added" {
		t.Errorf("%v", rows)
	}

	// The name that is free is somebody else's to have, and what broke off is
	// finished by the same command.
	r.register(before, "chem")
	r.fails(5, "is another device", "device", "rename", after, before)
	r.ok("device", "retire", before, "--reason", "no use")
	half := r.device(after)
	half.Name, half.Revision = "third.campus.test", 0
	r.put(&half)
	r.ok("device", "rename", after, "third.campus.test")
	r.fails(3, "no device is called", "device", "show", after)
	r.ok("device", "rename", "third.campus.test", before)
	if d := r.device(before); d.State != registry.StateActive || !d.Dates.Retired.IsZero() {
		t.Errorf("%+v", d)
	}
}
