package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/mail"
)

// Pauses between two counts while work is in flight.
const (
	recountFirst = 100 * time.Millisecond
	recountLast  = 2 * time.Second
)

// balance counts accepted recipients against settled and queued ones. It
// counts again until they are equal and what was arriving at first has
// arrived, or the wait is over.
func (l *Ledger) balance(ctx context.Context, q books.BalanceQuestion) (*books.Balance, error) {
	wait := q.Wait
	if wait <= 0 || wait > books.Wait {
		wait = books.Wait
	}
	give := time.Now().Add(wait)
	var arriving map[string]uint64 // what MAIL held at first
	for pause := recountFirst; ; pause = min(2*pause, recountLast) {
		c, err := l.count(ctx)
		if err != nil {
			return nil, err
		}
		if arriving == nil {
			arriving = c.ends
		}
		if c.Balances() && c.arrived(arriving) || time.Now().Add(pause).After(give) {
			return &c.Balance, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// count takes one count. Those that count are the messages whose accepted
// record was in LEDGER before the listing began: each of them is settled by
// the time the index has all that LEDGER held when the listing ended, or was
// met by the listing, or is lost. What was accepted meanwhile does not count,
// on either side.
func (l *Ledger) count(ctx context.Context) (*count, error) {
	before, err := l.ledgerInfo(ctx)
	if err != nil {
		return nil, err
	}
	li, err := l.index.newListing(ctx)
	if err != nil {
		return nil, err
	}
	defer li.close()
	if err := li.fill(ctx, l.bus); err != nil {
		return nil, err
	}
	if _, err := l.caughtUp(ctx); err != nil {
		return nil, err
	}
	c := &count{seq: before.State.LastSeq, ends: li.ends, rows: map[rowKey]*books.BalanceRow{}}
	c.AsOf, c.Seq, c.Unreadable = time.Now().UTC(), c.seq, li.unreadable
	tx, err := li.conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("count: %w", err)
	}
	defer tx.Rollback()
	c.ctx, c.tx = ctx, tx
	if err := c.take(); err != nil {
		return nil, fmt.Errorf("count: %w", damaged(err))
	}
	return c, nil
}

// count is one count under way: the books on one side, the listing on the
// other, in one transaction that sees both.
type count struct {
	books.Balance
	ctx     context.Context
	tx      *sql.Tx
	seq     uint64 // messages accepted after it do not count
	horizon time.Time
	rows    map[rowKey]*books.BalanceRow
	pairs   int               // that do not add up
	ends    map[string]uint64 // of the listing
	waiting []arrival
}

type rowKey struct{ owner, destination string }

// arrival is a message of MAIL that does not count yet.
type arrival struct {
	stream string
	seq    uint64
}

// arrived reports that nothing is arriving that was there up to ends.
func (c *count) arrived(ends map[string]uint64) bool {
	return !slices.ContainsFunc(c.waiting, func(a arrival) bool { return a.seq <= ends[a.stream] })
}

func (c *count) take() error {
	var horizon int64
	var unreadable int
	if err := c.tx.QueryRowContext(c.ctx, "SELECT horizon, unreadable FROM checkpoint").Scan(&horizon, &unreadable); err != nil {
		return err
	}
	c.horizon, c.Unreadable = instant(horizon), c.Unreadable+unreadable
	for _, step := range []func() error{c.settled, c.newer, c.unaccepted, c.queued, c.lost, c.unknown, c.arriving} {
		if err := step(); err != nil {
			return err
		}
	}
	c.sum()
	return nil
}

// row is the row of an owner and a destination.
func (c *count) row(owner, destination string) *books.BalanceRow {
	k := rowKey{owner, destination}
	r := c.rows[k]
	if r == nil {
		r = &books.BalanceRow{Owner: owner, Destination: destination}
		c.rows[k] = r
	}
	return r
}

// column is where a row counts a terminal state; nil for queued.
func column(r *books.BalanceRow, s state) *int {
	switch s {
	case delivered:
		return &r.Delivered
	case bounced:
		return &r.Bounced
	case expired:
		return &r.Expired
	case removed:
		return &r.Removed
	case discarded:
		return &r.Discarded
	}
	return nil
}

// each runs a query, whose rows are read by scan.
func (c *count) each(scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := c.tx.QueryContext(c.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// settled enters what the tally says of accepted and settled recipients. What
// it says of queued ones is not used: those are counted.
func (c *count) settled() error {
	return c.each(func(rows *sql.Rows) error {
		var owner, destination string
		var what, n int
		if err := rows.Scan(&owner, &destination, &what, &n); err != nil {
			return err
		}
		switch {
		case what == sumConflicts:
			c.Conflicts += n
		case what == sumAccepted:
			c.row(owner, destination).Accepted += n
		case what < int(states):
			if at := column(c.row(owner, destination), state(what)); at != nil {
				*at += n
			}
		}
		return nil
	}, "SELECT owner, destination, what, n FROM tally")
}

// newer takes out the messages that were accepted after the listing began.
func (c *count) newer() error {
	return c.each(func(rows *sql.Rows) error {
		var owner, destination string
		var accepted bool
		var s state
		var n int
		if err := rows.Scan(&owner, &destination, &accepted, &s, &n); err != nil {
			return err
		}
		r := c.row(owner, destination)
		if accepted {
			r.Accepted -= n
		}
		if at := column(r, s); at != nil {
			*at -= n
		}
		return nil
	}, `SELECT m.owner, r.destination, r.accepted, r.state, count(*) FROM messages m CROSS JOIN recipients r ON r.message = m.id
		WHERE m.accepted_seq > ? GROUP BY 1, 2, 3, 4`, c.seq)
}

// unaccepted finds recipients that are settled and were never accepted. Where
// LEDGER has lost the accepted record to its age, it takes them out.
func (c *count) unaccepted() error {
	return c.each(func(rows *sql.Rows) error {
		p := books.Pair{Problem: books.ProblemUnaccepted}
		var s state
		if err := rows.Scan(&p.QueueID, &p.Recipient, &p.Owner, &p.Destination, &s); err != nil {
			return err
		}
		if c.trimmed(p.QueueID) {
			*column(c.row(p.Owner, p.Destination), s)--
			return nil
		}
		c.offend(p)
		return nil
	}, `SELECT m.queue_id, r.address, m.owner, r.destination, r.state FROM recipients r CROSS JOIN messages m ON m.id = r.message
		WHERE r.accepted = 0 AND r.state <> 0 AND m.accepted_seq <= ?`, c.seq)
}

// trimmed reports a message from before the first record that LEDGER still
// has: nothing can be said about it.
func (c *count) trimmed(id mail.QueueID) bool {
	return !c.horizon.IsZero() && id.Time().Before(c.horizon)
}

// inStreams holds for a recipient r of message m that was listed.
const inStreams = `(EXISTS (SELECT 1 FROM temp.listed l WHERE l.queue_id = m.queue_id AND l.address = r.address)
	OR EXISTS (SELECT 1 FROM temp.listed_mail l WHERE l.queue_id = m.queue_id))`

// owed selects the accepted recipients that are not settled.
const owed = ` FROM recipients r CROSS JOIN messages m ON m.id = r.message WHERE r.state = 0 AND r.accepted = 1 AND m.accepted_seq <= ? AND `

// queued counts the recipients in the streams that are accepted and not
// settled. Those that are settled are left over from an acknowledgement under
// way.
func (c *count) queued() error {
	return c.each(func(rows *sql.Rows) error {
		var owner, destination string
		var n int
		if err := rows.Scan(&owner, &destination, &n); err != nil {
			return err
		}
		c.row(owner, destination).Queued += n
		return nil
	}, "SELECT m.owner, r.destination, count(*)"+owed+inStreams+" GROUP BY 1, 2", c.seq)
}

// lost finds recipients that are accepted, not settled, and in no stream.
func (c *count) lost() error {
	return c.each(func(rows *sql.Rows) error {
		p := books.Pair{Problem: books.ProblemLost}
		if err := rows.Scan(&p.QueueID, &p.Recipient, &p.Owner, &p.Destination); err != nil {
			return err
		}
		c.offend(p)
		return nil
	}, "SELECT m.queue_id, r.address, m.owner, r.destination"+owed+"NOT "+inStreams, c.seq)
}

// unknown finds recipients in the streams that were never accepted.
func (c *count) unknown() error {
	return c.each(func(rows *sql.Rows) error {
		p := books.Pair{Problem: books.ProblemUnknown}
		if err := rows.Scan(&p.QueueID, &p.Recipient, &p.Owner, &p.Destination); err != nil {
			return err
		}
		if c.trimmed(p.QueueID) {
			return nil
		}
		c.row(p.Owner, p.Destination).Queued++
		c.offend(p)
		return nil
	}, `SELECT queue_id, address, owner, destination FROM temp.listed l WHERE NOT EXISTS (
		SELECT 1 FROM messages m JOIN recipients r ON r.message = m.id AND r.address = l.address
		WHERE m.queue_id = l.queue_id AND (r.accepted = 1 OR r.state <> 0))`)
}

// arriving counts messages of MAIL that do not count yet: policy had not
// entered them when the listing began.
func (c *count) arriving() error {
	return c.each(func(rows *sql.Rows) error {
		var a arrival
		if err := rows.Scan(&a.stream, &a.seq); err != nil {
			return err
		}
		c.waiting = append(c.waiting, a)
		c.Arriving++
		return nil
	}, `SELECT stream, seq FROM temp.listed_mail l WHERE NOT EXISTS (
		SELECT 1 FROM messages m WHERE m.queue_id = l.queue_id AND m.accepted_seq BETWEEN 1 AND ?)`, c.seq)
}

func (c *count) offend(p books.Pair) {
	c.pairs++
	if len(c.Offending) < books.MaxOffending {
		c.Offending = append(c.Offending, p)
	}
}

// sum finishes the rows. The residual is what the rows lack or have too much,
// or the pairs found one by one, should they be more: two errors in one row
// must not hide each other.
func (c *count) sum() {
	apart := 0
	for _, r := range c.rows {
		r.Difference = r.Accepted - r.Settled() - r.Queued
		if r.Accepted == 0 && r.Settled() == 0 && r.Queued == 0 {
			continue
		}
		c.Rows = append(c.Rows, *r)
		apart += max(r.Difference, -r.Difference)
		t := &c.Total
		t.Accepted += r.Accepted
		for s := delivered; s < states; s++ {
			*column(t, s) += *column(r, s)
		}
		t.Queued += r.Queued
		t.Difference += r.Difference
	}
	slices.SortFunc(c.Rows, func(a, b books.BalanceRow) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Destination, b.Destination))
	})
	c.Residual = max(apart, c.pairs)
}
