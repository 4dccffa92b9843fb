package acceptance

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// A device that gets another name sends as before once the DNS has it, too; until
// then it is not the one that is registered. Its login never stops.
func TestP12_ADeviceIsRenamed(t *testing.T) {
	r := open()
	const before, after, address = "p12-before.campus.test", "p12-after.campus.test", "127.1.8.90"
	d := newcomer(before, address, registry.StateActive)
	if err := r.DNS.Set(recordsOf(d)); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	c := credential("p12-login", before)
	r.put(t, c)
	r.awaitSends(t, address, 250)
	byLogin := attempt{name: "by its login", from: outsider, login: c.Name, want: "250"}
	r.play(t, attempt{name: "under its name", from: address, want: "250"}, byLogin)

	if out, code := r.postrider(t, "device", "rename", before, after, "--reason", "moved", "--ticket", "4711"); code != 0 {
		t.Fatal(out)
	}
	r.awaitSends(t, address, 550)
	r.play(t, attempt{name: "the DNS has the old one", from: address, want: "550 5.7.25 DNS name is not as registered: " + address}, byLogin)
	for _, name := range []string{before, "90.8.1.127.in-addr.arpa"} {
		r.DNS.Remove(name)
	}
	if err := r.DNS.Set(names(after, at(address)[0].Range.Addr())); err != nil {
		t.Fatal(err)
	}
	r.awaitSends(t, address, 250)
	r.play(t, attempt{name: "under its new name", from: address, want: "250"})

	if is := r.device(t, after); is.Reason != "renamed from "+before+": moved" || is.Ticket != "4711" || is.By == "" || is.By == "operator" {
		t.Errorf("%+v", is.Entry)
	}
	if out, code := r.postrider(t, "device", "history", before); code != 0 || !strings.Contains(out, "renamed to "+after) {
		t.Errorf("%d %s", code, out)
	}
	r.remove(t, r.device(t, after))
}
