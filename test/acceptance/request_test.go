package acceptance

import (
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// What becomes of a registration when it is changed. That only its owner may
// change it is a matter of who may write to the registry.

// An address that is taken out of a registration may send no more, one that is
// put in may, and a deleted registration has none; open sessions see it, too.
func TestW17_ChangesHaveEffectAtOnce(t *testing.T) {
	r := open()
	const first, second = "127.1.7.71", "127.1.7.72"
	d := newcomer("edited.campus.test", first, registry.StateActive)
	if err := r.DNS.Set(names(d.Name, at(first)[0].Range.Addr()) + names(d.Name, at(second)[0].Range.Addr())); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	r.awaitSends(t, first, 250)
	r.play(t, attempt{name: "not yet registered", from: second, want: "550 5.7.1 Not registered: " + second})
	session := r.dial(t, r.SMTP, first)
	defer session.close()
	session.must(hello, "250")
	session.must("MAIL FROM:"+byPrinter, "250")
	session.must("RCPT TO:"+inet, "250")
	session.must("RSET", "250")

	d.Addresses = at(second)
	r.put(t, d)
	r.awaitSends(t, second, 250)
	r.play(t,
		attempt{name: "taken out", from: first, want: "550 5.7.1 Not registered: " + first},
		attempt{name: "put in", from: second, want: "250"},
	)
	session.must("MAIL FROM:"+byPrinter, "250")
	if got := session.ask("RCPT TO:" + inet); got.code != 550 {
		t.Errorf("in a session that was open: %s", got)
	}
	r.forget(t, d)
	if d.By != "operator" || d.At.IsZero() {
		t.Errorf("%+v", d.Entry)
	}
}
