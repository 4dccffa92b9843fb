package acceptance

import (
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// The life of a registration, and what ends it.

// awaitSends waits until an address is answered so when it sends outside.
func (r *relay) awaitSends(t testing.TB, from string, code int) {
	t.Helper()
	r.awaitFrom(t, from+" to be answered otherwise", from, func(s *session) bool {
		s.must(hello, "250")
		got := s.ask("MAIL FROM:" + byPrinter)
		if got.code == 250 {
			got = s.ask("RCPT TO:" + inet)
		}
		return got.code == code
	})
}

// settled is what the books say of a message when all is done.
func (r *relay) settled(t testing.TB, id string) *books.Trace {
	w := *r.World
	w.T = t
	return w.Settled(mail.QueueID(id))
}

func newcomer(name, address string, state registry.State) *registry.Device {
	return &registry.Device{
		Name: name, Owner: "chemistry-department", Addresses: at(address), Scope: registry.ScopeAnywhere, Class: "default", State: state,
		Exempt: &registry.Exemption{Reason: "cannot authenticate"},
	}
}

// forget ends a registration, so that a further run finds none.
func (r *relay) forget(t testing.TB, d *registry.Device) {
	t.Helper()
	r.remove(t, d)
	for _, a := range d.Addresses {
		r.awaitSends(t, a.Range.Addr().String(), 550)
	}
}

// Before its activation a device is nobody, and asking for it changes nothing;
// both times stand in the registration.
func TestM26_OnlyAfterActivation(t *testing.T) {
	for n, r := range []*relay{open(), strict()} {
		address := [...]string{"127.1.7.1", "127.1.7.2"}[n]
		d := newcomer("newcomer.campus.test", address, registry.StateRequested)
		if err := r.DNS.Set(names(d.Name, d.Addresses[0].Range.Addr())); err != nil {
			t.Fatal(err)
		}
		r.play(t, attempt{name: "before anybody asked", from: address, want: "550 5.7.1 Not registered: " + address})
		d.Dates.Requested = time.Now().UTC()
		r.put(t, d)
		r.play(t, attempt{name: "requested", from: address, want: "550 5.7.1 Not registered: " + address})
		d.State, d.Dates.Activated = registry.StateActive, time.Now().UTC()
		r.put(t, d)
		r.awaitSends(t, address, 250)
		r.play(t, attempt{name: "active", from: address, want: "250"})
		snapshot, err := r.registry.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := snapshot.Device(d.Name); got == nil || got.Dates.Requested.IsZero() || !got.Dates.Activated.After(got.Dates.Requested) {
			t.Errorf("%+v", got)
		}
		d.State = registry.StateRetired
		r.put(t, d)
		r.forget(t, d)
	}
}

// Only an active registration sends; the others are told which they are, where
// they have an address at all.
func TestP14_StatesOfARegistration(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		r.play(t,
			attempt{name: "active", from: printer, want: "250"},
			attempt{name: "requested", from: "127.1.1.11", want: "550 5.7.1 Not registered: 127.1.1.11"},
			attempt{name: "suspended", from: "127.1.1.12", want: "550 5.7.1 Registration suspended: 127.1.1.12"},
			attempt{name: "suspended, to a hosted domain", from: "127.1.1.12", rcpt: inside, want: "550 5.7.1 Registration suspended: 127.1.1.12"},
			attempt{name: "retired", from: "127.1.1.13", want: "550 5.7.1 Not registered: 127.1.1.13"},
		)
	}
}

func TestM12_SeveralAddresses(t *testing.T) {
	open().play(t,
		attempt{name: "first", from: "127.1.1.22", want: "250"},
		attempt{name: "second", from: "127.1.5.22", want: "250"},
	)
}

