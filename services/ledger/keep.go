package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// forget deletes from KEEP what was settled the retention ago. What is not in
// the books is left alone.
func (p *purger) forget(ctx context.Context) error {
	kept, err := p.bus.ListKept(ctx)
	if err != nil {
		return err
	}
	due := p.now.Add(-p.retention)
	var over []mail.QueueID
	err = p.within(ctx, func(lookup lookup) error {
		for id := range kept {
			a, err := lookup(string(id))
			if err != nil {
				return err
			}
			if a.over(due, p.early) {
				over = append(over, id)
			}
		}
		return nil
	})
	left := len(kept)
	for _, id := range over {
		if ctx.Err() != nil || p.ledger.held() {
			break
		}
		if err := p.bus.Unkeep(ctx, id); err != nil {
			return err
		}
		p.metrics.purged(queue.StreamKeep, 1, 0)
		left--
	}
	p.metrics.inKeep.Set(float64(left))
	return err
}

// measure tells how far the purge is behind, and the age of the oldest message
// that is not settled.
func (p *purger) measure(ctx context.Context) error {
	var overdue time.Duration
	var errs []error
	for n := range queue.Shards {
		for _, name := range []string{queue.MailStream(n), queue.BodyStream(n)} {
			s, err := p.bus.JS.Stream(ctx, name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if state := s.CachedInfo().State; state.Msgs > 0 {
				overdue = max(overdue, p.now.Sub(state.FirstTime)-p.retention)
			}
		}
	}
	p.metrics.overdue.Set(overdue.Seconds())
	var accepted int64
	p.ledger.opened.RLock()
	defer p.ledger.opened.RUnlock()
	err := p.ledger.index.reader.QueryRowContext(ctx, `SELECT coalesce(max(accepted_at), 0) FROM messages
		WHERE id = (SELECT min(message) FROM recipients WHERE state = 0)`).Scan(&accepted)
	p.metrics.unsettled.Set(float64(accepted) / float64(time.Second))
	return errors.Join(append(errs, err)...)
}
