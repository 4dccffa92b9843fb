package main

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// BenchmarkExplain asks for the attempts of an address among 300,000 refusals:
// one that is refused all the time, one that was never seen, and a reference that
// nobody has.
func BenchmarkExplain(b *testing.B) {
	const refusals, addresses = 300_000, 1000
	bus := queuetest.Start(b)
	rcpt := smtp.ForwardPath{Address: smtp.Address{Local: "someone", Domain: "example.org"}}
	for i := range refusals {
		r := event.Refusal{
			Schema: event.Schema, Ref: mail.NewRef(), At: time.Now(), Stage: "rcpt", Rule: "not-registered", Count: 1,
			Reason: "no device has the address and no rule admits it", Reply: smtp.Reply{Code: 550, Enhanced: "7.1", Text: "Not registered: 10.2.3.4."},
			Facts: authz.Facts{
				Listener: "devices", Address: netip.AddrFrom4([4]byte{10, 2, byte(i % addresses >> 8), byte(i % addresses)}), Helo: "prn.campus.test", Recipient: &rcpt,
			},
		}
		if _, err := bus.JS.PublishAsync(queue.RefusedSubject(r.Stage), event.Encode(&r)); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			<-bus.JS.PublishAsyncComplete()
		}
	}
	if s, err := bus.JS.Stream(b.Context(), queue.StreamRefused); err != nil || s.CachedInfo().State.Msgs != refusals {
		b.Fatalf("%v, %d refusals", err, s.CachedInfo().State.Msgs)
	}
	a := asker(registry.Entries{})
	a.bus = bus
	for name, address := range map[string]string{"refused all the time": "10.2.0.7", "never seen": "10.9.9.9"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := &client{Name: address}
				from := func(f *authz.Facts) bool { return f.Address == netip.MustParseAddr(address) }
				matters := func(data []byte) bool { return from(&authz.Facts{Address: addressIn(data)}) }
				err := eachRefusal(b.Context(), bus, io.Discard, matters, func(r *event.Refusal) error {
					if c.Last = append(c.Last, a.refusedAttempt(r)); len(c.Last) == 20 {
						return errFound
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("reference that nobody has", func(b *testing.B) {
		for b.Loop() {
			if _, err := findRefusal(b.Context(), bus, io.Discard, mail.NewRef()); err == nil {
				b.Fatal("found")
			}
		}
	})
}
