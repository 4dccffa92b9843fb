package ledger

import (
	"context"
	"time"
)

const (
	// epochTimeout is how long workers may take to finish what they had begun.
	epochTimeout = 3 * time.Minute
	// epochsApart is the time between epochs when recovery fails for long.
	epochsApart = 2 * time.Minute
)

// quiet begins a new epoch, and waits until no worker has anything in hand from
// before.
func (r *recovery) quiet(ctx context.Context) (int, error) {
	epoch, err := r.bus.NextEpoch(ctx)
	if err != nil {
		return 0, err
	}
	r.epochs.Add(1)
	ctx, cancel := context.WithTimeout(ctx, epochTimeout)
	defer cancel()
	return epoch, r.bus.AwaitEpoch(ctx, epoch)
}

// pause is how long recovery waits after a look; second says that another one
// belongs to it. One that failed is repeated soon; but when it had begun an
// epoch, not soon again and again: every worker finishes for that what it has,
// before it takes more.
func (r *recovery) pause(failed error, second bool) time.Duration {
	switch n := r.epochs.Load(); {
	case failed == nil && second:
		return secondLook
	case failed == nil:
		return lookPeriod
	case n == 0:
		return 0
	default:
		return min(tendPeriod<<min(n, 8), epochsApart)
	}
}
