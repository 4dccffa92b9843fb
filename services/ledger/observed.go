package ledger

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
)

// observedSchema is what the index knows of rules that only observe: how many
// messages of a day each of them would have stopped, by device and address, and
// one of these messages.
const observedSchema = `
CREATE TABLE observed (
	rule     TEXT    NOT NULL,
	device   TEXT    NOT NULL,
	address  TEXT    NOT NULL, -- the client's
	day      INTEGER NOT NULL, -- days since 1970
	n        INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	sender   TEXT    NOT NULL,
	queue_id TEXT    NOT NULL,
	PRIMARY KEY (rule, device, address, day)
) WITHOUT ROWID;
`

const day = 24 * time.Hour

// observations are those of a batch.
type observations map[observationKey]*books.Observed

type observationKey struct {
	rule, device, address string
	day                   int64
}

// note takes what an accepted record says that rules would have done. Of several
// about one message the first counts, as in its account.
func (o *observations) note(e *entry, r *event.Record, at place) {
	if r.Outcome != event.Entered || r.Message == nil || len(r.Message.Verdict.Observed) == 0 || e.acceptedSeq != at.seq() {
		return
	}
	if *o == nil {
		*o = observations{}
	}
	m := r.Message
	for _, rule := range m.Verdict.Observed {
		k := observationKey{rule, m.Device, e.client, nanos(m.AcceptedAt) / int64(day)}
		if (*o)[k] == nil {
			(*o)[k] = &books.Observed{}
		}
		sum := (*o)[k]
		sum.Messages++
		if !m.AcceptedAt.Before(sum.Last) {
			sum.Last, sum.Sender, sum.QueueID = m.AcceptedAt, e.sender, r.QueueID
		}
	}
}

func (s *statements) writeObserved(ctx context.Context, o observations) error {
	for k, sum := range o {
		if _, err := s.observed.ExecContext(ctx, k.rule, k.device, k.address, k.day, sum.Messages, nanos(sum.Last), sum.Sender, string(sum.QueueID)); err != nil {
			return fmt.Errorf("write what rules observed: %w", err)
		}
	}
	return nil
}

// forgetObserved forgets what nobody can ask for any more.
func (x *index) forgetObserved(ctx context.Context, now time.Time) error {
	if _, err := x.conn.ExecContext(ctx, "DELETE FROM observed WHERE day < ?", nanos(now.Add(-books.ObservedFor))/int64(day)); err != nil {
		return fmt.Errorf("forget what rules observed: %w", err)
	}
	return nil
}

// observed answers the question of that name: who is hit most first.
func (l *Ledger) observed(ctx context.Context, body []byte, out *output) error {
	var q books.ObservedQuestion
	if err := readQuestion(body, &q); err != nil {
		return err
	}
	// SQLite takes the other columns from the row that has the maximum.
	rows, err := l.index.reader.QueryContext(ctx, `SELECT rule, device, address, sum(n), max(last), sender, queue_id FROM observed
		WHERE day >= ? AND (? = '' OR rule = ?) GROUP BY rule, device, address ORDER BY rule, sum(n) DESC, device, address`,
		nanos(q.Since)/int64(day), q.Rule, q.Rule)
	if err != nil {
		return fmt.Errorf("read what rules observed: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var o books.Observed
		var address string
		var last int64
		if err := rows.Scan(&o.Rule, &o.Device, &address, &o.Messages, &last, &o.Sender, &o.QueueID); err != nil {
			return fmt.Errorf("read what rules observed: %w", err)
		}
		o.Address, _ = netip.ParseAddr(address) // empty where a message came by no client
		o.Last = instant(last)
		if err := out.Encode(&o); err != nil {
			return err
		}
	}
	return rows.Err()
}
