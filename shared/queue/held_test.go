package queue_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// What is held, and what was decided, the leader of HELD tells: another server may
// not know it yet, and who believes that releases twice, or never.
func TestHeldIsAskedOfTheLeader(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	direct, err := bus.NC.SubscribeSync("$JS.API.DIRECT.GET." + queue.StreamHeld + ".>")
	if err != nil {
		t.Fatal(err)
	}
	h := &event.Held{At: time.Now(), Rule: event.RuleHold, Message: event.Admitted{QueueID: "Q"}}
	if err := bus.Hold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := bus.Decide(t.Context(), event.Decision{QueueID: "Q", Verb: event.Release, Actor: "anna"}); err != nil {
		t.Fatal(err)
	}
	e, err := bus.HeldOf(t.Context(), "Q")
	if err != nil || e.Decision == nil || e.Decision.Verb != event.Release || e.DecidedSeq != e.Seq+1 {
		t.Errorf("%+v, %v", e, err)
	}
	if was, err := bus.WasHeld(t.Context(), "Q", "Q-0"); was || err != nil {
		t.Errorf("a part that is not held: %v, %v", was, err)
	}
	if n, _, err := direct.Pending(); n != 0 || err != nil {
		t.Errorf("%d readings of any server, %v", n, err)
	}
}
