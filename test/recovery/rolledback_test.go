//go:build recovery

package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
)

// The mail of a relay whose LEDGER is set back: before the copy was made, and
// after it.
const (
	early, earlyLate = 60, 40 // delivered at once; deferred, and delivered after the copy
	still            = 30     // deferred, and never tried again
	after            = 50     // accepted and delivered after the copy
	afterLate        = 20     // accepted after the copy, and deferred
)

// setBack runs a relay with a directory that is put back to an earlier copy of
// itself; forget takes something else away at the same time. It returns the
// recipients who got their mail after the copy was made, and those who wait.
func setBack(r *relay, directory string, forget func()) (settled, waiting []string) {
	t := r.t
	r.batch(early, "prn@campus.test", to("u", "early", "example.test"))
	settled = r.batch(earlyLate, "prn@campus.test", to("first-1-450", "later", "example.test"))
	r.states(map[string]int{string(event.Delivered): early})
	r.jobs(earlyLate, 0)
	r.stop()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(directory)); err != nil {
		t.Fatal(err)
	}

	r.serve()
	r.start()
	r.hurry()
	settled = append(settled, r.batch(after, "prn@campus.test", to("u", "after", "example.test"))...)
	r.states(map[string]int{string(event.Delivered): early + earlyLate + after})
	waiting = r.batch(still+afterLate, "prn@campus.test", to("first-1-450", "waits", "example.test"))
	r.jobs(still+afterLate, 0)
	r.stop()

	forget()
	if err := errors.Join(os.RemoveAll(directory), os.CopyFS(directory, os.DirFS(copied))); err != nil {
		t.Fatal(err)
	}
	r.serve()
	r.start()
	return settled, waiting
}

// held checks that nothing is sent while LEDGER is rolled back, new mail
// included, and returns the plan with the recipients of that mail.
func held(r *relay, expected func(*books.Plan) bool) (*books.Plan, []string) {
	t := r.t
	if err := r.Bus.CheckLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Fatalf("LEDGER was checked: %v", err)
	}
	before := len(r.Backup.Deliveries())
	fresh := r.batch(10, "prn@campus.test", to("u", "new", "example.test"))
	plan := r.plan("the plan", func(p *books.Plan) bool { return p.Held != "" && expected(p) })
	s, err := books.Client(r.Bus).Status(t.Context())
	if err != nil || s.RolledBack == "" {
		t.Errorf("status %+v, %v", s, err)
	}
	r.jobs(still+afterLate, len(fresh))
	if n := len(r.Backup.Deliveries()); n != before {
		t.Errorf("%d messages were sent while LEDGER was rolled back", n-before)
	}
	return plan, fresh
}

// TestRolledBack: the earlier index knows what LEDGER has forgotten, so that
// nothing is sent twice.
func TestRolledBack(t *testing.T) {
	r := newRelay(t)
	settled, waiting := setBack(r, r.dir(queue.StreamLedger), func() {})
	plan, fresh := held(r, func(p *books.Plan) bool { return p.Of(books.ActionSettle).Recipients == len(settled) })
	if plan.Of(books.ActionEnter).Messages != after+still+afterLate || plan.Of(books.ActionDrive).Messages != 0 || len(plan.Evidence) != 1 {
		t.Errorf("plan %+v", plan)
	}
	r.confirm(plan)
	r.hurry()
	r.states(map[string]int{books.StateQueued: 0})
	everybody := append(append(settled, waiting...), fresh...)
	once(t, copies(r.Backup), append(everybody, addresses(early, to("u", "early", "example.test"))...))
	r.Balances()
}

// TestRolledBackWithoutIndex: nobody knows, and the plan says what would be
// sent again.
func TestRolledBackWithoutIndex(t *testing.T) {
	r := newRelay(t)
	settled, waiting := setBack(r, r.dir(queue.StreamLedger), func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(filepath.Join(r.Config.Relay.Data, "ledger.db"+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	})
	plan, fresh := held(r, func(p *books.Plan) bool { return p.Of(books.ActionDrive).Recipients == len(settled) })
	if plan.Of(books.ActionEnter).Messages != after+still+afterLate || plan.Of(books.ActionSettle).Messages != 0 || len(plan.Evidence) != 0 {
		t.Errorf("plan %+v", plan)
	}
	r.confirm(plan)
	r.hurry()
	r.states(map[string]int{books.StateQueued: 0})
	got := copies(r.Backup)
	once(t, got, append(waiting, fresh...))
	for _, a := range settled {
		if got[a] != 2 {
			t.Errorf("%s got %d copies; the plan said that it would be sent again", a, got[a])
		}
	}
	r.Balances()
}

// TestRestored: all of the store is put back to an earlier copy, its mark
// included. The index alone knows better, and says so when its ledger starts:
// jobs that are there again are not sent, and what is lost for good is told.
func TestRestored(t *testing.T) {
	r := newRelay(t)
	settled, waiting := setBack(r, filepath.Join(r.Config.Relay.Data, "bus"), func() {})
	plan := r.plan("the plan", func(p *books.Plan) bool { return p.Held != "" && p.Of(books.ActionSettle).Recipients == earlyLate })
	if plan.Of(books.ActionEnter).Messages != 0 || plan.Of(books.ActionDrive).Messages != 0 || plan.Of(books.ActionGone).Recipients != len(waiting) {
		t.Errorf("plan %+v", plan)
	}
	r.confirm(plan)
	r.hurry()
	r.states(map[string]int{books.StateQueued: 0})
	got := copies(r.Backup)
	once(t, got, append(settled, addresses(early, to("u", "early", "example.test"))...))
	for _, a := range waiting {
		if got[a] != 0 {
			t.Errorf("%s got %d copies of what the store has not", a, got[a])
		}
	}
	r.Balances()
}
