package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// rollBack makes LEDGER anew with the first records that it had.
func (r *recoveryRig) rollBack(keep int) {
	r.t.Helper()
	js := r.script.bus.JS
	records := r.messages(queue.StreamLedger)
	if err := js.DeleteStream(r.t.Context(), queue.StreamLedger); err != nil {
		r.t.Fatal(err)
	}
	if err := queue.Ensure(r.t.Context(), js, 1, keepLedger); err != nil {
		r.t.Fatal(err)
	}
	for _, data := range records[:keep] {
		records, err := event.DecodeRecords(data)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, rec := range records {
			r.record(*rec)
		}
	}
}

// TestRolledBack: LEDGER is made anew with fewer records. Nothing moves before
// a person has confirmed; then the books know again what they knew.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	bus, dir := queuetest.Start(t), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	before := r.accept("a@example.org", "b@example.org")
	kept := len(r.messages(queue.StreamLedger))
	r.record(outcome(event.Delivered, string(before.id), 1, said("a@example.org", 250, "ok")))
	after := r.accept("c@example.org", "d@example.org")
	r.record(outcome(event.Delivered, string(after.id), 1, said("c@example.org", 250, "ok")))
	r.job(string(before.id), time.Hour, "b@example.org")
	purged := r.accept("e@example.org")
	if _, err := r.caughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bus.MarkLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := bus.JS.Stream(t.Context(), purged.ref.Stream)
	if err == nil {
		err = s.DeleteMsg(t.Context(), purged.ref.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.rollBack(kept)

	r = newRecoveryRig(t, bus, dir)
	if err := bus.CheckLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Fatalf("LEDGER was checked: %v", err)
	}
	r.recover()
	if n := len(r.admittedEvents()); n != 0 {
		t.Fatalf("%d were driven unasked", n)
	}
	plan := r.planned()
	for action, want := range map[books.Action]int{
		books.ActionEnter: 2, books.ActionSettle: 2, books.ActionDrive: 1, books.ActionGone: 1, books.ActionResume: 1, books.ActionReport: 0,
	} {
		if got := plan.Of(action).Recipients; got != want {
			t.Errorf("%s %d recipients, want %d: %s", action, got, want, asJSON(t, plan))
		}
	}
	if len(plan.Evidence) != 1 || plan.Evidence[0].Problem != "" || plan.RolledBack == "" {
		t.Errorf("evidence %+v", plan.Evidence)
	}
	r.confirm(plan)
	if err := bus.CheckLedger(t.Context()); err != nil {
		t.Errorf("LEDGER after it was confirmed: %v", err)
	}
	if got := r.admittedEvents(); len(got) != 1 || got[0].QueueID != after.id || !slices.Equal(addresses(got[0].Env), []string{"d@example.org"}) {
		t.Errorf("driven %+v", got)
	}
	if got := r.states(after.id); got["c@example.org"] != "delivered" || got["d@example.org"] != "queued" {
		t.Errorf("states %v", got)
	}
	if got := r.states(before.id); got["a@example.org"] != "delivered" || got["b@example.org"] != "queued" {
		t.Errorf("states %v", got)
	}
	b, err := r.balance(t.Context(), books.BalanceQuestion{Wait: time.Nanosecond})
	if err != nil || !b.Balances() {
		t.Errorf("balance %s, %v", asJSON(t, b), err)
	}
	if plan := r.planned(); plan.ID != "" {
		t.Errorf("a plan is left: %s", asJSON(t, plan))
	}
	files, _ := filepath.Glob(filepath.Join(dir, "ledger-*.db"))
	if len(files) != 1 {
		t.Errorf("evidence %v", files)
	}
}

// TestRolledBackAlone: without an earlier index, and without a mark that was
// restored with it, the plan says what would be sent again.
func TestRolledBackAlone(t *testing.T) {
	t.Parallel()
	bus, dir := queuetest.Start(t), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	m, waiting := r.accept("a@example.org"), r.accept("b@example.org")
	r.record(outcome(event.Delivered, string(m.id), 1, said("a@example.org", 250, "ok")))
	r.job(string(waiting.id), time.Hour, "b@example.org")
	if err := bus.MarkLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	os.Remove(filepath.Join(dir, "ledger.db"))
	r.rollBack(2)
	r = newRecoveryRig(t, bus, dir)
	plan := r.planned()
	if plan.Held == "" || plan.Of(books.ActionDrive).Recipients != 1 || plan.Of(books.ActionDrive).Examples[0].QueueID != m.id ||
		plan.Of(books.ActionResume).Recipients != 1 || len(plan.Evidence) != 0 {
		t.Errorf("plan %s", asJSON(t, plan))
	}
}

// TestAccused: the index alone knows that LEDGER was rolled back, since the
// mark was with it; an index that slept through it does not accuse again.
func TestAccused(t *testing.T) {
	t.Parallel()
	bus, dir, other := queuetest.Start(t), t.TempDir(), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	sleeper := newRecoveryRig(t, bus, other)
	r.accept("a@example.org")
	for _, x := range []*recoveryRig{r, sleeper} {
		if _, err := x.caughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.stop()
	}
	r.rollBack(0)
	if err := bus.MarkLedger(t.Context()); err != nil { // the first mark there is
		t.Fatal(err)
	}
	r = newRecoveryRig(t, bus, dir)
	if err := bus.CheckLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Fatalf("nobody was told: %v", err)
	}
	r.confirm(r.planned())
	newRecoveryRig(t, bus, other)
	if err := bus.CheckLedger(t.Context()); err != nil {
		t.Errorf("after it was confirmed: %v", err)
	}
}
