//go:build faults

package room

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// TestFull: mail for a destination that is down fills the store. Devices are
// told 452 at MAIL, in time: what was accepted goes on being tried, recorded and
// returned. When the destination is up everything arrives, once; when there is
// room again mail is accepted, and nobody had to start anything.
func TestFull(t *testing.T) {
	r := start(t, 96)
	d := newDevices()
	s, err := dial(r.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bad := "<bad@campus.test>"
	if err := s.send(bad, "550@later.test", 1000); err != nil {
		t.Fatal(err)
	}
	b := newBallast(t, r.volume)
	b.add(50 << 20)
	world.WaitFor(t, "the relay to see that others took room", func(ctx context.Context) error {
		if used := metric(ctx, t, r.metrics, "postrider_store_used_ratio"); used < 0.3 {
			return fmt.Errorf("%v of the store is used", used)
		}
		return nil
	})
	stop := d.crowd(t, r.smtp, "u@later.test", 200<<10, 8)
	r.ready("new mail is answered 452")
	world.WaitFor(t, "devices to be told", func(context.Context) error {
		if n := d.said("mail 452 4.3.1"); n < 20 {
			return fmt.Errorf("%d were told; %v", n, d.replies)
		}
		return nil
	})
	stop()
	if len(d.replies) != 1 || len(d.refused) > 0 {
		t.Errorf("refusals %v", d.replies)
	}
	// The session stays of use: what is refused is only new mail.
	var said *refusal
	if err := s.ask("mail", 250, "MAIL FROM:<prn@campus.test>"); !errors.As(err, &said) || !strings.HasPrefix(said.reply, "452 4.3.1 ") {
		t.Errorf("MAIL: %v", err)
	}
	if err := s.ask("noop", 250, "NOOP"); err != nil {
		t.Error(err)
	}
	status, code := r.command("status")
	t.Logf("status exits %d:\n%s", code, status)
	if code != 10 || !strings.Contains(status, "new mail is answered 452: ") || !strings.Contains(status, "Store: ") {
		t.Error("status does not say so")
	}
	// Schedules fire, and their outcome is recorded.
	attempts := func() (n int) {
		for _, rows := range export(t, r.file) {
			n += rows[0].Attempts
		}
		return n
	}
	before := attempts()
	world.WaitFor(t, "another attempt at each", func(context.Context) error {
		if now := attempts(); now < before+len(d.accepted) {
			return fmt.Errorf("%d attempts, %d before", now, before)
		}
		return nil
	})
	r.balances()
	later := r.Later()
	d.arrived(t, r.file, later)
	world.WaitFor(t, "the report", func(context.Context) error {
		rows := export(t, r.file)[bad]
		if len(rows) != 1 || rows[0].State != "bounced" {
			return fmt.Errorf("%+v", rows)
		}
		return nil
	})
	world.WaitFor(t, "the report in the sender's mailbox", func(context.Context) error {
		for _, m := range r.now.Deliveries() {
			if m.ReversePath.IsNull() {
				return nil
			}
		}
		return errors.New("it is not there")
	})
	r.balances()
	if err := s.ask("mail", 250, "MAIL FROM:<prn@campus.test>"); err == nil {
		t.Error("mail is accepted before there is room")
	}
	b.drop()
	r.ready("")
	if err := s.send("<again@campus.test>", "u@later.test", 1000); err != nil {
		t.Error(err)
	}
	d.accepted["<again@campus.test>"] = true
	d.arrived(t, r.file, later)
	r.balances()
	for id, rows := range export(t, r.file) {
		for _, row := range rows {
			if row.PossibleDuplicate || row.LateAccept {
				t.Errorf("%s: %+v", id, row)
			}
		}
	}
}

// TestVolumeFull: another program fills the volume to the last octet while mail
// comes in, so that JetStream cannot write, and freezes. Nothing answered 250
// is lost, and when that program is gone the relay serves again by itself.
func TestVolumeFull(t *testing.T) {
	r := start(t, 96)
	d := newDevices()
	stop := d.crowd(t, r.smtp, "u@now.test", 20<<10, 8)
	world.WaitFor(t, "mail to flow", func(context.Context) error {
		if d.count() < 50 {
			return errors.New("not yet")
		}
		return nil
	})
	b := newBallast(t, r.volume)
	b.add(1 << 30)
	world.WaitFor(t, "JetStream to stop", func(context.Context) error {
		b.add(1 << 30) // what others gave back
		if !strings.Contains(r.Output(), "critical write error") {
			return errors.New("it has not met the end of the volume")
		}
		return nil
	})
	r.ready("the bus stopped")
	status, code := r.command("status")
	t.Logf("status exits %d:\n%s", code, status)
	world.WaitFor(t, "devices to be told", func(context.Context) error {
		if n := d.said("mail 452 4.3.1"); n < 1000 {
			return fmt.Errorf("%d were told; %v", n, d.replies)
		}
		return nil
	})
	b.drop()
	r.ready("")
	before := d.count()
	world.WaitFor(t, "mail to flow again", func(context.Context) error {
		if d.count() < before+50 {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	d.arrived(t, r.file, r.now)
	r.balances()
	late, doubtful := 0, 0
	for id, rows := range export(t, r.file) {
		for _, row := range rows {
			if row.State != "delivered" {
				t.Errorf("%s: %+v", id, row)
			}
			if row.PossibleDuplicate {
				doubtful++
			}
			if row.LateAccept {
				late++
			}
			if d.refused[id] != row.LateAccept {
				t.Errorf("%s was refused at the dot: %v, late: %v", id, d.refused[id], row.LateAccept)
			}
		}
	}
	t.Logf("%d marked late, %d possible duplicates, %d failures of services", late, doubtful, strings.Count(r.Output(), "service failed, it is started again"))
}
