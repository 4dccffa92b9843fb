package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/queue"
)

// overdueAfter is how late a deferred job is that the bus has left behind:
// somewhat more than it needs for very many that are due at once.
const overdueAfter = 5 * time.Minute

// expedite makes the deferred jobs ready whose time was overdueAfter before now
// or earlier, unless nothing may move. A server that finds no room for a job
// when its time has come does not try again, even when there is room, until it
// is started again.
func (r *recovery) expedite(ctx context.Context, now time.Time) error {
	if r.held() {
		return nil
	}
	done := 0
	err := r.bus.ListJobsOf(ctx, queue.LaterSubjects, func(e queue.JobEntry) error {
		if !overdue(&e, now) {
			return nil
		}
		err := r.bus.Expedite(ctx, e)
		if err == nil {
			done++
		} else if errors.Is(err, queue.ErrMoved) {
			err = nil
		}
		return err
	})
	if done > 0 {
		r.log.Warn().Int("jobs", done).Msg("deferred jobs were left behind after their time, and are ready now")
	}
	if err != nil {
		return fmt.Errorf("make overdue jobs ready: %w", err)
	}
	return nil
}

// overdue reports a job that the bus has left behind.
func overdue(e *queue.JobEntry, now time.Time) bool {
	return e.Job != nil && e.Deferred() && !e.Next.IsZero() && now.Sub(e.Next) >= overdueAfter
}
