//go:build faults

package room

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// separate is a relay of separate processes on a nats-server with that store.
func separate(t *testing.T, store string) (*world.World, *world.Relay) {
	t.Helper()
	var relay *world.Relay
	w := world.New(t, func(t testing.TB, w *world.World) {
		relay = world.Launch(t, w.Config, world.StartNATS(t, store, "sync_interval: always"), 1)
		relay.Ready(t)
		w.Bus = relay.Connect(t)
	}, nil)
	return w, relay
}

// TestSilent: a store that does not answer is answered 451 within 10 s of the
// final dot, also when the message is a large one; ingress says that it is not
// ready. What the store had taken in before it fell silent exists once, and is
// marked late_accept.
func TestSilent(t *testing.T) {
	w, relay := separate(t, t.TempDir())
	ingress := relay.Service(t, "ingress")
	const small, large, after = "<small@campus.test>", "<large@campus.test>", "<after@campus.test>"
	sessions := map[string]*session{}
	for id, octets := range map[string]int{small: 1000, large: 5 << 20} {
		sessions[id] = undotted(t, w.SMTP, id, octets)
	}
	server := relay.NATS.Nodes[0]
	server.Freeze(t)
	replies := make(chan error, len(sessions))
	for id, s := range sessions {
		go func() { replies <- fmt.Errorf("%s %w", id, s.dot()) }() // with a deadline
	}
	await(t, ingress.Health, "MAIL_0 does not acknowledge")
	for range sessions {
		var said *refusal
		if err := <-replies; !errors.As(err, &said) || said.stage != "dot" || !strings.HasPrefix(said.reply, "451 4.3.0 ") {
			t.Error(err)
		} else {
			t.Log(err)
		}
	}
	server.Signal(t, syscall.SIGCONT)
	await(t, ingress.Health, "")
	if err := sessions[small].send(after, "anna@campus.test", 1000); err != nil {
		t.Fatal(err)
	}
	world.WaitFor(t, "both messages in the books", func(context.Context) error {
		rows := export(t, relay.File)
		for id, late := range map[string]bool{small: true, after: false} {
			if len(rows[id]) != 1 || rows[id][0].State != "delivered" || rows[id][0].LateAccept != late {
				return fmt.Errorf("%s: %+v", id, rows[id])
			}
		}
		return nil
	})
	rows := export(t, relay.File)
	t.Logf("the large one: %+v", rows[large])
	if len(rows) > 2 && !rows[large][0].LateAccept {
		t.Error("it is not marked")
	}
	copies := map[string]int{}
	for _, m := range w.Campus.Deliveries() {
		copies[m.MessageID()]++
	}
	if copies[small] != 1 || copies[after] != 1 || copies[large] != len(rows[large]) {
		t.Errorf("copies %v", copies)
	}
	w.Balances()
}

// TestStopped: a nats-server whose volume was full goes on without the streams
// that it could not write. Ingress says which, and what to do: it is not ready
// until that was done.
func TestStopped(t *testing.T) {
	store := volume(t, 64)
	w, relay := separate(t, store)
	ingress, server := relay.Service(t, "ingress"), relay.NATS.Nodes[0]
	d := newDevices()
	d.from = world.Printer
	stop := d.crowd(t, w.SMTP, "u@campus.test", 20<<10, 4)
	world.WaitFor(t, "mail to flow", func(context.Context) error {
		if d.count() < 20 {
			return errors.New("not yet")
		}
		return nil
	})
	b := newBallast(t, store)
	world.WaitFor(t, "JetStream to stop", func(context.Context) error {
		b.add(1 << 30)
		if !strings.Contains(server.Output(), "> MAIL_1' critical write error") {
			return errors.New("it has not met the end of the volume")
		}
		return nil
	})
	await(t, ingress.Health, "MAIL_1 stopped after a write error")
	stop()
	b.drop()
	await(t, ingress.Health, "restart nats-server")
	status, code := command(t, relay.File, "status")
	t.Logf("status exits %d:\n%s", code, status)
	if code != 10 || !strings.Contains(status, "stream MAIL_1 stopped") || !strings.Contains(status, "restart nats-server") {
		t.Error("status does not say so")
	}
	server.Stop(t)
	server.Start(t)
	relay.Ready(t)
	s, err := dialFrom(world.Printer, w.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.send("<again@campus.test>", "anna@campus.test", 1000); err != nil {
		t.Error(err)
	}
	d.arrived(t, relay.File, w.Campus)
	w.Balances()
	for id, rows := range export(t, relay.File) {
		if rows[0].LateAccept != d.refused[id] {
			t.Errorf("%s was refused at the dot: %v, late: %v", id, d.refused[id], rows[0].LateAccept)
		}
	}
}
