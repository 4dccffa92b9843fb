package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
)

// ends tells which recipients of a message get no further attempt.
func (l *Ledger) ends(ctx context.Context, q books.EndsQuestion) (*books.Ends, error) {
	if err := l.folds(ctx, q.AtLeast); err != nil {
		return nil, err
	}
	var id place
	out := &books.Ends{Ends: map[string]string{}}
	err := l.index.reader.QueryRowContext(ctx, "SELECT id, drive FROM messages WHERE queue_id = ?", string(q.QueueID)).Scan(&id, &out.Drive)
	if errors.Is(err, sql.ErrNoRows) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read message: %w", damaged(err))
	}
	out.Known = true
	rows, err := l.index.reader.QueryContext(ctx, "SELECT "+recipientColumns+" FROM recipients r WHERE message = ? AND (state <> 0 OR failed <> 0)", id)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", damaged(err))
	}
	list, err := scanRecipients(rows)
	for _, r := range list {
		out.Ends[r.address] = books.States[r.state]
		if r.state == queued {
			out.Ends[r.address] = string(event.Failed)
		}
	}
	return out, err
}
