package ledger

import (
	"testing"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queuetest"
)

// What the balance finds lost is looked at then, and not when the next look is
// due in any case; once, as long as it is as much.
func TestLookAtWhatIsLost(t *testing.T) {
	t.Parallel()
	r := newRecoveryRig(t, queuetest.Start(t), t.TempDir())
	asked := func(want int) {
		t.Helper()
		if got := len(r.unbalanced); got != want {
			t.Errorf("recovery is asked %d times, not %d", got, want)
		}
	}
	r.askForLook(&books.Balance{Residual: 1, Offending: []books.Pair{{Problem: books.ProblemUnknown}}})
	asked(0)
	watched := &watchedBalance{}
	r.accept("a@example.org")
	r.watchBalance(t.Context(), watched)
	asked(1)
	<-r.unbalanced
	r.watchBalance(t.Context(), watched)
	asked(0)
}
