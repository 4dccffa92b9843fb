package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/books"
)

// exportPage is how many rows are read at a time. Between pages nothing is
// held, so that a slow reader does not hold up the index.
const exportPage = 1000

// caughtUp waits until the index has what LEDGER holds now.
func (l *Ledger) caughtUp(ctx context.Context) (uint64, error) {
	info, err := l.ledgerInfo(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, l.folds(ctx, info.State.LastSeq)
}

// folds waits until the index has a record of LEDGER.
func (l *Ledger) folds(ctx context.Context, seq uint64) error {
	wait, cancel := context.WithTimeout(ctx, books.Wait)
	defer cancel()
	if !l.position.reach(wait, seq) {
		return fmt.Errorf("%w: at record %d of %d", books.ErrBehind, l.position.get(), seq)
	}
	return nil
}

// export writes the rows that a filter selects.
func (l *Ledger) export(ctx context.Context, data []byte, out *output) error {
	var f books.Filter
	if err := readQuestion(data, &f); err != nil {
		return err
	}
	where, args, err := conditions(f)
	if err != nil {
		return err
	}
	if _, err := l.caughtUp(ctx); err != nil {
		return err
	}
	query := "SELECT " + messageColumns + ", " + recipientColumns + ` FROM recipients r CROSS JOIN messages m ON m.id = r.message
		WHERE (r.message, r.address) > (?, ?)` + where + " ORDER BY r.message, r.address LIMIT ?"
	after := cursor{}
	for {
		page, err := l.index.rows(ctx, query, slices.Concat([]any{after.message, after.address}, args, []any{exportPage}))
		if err != nil {
			return err
		}
		for i := range page {
			if err := out.Encode(rowOf(&page[i].message, &page[i].recipient)); err != nil {
				return err
			}
		}
		if len(page) < exportPage {
			return nil
		}
		last := &page[len(page)-1]
		after = cursor{last.first, last.address}
	}
}

// cursor is where a page ends.
type cursor struct {
	message place
	address string
}

// pair is one recipient with its message.
type pair struct {
	message
	recipient
}

// conditions are the terms of a filter in SQL.
func conditions(f books.Filter) (string, []any, error) {
	var where strings.Builder
	var args []any
	add := func(term string, values ...any) {
		where.WriteString(" AND " + term)
		args = append(args, values...)
	}
	if !f.Since.IsZero() {
		add("m.accepted_at >= ?", nanos(f.Since))
	}
	if !f.Until.IsZero() {
		add("m.accepted_at < ? AND m.accepted_at <> 0", nanos(f.Until))
	}
	for column, value := range map[string]string{"m.owner": f.Owner, "r.destination": f.Destination} {
		if value != "" {
			add(column+" = ?", value)
		}
	}
	// These have an index, and are of few messages: not all recipients are looked
	// through.
	for column, value := range map[string]string{"device": f.Device, "submission_id": f.Submission} {
		if value != "" {
			add("r.message IN (SELECT id FROM messages WHERE "+column+" = ? AND "+column+" <> '')", value)
		}
	}
	var any []string
	for _, name := range f.States {
		s := slices.Index(books.States[:], name)
		if s < 0 {
			return "", nil, fmt.Errorf("%w: no state %q", books.ErrQuestion, name)
		}
		any = append(any, fmt.Sprint("r.state = ", s))
	}
	if len(any) > 0 {
		add("(" + strings.Join(any, " OR ") + ")")
	}
	return where.String(), args, nil
}

// rows reads pairs with the columns of messages and recipients.
func (x *index) rows(ctx context.Context, query string, args []any) ([]pair, error) {
	rows, err := x.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read index: %w", damaged(err))
	}
	defer rows.Close()
	var out []pair
	for rows.Next() {
		var p pair
		if err := scanPair(rows, &p); err != nil {
			return nil, fmt.Errorf("read index: %w", damaged(err))
		}
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read index: %w", damaged(err))
	}
	return out, nil
}

// rowOf is the line of the export for a recipient.
func rowOf(m *message, r *recipient) books.Row {
	return books.Row{
		QueueID: m.queueID, MessageID: m.messageID, SubmissionID: m.submissionID, Sender: m.sender, Recipient: r.address,
		Device: m.device, Owner: m.owner, State: books.States[r.state],
		RemoteMTA: r.last.remoteMTA, Status: r.last.status, Diagnostic: r.last.diagnostic, Attempts: r.attempts,
		PossibleDuplicate: r.possibleDup, LateAccept: m.lateAccept, AcceptedAt: optional(m.acceptedAt), SettledAt: optional(r.settledAt),
		Actor: r.decided.actor, Reason: r.decided.reason, Conflict: r.conflict,
	}
}

// optional is nil for no time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
