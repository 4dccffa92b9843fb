//go:build faults

package room

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/test/world"
)

// TestStopEach: every service in turn is asked to stop while mail flows, and
// started again. It finishes what it has in hand or hands it back, and ends
// within its grace: no device waits in vain for the reply to its dot, nothing
// is lost, comes twice, or counts as an attempt that was none.
func TestStopEach(t *testing.T) {
	w, relay := separate(t, t.TempDir())
	good, bad := newDevices(), newDevices()
	for _, d := range []*devices{good, bad} {
		d.from, d.away = world.Printer, true
	}
	stopGood := good.crowd(t, w.SMTP, "u@campus.test", 20<<10, 4)
	stopBad := bad.crowd(t, w.SMTP, "550@campus.test", 2<<10, 2)
	for _, name := range []string{"ingress", "policy", "signer", "delivery", "bounce", "ledger"} {
		before := good.count()
		world.WaitFor(t, "mail to flow", func(context.Context) error {
			if good.count() < before+30 {
				return errors.New("not yet")
			}
			return nil
		})
		m := relay.Service(t, name)
		began := time.Now()
		code := m.Stop(t)
		took := time.Since(began)
		t.Logf("%s ended after %s with %d", name, took.Round(time.Millisecond), code)
		if code != 0 || took > service.Grace {
			t.Errorf("%s ended after %s with %d", name, took, code)
		}
		m.Start(t)
		world.WaitFor(t, name+" to be ready", m.Ready)
	}
	stopGood()
	stopBad()
	good.arrived(t, relay.File, w.Campus)
	world.WaitFor(t, "the reports", func(context.Context) error {
		rows := export(t, relay.File)
		for id := range bad.accepted {
			if len(rows[id]) != 1 || rows[id][0].State != "bounced" {
				return fmt.Errorf("%s: %+v", id, rows[id])
			}
		}
		return nil
	})
	world.WaitFor(t, "the reports in the mailbox", func(context.Context) error {
		if n := reports(w); n < len(bad.accepted) {
			return fmt.Errorf("%d of %d", n, len(bad.accepted))
		}
		return nil
	})
	if n := reports(w); n != len(bad.accepted) {
		t.Errorf("%d reports about %d messages", n, len(bad.accepted))
	}
	for _, wrong := range bad.wrong {
		t.Error(wrong)
	}
	w.Balances()
	for id, rows := range export(t, relay.File) {
		for _, row := range rows {
			if row.Attempts != 1 || row.PossibleDuplicate || row.LateAccept {
				t.Errorf("%s: %+v", id, row)
			}
		}
	}
}

// reports counts the messages with the null reverse-path.
func reports(w *world.World) (n int) {
	for _, m := range w.Campus.Deliveries() {
		if m.ReversePath.IsNull() {
			n++
		}
	}
	return n
}
