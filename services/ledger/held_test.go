package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// heldAt is when something was held or released.
func heldAt(o event.Outcome, id string, after time.Duration, rcpts ...string) event.Record {
	return with(outcome(o, id, 0, to(rcpts...)), func(r *event.Record) {
		r.Stage, r.At, r.Reason = event.StagePolicy, noon.Add(after), "content: rspamd: GTUBE"
	})
}

// hold holds a message as policy does.
func (s script) hold(id string, rcpts ...string) {
	s.t.Helper()
	h := &event.Held{At: noon, Rule: "content", Reason: "rspamd: GTUBE", Message: event.Admitted{QueueID: mail.QueueID(id), Owner: "chem", Env: envelope(rcpts...)}}
	s.record(heldAt(event.Kept, id, 0, rcpts...))
	if err := s.bus.Hold(s.t.Context(), h); err != nil {
		s.t.Fatal(err)
	}
}

// Who is held waits until he is released, whichever record comes first, and a
// record that is stored again changes nothing.
func TestFoldHeld(t *testing.T) {
	const a = "a@example.org"
	in := accepted("M", a)
	kept, released := heldAt(event.Kept, "M", 0, a), heldAt(event.Released, "M", time.Minute, a)
	keptAgain := heldAt(event.Kept, "M", time.Hour, a)
	for _, c := range []struct {
		name    string
		records []event.Record
		want    bool
	}{
		{"accepted", []event.Record{in}, false},
		{"held", []event.Record{in, kept}, true},
		{"released", []event.Record{in, kept, released}, false},
		{"released, and the first stored again", []event.Record{in, kept, released, kept}, false},
		{"in another order", []event.Record{released, kept, in}, false},
		{"held again", []event.Record{in, kept, keptAgain, released}, true},
		{"removed", []event.Record{in, kept, outcome(event.Removed, "M", 0, to(a))}, false},
		{"sent back", []event.Record{in, kept, outcome(event.Failed, "M", 0, to(a))}, false},
	} {
		if got := foldAll(c.records...).recipients[a].held(); got != c.want {
			t.Errorf("%s: held %v", c.name, got)
		}
	}
}

