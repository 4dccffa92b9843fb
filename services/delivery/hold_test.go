package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// heldParts are the parts of a message in HELD.
func (r *rig) heldParts(id mail.QueueID) (out []*queue.HeldEntry) {
	r.t.Helper()
	if err := r.bus.HeldPartsOf(r.t.Context(), id, func(e *queue.HeldEntry) error { out = append(out, e); return nil }); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// What people want held is held in place of an attempt, also a job that says so
// itself; the others go.
func TestHeldInPlaceOfAnAttempt(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	one, marked, other := r.job("a@x.test", "b@x.test"), r.job("c@x.test"), r.job("d@x.test")
	one.Attempt = 2
	marked.Hold = &event.Holding{At: time.Now(), Rule: event.RuleContain, By: "bert", Reason: "phishing"}
	if err := r.bus.PutHolding(t.Context(), &event.Holding{At: time.Now(), Rule: event.RuleHold, By: "anna", Reason: "they asked", Jobs: []string{one.ID}}); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the worker knows of it", func() bool { return r.worker.holdings.Of(one) != nil })
	for _, j := range []*event.Job{one, marked, other} {
		r.submit(j)
	}
	r.await(other, event.Delivered)
	rec := r.await(one, event.Kept)
	if rec.Actor != "anna" || rec.Reason != "hold: by anna: they asked" || len(rec.Recipients) != 2 || rec.Stage != event.StageDelivery {
		t.Errorf("%+v", rec)
	}
	if rec := r.await(marked, event.Kept); rec.Reason != "contain: by bert: phishing" {
		t.Errorf("%+v", rec)
	}
	r.drained()
	if h := r.heldParts(one.QueueID); len(h) != 1 || h[0].Rule != "hold" || h[0].Job.Attempt != 2 || h[0].Part() != one.ID || len(h[0].Message.Env.Recipients) != 2 || !h[0].At.Equal(rec.At) {
		t.Errorf("held %+v", h)
	}
	if h := r.heldParts(marked.QueueID); len(h) != 1 || h[0].Job.Hold != nil {
		t.Errorf("held %+v", h)
	}
	if n := len(server.Deliveries()); n != 1 {
		t.Errorf("%d messages went", n)
	}
}

// A worker that was killed at any point of holding a job leaves it to the next,
// which holds it once; and once somebody decided, what comes back late is only
// acknowledged.
func TestHoldingIsDoneTwice(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.alone()
	why := &event.Holding{At: time.Now(), Rule: event.RuleHold, By: "anna"}
	j := r.job("a@x.test")
	j.Hold = why
	h := heldFor(why, j, j.Env.Recipients, false, time.Now().UTC())
	if err := r.worker.keep(t.Context(), h, why); err != nil { // and killed before it acknowledged
		t.Fatal(err)
	}
	for n := range uint64(2) {
		if err := r.worker.handle(t.Context(), message(j, n+1, n+2), nil); err != nil {
			t.Fatal(err)
		}
	}
	if held := r.heldParts(j.QueueID); len(held) != 1 || !held[0].At.Equal(h.At) {
		t.Fatalf("held %+v", held)
	}
	// It is released, and the first copy comes again to a worker that knows nothing.
	released := *j
	released.Hold, released.Held, released.Released = nil, 1, time.Now().UTC()
	if err := r.bus.Decide(t.Context(), event.Decision{QueueID: j.QueueID, Part: h.Part(), Verb: event.Release, Actor: "anna"}); err != nil {
		t.Fatal(err)
	}
	held := r.heldParts(j.QueueID)
	if err := r.bus.Unhold(t.Context(), held[0]); err != nil {
		t.Fatal(err)
	}
	r.worker.memory = newMemory()
	r.worker.earlier.memory = r.worker.memory
	if err := r.worker.handle(t.Context(), message(j, 1, 4), nil); err != nil {
		t.Fatal(err)
	}
	if held := r.heldParts(j.QueueID); len(held) != 0 || len(server.Deliveries()) != 0 {
		t.Fatalf("held %+v, %d went", held, len(server.Deliveries()))
	}
	for n := range uint64(2) {
		if err := r.worker.handle(t.Context(), message(&released, 9, n+1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(deliveries(t, server, 1)); n != 1 {
		t.Errorf("%d went", n)
	}
	// Held once more, it has another name, and waits again.
	again := released
	again.ID += "x" // a job that this worker has not settled
	again.Hold = &event.Holding{At: time.Now(), Rule: event.RuleHold, By: "anna"}
	other := r.job("b@x.test")
	again.QueueID, again.Env = other.QueueID, other.Env
	if err := r.worker.handle(t.Context(), message(&again, 10, 1), nil); err != nil {
		t.Fatal(err)
	}
	if held := r.heldParts(again.QueueID); len(held) != 1 || held[0].Part() != fmt.Sprintf("%s+1", again.ID) {
		t.Errorf("held %+v", held)
	}
}
