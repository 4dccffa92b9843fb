package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/books"
)

// ways answers the question of that name.
func (l *Ledger) ways(ctx context.Context, _ []byte, out *output) error {
	now := time.Now()
	recent, before := now.Add(-books.WaysPeriod), now.Add(-2*books.WaysPeriod)
	rows, err := l.index.reader.QueryContext(ctx, `SELECT device,
		count(*) FILTER (WHERE accepted_at >= ?1 AND NOT by_login), count(*) FILTER (WHERE accepted_at >= ?1 AND by_login),
		count(*) FILTER (WHERE accepted_at < ?1 AND NOT by_login), count(*) FILTER (WHERE accepted_at < ?1 AND by_login)
		FROM messages WHERE device <> '' AND report_of = '' AND accepted_at >= ?2 GROUP BY device ORDER BY device`, nanos(recent), nanos(before))
	if err != nil {
		return fmt.Errorf("read ways: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var w books.Ways
		if err := rows.Scan(&w.Device, &w.Recent.ByAddress, &w.Recent.ByLogin, &w.Before.ByAddress, &w.Before.ByLogin); err != nil {
			return fmt.Errorf("read ways: %w", err)
		}
		if err := out.Encode(w); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ways: %w", err)
	}
	return nil
}