// What is held is queued, counted from HELD; the trace says where and why.
func TestHeldIsQueued(t *testing.T) {
	bus := queuetest.Start(t)
	s := script{t, bus}
	start(t, bus, t.TempDir())
	s.record(accepted("M", "a@example.org", "b@example.org"))
	s.hold("M", "a@example.org", "b@example.org")
	if b := balance(t, bus, books.Wait); !b.Balances() || b.Total.Queued != 2 || b.Total.Accepted != 2 {
		t.Errorf("%+v", b)
	}
	d := event.Decision{QueueID: "M", Verb: event.Drop, Actor: "anna"}
	if err := bus.Decide(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	trace, err := books.Client(bus).Trace(t.Context(), "M")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range trace.Recipients {
		p := r.Position
		if r.State != books.StateQueued || p == nil || p.Place != books.PlaceHeld || p.Rule != "content" || p.Reason != "rspamd: GTUBE" || p.Decision == nil || p.Decision.Verb != event.Drop {
			t.Errorf("%+v at %+v", r, p)
		}
	}
	// Without HELD nothing counts it.
	h, err := bus.HeldOf(t.Context(), "M")
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Unhold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if b := balance(t, bus, soon); b.Residual != 2 || b.Offending[0].Problem != books.ProblemLost {
		t.Errorf("%+v", b)
	}
}

// What is held is not driven. When HELD is lost it is held again, for the same
// reason; what was released and lost is driven.
func TestRecoveryHoldsAgain(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	kept := r.accept("a@example.org")
	r.hold(string(kept.id), "a@example.org")
	some := r.accept("c@example.org", "d@example.org")
	r.hold(string(some.id), "d@example.org")
	r.job(string(some.id), time.Hour, "c@example.org")
	released := r.accept("b@example.org")
	r.hold(string(released.id), "b@example.org")
	r.record(heldAt(event.Released, string(released.id), time.Minute, "b@example.org"))

	r.recover()
	if got := r.admittedEvents(); len(got) != 0 {
		t.Fatalf("driven %+v", got[0])
	}
	if err := bus.JS.DeleteStream(t.Context(), queue.StreamHeld); err != nil {
		t.Fatal(err)
	}
	if err := r.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.recover()
	r.recover()
	got := r.admittedEvents()
	if len(got) != 1 || got[0].QueueID != released.id {
		t.Errorf("driven %+v", got)
	}
	for m, want := range map[*letterbox]string{kept: "a@example.org", some: "d@example.org"} {
		h, err := bus.HeldOf(t.Context(), m.id)
		if err != nil || h.Rule != "content" || h.Reason != "rspamd: GTUBE" || !slices.Equal(addresses(h.Message.Env), []string{want}) ||
			h.Message.Content.Seq != m.ref.Seq || h.Message.First != 2*len(m.rcpts) || h.Message.Owner != "chem" {
			t.Errorf("held again %+v, %v", h, err)
		}
	}
	if _, err := bus.HeldOf(t.Context(), released.id); !errors.Is(err, queue.ErrNotHeld) {
		t.Errorf("held although it was released: %v", err)
	}
}

// What was driven and held since is held again under the number of its drive: a
// lower one would be void when it is released.
func TestRecoveryHoldsAgainWhatWasDriven(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	m := r.accept("a@example.org")
	r.record(with(outcome(event.Driven, string(m.id), 0, to("a@example.org")), func(e *event.Record) { e.Drive = 1 }))
	r.record(heldAt(event.Kept, string(m.id), time.Minute, "a@example.org"))
	r.recover()
	h, err := bus.HeldOf(t.Context(), m.id)
	if err != nil || h.Message.Drive != 1 {
		t.Errorf("held again %+v, %v", h, err)
	}
}

// A held message outlives the retention: it is moved to KEEP, MAIL is purged,
// and it stays there until it is settled.
func TestHeldIsKept(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newPurgeRig(t, bus)
	m := r.queued(100)
	r.record(heldAt(event.Kept, string(m.id), 0, "a@example.org"))
	r.after(25 * time.Hour)
	r.expect("KEEP", m)
	r.after(1000 * time.Hour)
	r.expect("KEEP", m)
}

// A job that is held while the streams are listed moves against the reading: it
// is met in HELD, or in DELIVER when somebody released it at once.
func TestListingMeetsWhatIsHeldMeanwhile(t *testing.T) {
	bus := queuetest.Start(t)
	x, _, err := openIndex(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	li, err := x.newListing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer li.close()
	job := func(id string, to string) *event.Job {
		return &event.Job{Schema: event.Schema, ID: id + "-0", QueueID: mail.QueueID(id), Destination: "example.org", Env: envelope(to)}
	}
	if err := li.listHeld(t.Context(), bus); err != nil {
		t.Fatal(err)
	}
	held, released := event.HeldJob(job("H", "a@example.org"), event.RuleHold, "", time.Now()), event.HeldJob(job("R", "b@example.org"), event.RuleHold, "", time.Now())
	for _, h := range []*event.Held{held, released} {
		if err := bus.Hold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if err := li.listDeliver(t.Context(), bus); err != nil {
		t.Fatal(err)
	}
	if err := bus.Decide(t.Context(), event.Decision{QueueID: "R", Part: released.Part(), Verb: event.Release, Actor: "anna"}); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Publish(t.Context(), queue.ReadySubject(mail.LaneNormal, 1), "R", event.Encode(released.Job)); err != nil {
		t.Fatal(err)
	}
	e, err := bus.HeldPart(t.Context(), "R", released.Part())
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Unhold(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := li.listHeldSince(t.Context(), bus); err != nil {
		t.Fatal(err)
	}
	got, err := scanValues[string](li.conn.QueryContext(t.Context(), "SELECT address FROM temp.listed ORDER BY address"))
	if err != nil || !slices.Equal(got, []string{"a@example.org", "b@example.org"}) {
		t.Errorf("listed %v, %v", got, err)
	}
}