// Each address of a registration has a standing of its own.
func TestW16_AddressesHaveTheirOwnState(t *testing.T) {
	r := open()
	d := newcomer("pair.campus.test", "127.1.7.11", registry.StateActive)
	d.Addresses = append(d.Addresses, registry.Address{Range: at("127.1.7.12")[0].Range, State: registry.StateRetired, Since: time.Now().UTC()})
	if err := r.DNS.Set(names(d.Name, d.Addresses[0].Range.Addr())); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	defer r.forget(t, d)
	r.awaitSends(t, "127.1.7.11", 250)
	r.play(t, attempt{name: "the retired one", from: "127.1.7.12", want: "550 5.7.1 Not registered: 127.1.7.12"})
	d.Addresses[0].State = registry.StateSuspended
	r.put(t, d)
	r.awaitSends(t, "127.1.7.11", 550)
}

// A block needs no device and no notice. It ends the sending of sessions that
// are open, and of registered devices.
func TestW44_BlockHoldsInOpenSessions(t *testing.T) {
	r := open()
	d := newcomer("spammer.campus.test", "127.1.7.21", registry.StateActive)
	if err := r.DNS.Set(names(d.Name, d.Addresses[0].Range.Addr())); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	defer r.forget(t, d)
	r.awaitSends(t, "127.1.7.21", 250)
	between, within := r.dial(t, r.SMTP, "127.1.7.21"), r.dial(t, r.SMTP, "127.1.7.21")
	defer between.close()
	defer within.close()
	token := r.token()
	between.must(hello, "250")
	within.must(hello, "250")
	within.must("MAIL FROM:"+byPrinter, "250")
	within.must("RCPT TO:"+inet, "250")
	within.must("DATA", "354")
	within.write("From: prn@campus.test\r\nX-Token: " + token + "\r\n\r\n")

	block := &registry.Block{Subject: "127.1.7.21"}
	r.put(t, block)
	r.awaitSends(t, "127.1.7.21", 550)
	if got := between.ask("MAIL FROM:" + byPrinter); got.String() != "550 5.7.1 Blocked: 127.1.7.21." {
		t.Errorf("between messages: %s", got)
	}
	within.write("too late\r\n.\r\n")
	if got := within.read(); got.String() != "550 5.7.1 Blocked: 127.1.7.21." {
		t.Errorf("within a message: %s", got)
	}
	r.remove(t, block)
	r.awaitSends(t, "127.1.7.21", 250)
	if got := r.deliveries(token); len(got) > 0 {
		t.Error("the message was sent")
	}
}

// Blocks of a range, of a sender and of its domain; who made one and why is
// kept.
func TestM9_BlockWithoutNotice(t *testing.T) {
	r := open()
	blocks := []*registry.Block{
		{Subject: "127.1.7.32/28"}, {Subject: "evil@campus.test"}, {Subject: "@evil.test"},
		{Subject: "127.1.7.50", Until: time.Now().Add(-time.Hour)}, {Subject: "127.1.7.60"},
	}
	for _, b := range blocks {
		r.put(t, b)
	}
	defer func() {
		for _, b := range blocks {
			r.remove(t, b)
		}
	}()
	r.awaitFrom(t, "the last block to hold", "127.1.7.60", func(s *session) bool {
		s.must(hello, "250")
		return s.ask("MAIL FROM:"+byPrinter).code == 550
	})
	r.play(t,
		attempt{name: "range", from: "127.1.7.47", rcpt: inside, want: "550 5.7.1 Blocked: 127.1.7.47."},
		attempt{name: "beside it", from: "127.1.7.48", rcpt: inside, want: "250", at: hostedMX},
		attempt{name: "sender", mail: "<Evil@campus.test>", rcpt: inside, want: "550 5.7.1 Blocked: Evil@campus.test."},
		attempt{name: "sender in the From field", header: "From: <evil@campus.test>", rcpt: inside, want: "550 5.7.1 Blocked: evil@campus.test."},
		attempt{name: "domain", mail: "<any@evil.test>", rcpt: inside, want: "550 5.7.1 Blocked: any@evil.test."},
		attempt{name: "registered device as that sender", from: printer, mail: "<any@evil.test>", want: "550 5.7.1 Blocked: any@evil.test."},
		attempt{name: "ended", from: "127.1.7.50", rcpt: inside, want: "250", at: hostedMX},
	)
	for _, b := range blocks {
		if b.By != "operator" || b.Reason != "acceptance" || b.At.IsZero() {
			t.Errorf("%+v", b.Entry)
		}
	}
}
