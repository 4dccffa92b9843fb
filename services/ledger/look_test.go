package ledger

import (
	"context"
	"testing"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// What the balance finds lost is looked at then, and not when the next look is
// due in any case.
func TestLookAtWhatIsLost(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.keepLooking(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	timetest.Await(t, "the first look is over", func() bool { return r.found.Load() != nil })
	m := r.accept("a@example.org")
	r.askForLook(&books.Balance{Residual: 1, Offending: []books.Pair{{Problem: books.ProblemUnknown}}})
	if len(r.unbalanced) != 0 {
		t.Error("what is not lost is looked for")
	}
	r.askForLook(&books.Balance{Residual: 1, Offending: []books.Pair{{QueueID: m.id, Problem: books.ProblemLost}}})
	timetest.Await(t, "it is driven again", func() bool { return len(r.admittedEvents()) == 1 })
}
