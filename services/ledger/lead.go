package ledger

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// lead does what only one instance may do, while this one holds the lease: it
// drives again what was lost (recover.go), and purges what is settled (purge.go),
// health data at once (erase.go).
func (l *Ledger) lead(ctx context.Context) {
	l.holding.Store(true)
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return l.recovering(ctx) })
	tasks.Go(func() error { l.purging(ctx); return nil })
	tasks.Go(func() error { l.erasing(ctx); return nil })
	if err := tasks.Wait(); err != nil {
		l.log.Error().Err(err).Msg("cannot lead the ledger, trying again")
	}
}

// held reports that nothing moves until a person has confirmed the plan of
// recovery, or until it is known that none is needed.
func (l *Ledger) held() bool { return l.holding.Load() }
