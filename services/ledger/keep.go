package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// forget deletes from KEEP what was settled the retention ago, and health data that
// is settled. What is not in
// the books is left alone.
func (p *purger) forget(ctx context.Context) error {
	kept, err := p.bus.ListKept(ctx)
	if err != nil {
		return err
	}
	due := p.now.Add(-p.retention)
	var over []mail.QueueID
	p.phiKept = false
	err = p.within(ctx, func(lookup lookup) error {
		for id := range kept {
			a, err := lookup(string(id))
			if err != nil {
				return err
			}
			if a.over(due, p.early || a.phi) {
				over = append(over, id)
			} else if a.phi {
				p.phiKept = true
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
	overdue, failed := p.ledger.overdue(ctx, p.now)
	p.metrics.overdue.Set(overdue.Seconds)
	var accepted int64
	p.ledger.opened.RLock()
	defer p.ledger.opened.RUnlock()
	err := p.ledger.index.reader.QueryRowContext(ctx, `SELECT coalesce(max(accepted_at), 0) FROM messages
		WHERE id = (SELECT min(message) FROM recipients WHERE state = 0)`).Scan(&accepted)
	p.metrics.unsettled.Set(float64(accepted) / float64(time.Second))
	return errors.Join(failed, err)
}

// overdue finds the stream that keeps content the longest beyond the retention.
// What it can it says with an error, too.
func (l *Ledger) overdue(ctx context.Context, now time.Time) (o books.Overdue, err error) {
	for n := range queue.Shards {
		for _, name := range []string{queue.MailStream(n), queue.BodyStream(n)} {
			s, failed := l.bus.JS.Stream(ctx, name)
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("ask for %s: %w", name, failed))
				continue
			}
			state := s.CachedInfo().State
			if age := now.Sub(state.FirstTime) - l.retention; state.Msgs > 0 && age.Seconds() > o.Seconds {
				o = books.Overdue{Stream: name, Seq: state.FirstSeq, Seconds: age.Seconds()}
			}
		}
	}
	return o, err
}
