package budget

import (
	"context"
	"time"
)

const (
	idlePeriod = time.Second     // between two looks for what is not used
	idleAfter  = 2 * time.Second // without use a slice is given back
	// goodbye is the time for giving back everything at the end.
	goodbye = 2 * time.Second
)

// Run gives back what is not used, until ctx ends, and then everything.
func (b *Budgets) Run(ctx context.Context) {
	tick := time.NewTicker(idlePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.tidy(ctx, b.now().Add(-idleAfter))
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer cancel()
			b.tidy(ctx, b.now().Add(time.Hour))
			return
		}
	}
}

// tidy gives back and forgets the slices that were last used before.
func (b *Budgets) tidy(ctx context.Context, before time.Time) {
	b.mu.Lock()
	keys := make([]string, 0, len(b.slice))
	for key := range b.slice {
		keys = append(keys, key)
	}
	b.mu.Unlock()
	for _, key := range keys {
		if err := b.drop(ctx, key, before); err != nil {
			b.log.Warn().Err(err).Msg("cannot give back what is left of an hourly limit")
			return // the bucket does not answer: next time
		}
	}
}

// drop gives back one slice and forgets it.
func (b *Budgets) drop(ctx context.Context, key string, before time.Time) error {
	s := b.locked(key)
	defer s.mu.Unlock()
	if s.used.After(before) {
		return nil
	}
	if s.left > 0 && s.hour >= hourOf(b.now()) {
		ctx, cancel := context.WithTimeout(ctx, goodbye)
		defer cancel()
		if err := b.release(ctx, key, s); err != nil {
			return err
		}
	}
	b.mu.Lock()
	delete(b.slice, key)
	b.mu.Unlock()
	s.gone = true
	return nil
}
