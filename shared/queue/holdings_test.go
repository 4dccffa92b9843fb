package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// Holdings that were there, and those that come, are known; of two that name a
// job the later counts.
func TestFollowHoldings(t *testing.T) {
	bus := queuetest.Start(t)
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	put := func(h event.Holding) {
		t.Helper()
		if err := bus.PutHolding(t.Context(), &h); err != nil {
			t.Fatal(err)
		}
	}
	put(event.Holding{At: noon, Rule: event.RuleHold, By: "anna", Jobs: []string{"Q-0", "Q-1"}})
	put(event.Holding{At: noon.Add(time.Hour), Rule: event.RuleHold, By: "bert", Jobs: []string{"Q-1"}})
	known, err := bus.FollowHoldings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	by := func(j event.Job) string {
		if h := known.Of(&j); h != nil {
			return h.By
		}
		return ""
	}
	if got := by(event.Job{ID: "Q-0"}) + by(event.Job{ID: "Q-1"}) + by(event.Job{ID: "Q-2"}); got != "annabert" {
		t.Errorf("held by %s", got)
	}
	if got := by(event.Job{ID: "Q-1", Released: noon.Add(time.Minute)}) + by(event.Job{ID: "Q-0", Released: noon.Add(time.Minute)}); got != "bert" {
		t.Errorf("after a release held by %s", got)
	}
	put(event.Holding{At: noon, Rule: event.RuleContain, By: "carl", Device: "prn"})
	timetest.Await(t, "what came is known", func() bool { return by(event.Job{ID: "Q-2", Device: "prn"}) == "carl" })
	if h := known.OfMessage(&event.Admitted{Device: "prn"}); h == nil || h.Why() != "by carl" {
		t.Errorf("the message is held by %+v", h)
	}
	put(event.Holding{At: noon, Rule: event.RuleHold, By: "dora", Jobs: []string{"Q-3"}})
	timetest.Await(t, "a job that came is known", func() bool { return by(event.Job{ID: "Q-3"}) == "dora" && by(event.Job{ID: "Q-0"}) == "anna" })
	if by(event.Job{ID: "Q-9", Hold: &event.Holding{By: "eve"}}) != "eve" {
		t.Error("a job that says so itself is not held")
	}
	if (*queue.Holdings)(nil).Of(&event.Job{}) != nil {
		t.Error("held by nobody")
	}
}

// The parts of a message are held, and decided about, each on its own.
func TestHeldParts(t *testing.T) {
	bus := queuetest.Start(t)
	id := mail.NewQueueIDs().Next()
	hold := func(h *event.Held) string {
		t.Helper()
		for range 2 {
			if err := bus.Hold(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		return h.Part()
	}
	job := func(n, drive, held int) *event.Held {
		return event.HeldJob(&event.Job{Schema: event.Schema, ID: fmt.Sprint(id, "-", n), QueueID: id, Drive: drive, Held: held}, event.RuleHold, "", time.Now())
	}
	parts := []string{hold(&event.Held{Rule: "content", Message: event.Admitted{QueueID: id}}), hold(job(0, 0, 0)), hold(job(0, 0, 1)), hold(job(0, 2, 0)), hold(job(1, 0, 0))}
	seen := map[string]bool{}
	if err := bus.HeldPartsOf(t.Context(), id, func(e *queue.HeldEntry) error { seen[e.Part()] = true; return nil }); err != nil || len(seen) != len(parts) {
		t.Fatalf("%v, %v", seen, err)
	}
	if err := bus.Decide(t.Context(), event.Decision{QueueID: id, Part: parts[2], Verb: event.Release, Actor: "anna"}); err != nil {
		t.Fatal(err)
	}
	err := bus.ListHeld(t.Context(), func(e queue.HeldEntry, err error) error {
		if !seen[e.Part()] || (e.Decision != nil) != (e.Part() == parts[2]) {
			t.Errorf("%q decided %+v", e.Part(), e.Decision)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if got := queue.PartOf(queue.HeldSubject(id, part)); got != part {
			t.Errorf("part %q of the subject of %q", got, part)
		}
	}
}
