package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// erasePeriod is how often settled health data is looked for.
const erasePeriod = 2 * time.Second

// erasing erases the content of health data as soon as it is settled, until ctx
// ends (DESIGN: "at once for a device flagged phi").
func (l *Ledger) erasing(ctx context.Context) {
	e := &eraser{Ledger: l}
	tick := time.NewTicker(erasePeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := e.round(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn().Err(err).Msg("cannot erase settled health data, will try again")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// eraser takes messages out of MAIL without their turn.
type eraser struct {
	*Ledger
	// done are those that were erased, as long as MAIL begins before them: the
	// index names them every time.
	done map[mail.QueueID]struct{}
}

// round erases what there is to erase.
func (e *eraser) round(ctx context.Context) error {
	if e.held() {
		return nil
	}
	known := map[mail.QueueID]struct{}{}
	for n := range queue.Shards {
		if err := e.shard(ctx, queue.MailStream(n), known); err != nil {
			return err
		}
	}
	e.done = known
	return nil
}

// shard erases what is settled in one shard of MAIL and was acknowledged by
// policy, as purge.go demands.
func (e *eraser) shard(ctx context.Context, stream string, known map[mail.QueueID]struct{}) error {
	s, err := e.bus.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", stream, err)
	}
	found, err := e.settledPHI(ctx, stream, s.CachedInfo().State.FirstSeq)
	if err != nil {
		return err
	}
	floor := uint64(0)
	for _, a := range found {
		if _, was := e.done[a.id]; was {
			known[a.id] = struct{}{}
			continue
		}
		if floor == 0 {
			if floor, err = ackFloor(ctx, e.bus, stream, policyDurable); err != nil {
				return err
			}
		}
		if a.seq > floor || e.held() {
			continue
		}
		if err := e.bus.Erase(ctx, a.id, stream, a.seq); err != nil {
			return err
		}
		e.metrics.purge.purged(stream, 1, a.size)
		known[a.id] = struct{}{}
	}
	return nil
}

// settledPHI are the messages with health data that are settled, of a stream from a
// sequence on.
func (e *eraser) settledPHI(ctx context.Context, stream string, first uint64) (found []standing, err error) {
	e.opened.RLock()
	defer e.opened.RUnlock()
	rows, err := e.index.reader.QueryContext(ctx, `SELECT m.queue_id, m.seq, m.size FROM messages m
		WHERE m.phi = 1 AND m.stream = ? AND m.seq >= ? AND m.accepted_seq > 0
		AND NOT EXISTS (SELECT 1 FROM recipients r WHERE r.message = m.id AND r.state = 0)`, stream, first)
	if err != nil {
		return nil, fmt.Errorf("look for settled health data: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var a standing
		if err := rows.Scan(&a.id, &a.seq, &a.size); err != nil {
			return nil, fmt.Errorf("look for settled health data: %w", err)
		}
		found = append(found, a)
	}
	return found, rows.Err()
}
