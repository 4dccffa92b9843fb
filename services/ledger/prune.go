package ledger

import (
	"context"
	"fmt"
	"time"
)

// prunePeriod is how often the index forgets what LEDGER has forgotten, and
// pruneBatch how many messages one transaction looks at.
const (
	prunePeriod = time.Hour
	pruneBatch  = 500
)

// prune forgets the messages whose records have all left LEDGER by their age,
// and the sequences of those that have. A message with a recipient that is
// still queued is kept. It runs in the goroutine that folds.
func (x *index) prune(ctx context.Context, first uint64) error {
	for after := place(0); ctx.Err() == nil; {
		next, err := x.pruneSome(ctx, first, after)
		if err != nil {
			return fmt.Errorf("prune index: %w", err)
		}
		if next == 0 {
			return nil
		}
		after = next
	}
	return nil
}

// pruneSome looks at the next messages after an id, which is the place of a
// message's first record, and returns the last it looked at; 0 when there
// are no more whose first record is gone.
func (x *index) pruneSome(ctx context.Context, first uint64, after place) (next place, err error) {
	ctx = context.WithoutCancel(ctx)
	err = x.within(ctx, func() error {
		if next, err = x.pruneEnd(ctx, first, after); err != nil || next == 0 {
			return err
		}
		if _, err := x.conn.ExecContext(ctx, "DELETE FROM records WHERE message > ? AND message <= ? AND place < ?", after, next, placeOf(first, 0)); err != nil {
			return err
		}
		b := &batch{ctx: ctx, save: x.save, tally: tally{}}
		gone, err := b.forgotten(x, after, next)
		if err != nil {
			return err
		}
		for _, id := range gone {
			if _, err := x.conn.ExecContext(ctx, "DELETE FROM recipients WHERE message = ?; DELETE FROM messages WHERE id = ?", id, id); err != nil {
				return err
			}
		}
		return x.save.writeTally(ctx, b.tally)
	})
	return next, err
}

// pruneEnd is the last id of the batch that begins after an id.
func (x *index) pruneEnd(ctx context.Context, first uint64, after place) (end place, err error) {
	row := x.conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM (SELECT id FROM messages WHERE id > ? AND id < ? ORDER BY id LIMIT ?)", after, placeOf(first, 0), pruneBatch)
	return end, row.Scan(&end)
}

// forgotten finds the messages of a range that have no record left and nobody
// queued, and takes them out of the tally.
func (b *batch) forgotten(x *index, after, end place) ([]place, error) {
	rows, err := x.conn.QueryContext(b.ctx, "SELECT "+messageColumns+` FROM messages m WHERE m.id > ? AND m.id <= ?
		AND NOT EXISTS (SELECT 1 FROM records WHERE message = m.id)
		AND NOT EXISTS (SELECT 1 FROM recipients WHERE message = m.id AND state = 0)`, after, end)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var gone []message
	for rows.Next() {
		var m message
		if err := scanMessage(rows, &m); err != nil {
			return nil, err
		}
		gone = append(gone, m)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	var ids []place
	for i := range gone {
		list, err := b.save.readRecipients(b.ctx, gone[i].first, "")
		if err != nil {
			return nil, err
		}
		for _, rcpt := range list {
			b.tally.add(&gone[i], rcpt, -1)
		}
		if gone[i].acceptedSeq != 0 {
			b.tally[tallyKey{what: sumMessages}]--
		}
		ids = append(ids, gone[i].first)
	}
	return ids, nil
}
