//go:build recovery

package recovery

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/test/world"
)

// heldMail is how many jobs are held; fewer than need a confirmation.
const heldMail = 60

// holdAll has people hold every deferred job.
func holdAll(r *relay) {
	r.t.Helper()
	why := &event.Holding{Schema: event.Schema, At: time.Now().UTC(), Rule: event.RuleHold, By: "ann", Reason: "test"}
	world.WaitFor(r.t, "all jobs to be held", func(ctx context.Context) error {
		left := 0
		err := r.Bus.ListJobs(ctx, func(e queue.JobEntry) error {
			left++
			if !e.Deferred() {
				return nil
			}
			e.Job.Hold = why
			return r.Bus.Expedite(ctx, e)
		})
		if err == nil && left > 0 {
			err = fmt.Errorf("%d jobs are not", left)
		}
		return err
	})
}

// heldNow are the parts of messages that are held.
func heldNow(r *relay) (out []queue.HeldEntry) {
	r.t.Helper()
	err := r.Bus.ListHeld(r.t.Context(), func(e queue.HeldEntry, err error) error {
		out = append(out, e)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func release(r *relay, entries ...queue.HeldEntry) {
	r.t.Helper()
	for _, e := range entries {
		if err := r.Bus.Decide(r.t.Context(), event.Decision{QueueID: e.Message.QueueID, Part: e.Part(), Verb: event.Release, Actor: "ann"}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestHeldDeleted: what people hold is held again when HELD and what is derived
// are lost, and not sent; what was released goes; nothing goes twice.
func TestHeldDeleted(t *testing.T) {
	r := newRelay(t)
	want := r.batch(heldMail, "prn@campus.test", to("first-1-450", "held", "example.test"))
	r.jobs(heldMail, 0)
	holdAll(r)
	r.Balances()
	all := heldNow(r)
	if len(all) != heldMail {
		t.Fatalf("%d are held", len(all))
	}
	const free = 10
	release(r, all[:free]...)
	r.states(map[string]int{string(event.Delivered): free, books.StateQueued: heldMail - free})
	for _, name := range append([]string{queue.StreamHeld}, derived...) {
		if err := r.Bus.JS.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	world.WaitFor(t, "the rest to be held again", func(ctx context.Context) error {
		n := 0
		err := r.Bus.ListHeld(ctx, func(queue.HeldEntry, error) error { n++; return nil })
		if err == nil && n != heldMail-free {
			err = fmt.Errorf("%d are", n)
		}
		return err
	})
	r.Balances()
	if n := len(r.Backup.Deliveries()); n != free {
		t.Errorf("%d messages went, want %d", n, free)
	}
	release(r, heldNow(r)...)
	r.states(map[string]int{string(event.Delivered): heldMail, books.StateQueued: 0})
	once(t, copies(r.Backup), want)
	r.Balances()
}
