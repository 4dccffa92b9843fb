package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// traceWait is how long a trace waits for the index. After that it shows what
// there is: at the help desk late is worse than incomplete.
const traceWait = 2 * time.Second

// trace finds what the books know of a text, and where it is now.
func (l *Ledger) trace(ctx context.Context, q books.TraceQuestion) (*books.Trace, error) {
	text := strings.TrimSpace(q.Text)
	if text == "" {
		return nil, fmt.Errorf("%w: nothing to trace", books.ErrQuestion)
	}
	t, err := l.look(ctx, text)
	if errors.Is(err, books.ErrNotFound) {
		// It may have moved from MAIL into the books between the two looks.
		t, err = l.look(ctx, text)
	}
	return t, err
}

// look looks in the books, then in MAIL.
func (l *Ledger) look(ctx context.Context, text string) (*books.Trace, error) {
	t := &books.Trace{AsOf: time.Now().UTC()}
	info, err := l.ledgerInfo(ctx)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, traceWait)
	defer cancel()
	if !l.position.reach(wait, info.State.LastSeq) {
		t.Behind = info.State.LastSeq - min(l.position.get(), info.State.LastSeq)
	}
	found, err := l.find(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return l.traceArriving(ctx, t, text)
	}
	if len(found) > books.MaxTrace {
		found, t.More = found[:books.MaxTrace], true
	}
	if t.Messages, err = l.summaries(ctx, found); err != nil {
		return nil, err
	}
	if len(found) == 1 {
		err = l.detail(ctx, t, &found[0])
	}
	return t, err
}

// find looks a text up as what it looks like, most exact meaning first; the
// first that is known wins. Newest messages come first.
func (l *Ledger) find(ctx context.Context, text string) ([]message, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	id, err := mail.ParseQueueID(text)
	if err != nil {
		id = mail.QueueID(text)
	}
	for _, look := range []struct {
		where string
		args  []any
	}{
		{"m.queue_id = ?", []any{string(id)}},
		{"m.message_id IN (?, ?) AND m.message_id <> ''", []any{"<" + bare + ">", bare}},
		{`m.id IN (SELECT * FROM (SELECT id FROM messages WHERE sender = ? COLLATE NOCASE AND sender <> '' ORDER BY id DESC LIMIT ?)
			UNION SELECT * FROM (SELECT DISTINCT message FROM recipients WHERE address = ? COLLATE NOCASE ORDER BY message DESC LIMIT ?))`,
			[]any{bare, books.MaxTrace + 1, bare, books.MaxTrace + 1}},
		{"m.device = ? AND m.device <> ''", []any{strings.ToLower(text)}},
		{"m.client = ? AND m.client <> ''", []any{text}},
	} {
		found, err := l.index.messages(ctx, look.where, look.args...)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

// messages reads the newest messages for which where holds, one more than a
// trace shows.
func (x *index) messages(ctx context.Context, where string, args ...any) ([]message, error) {
	rows, err := x.reader.QueryContext(ctx, "SELECT "+messageColumns+" FROM messages m WHERE "+where+" ORDER BY m.id DESC LIMIT ?", append(args, books.MaxTrace+1)...)
	if err != nil {
		return nil, fmt.Errorf("find messages: %w", damaged(err))
	}
	defer rows.Close()
	var out []message
	for rows.Next() {
		var m message
		if err := scanMessage(rows, &m); err != nil {
			return nil, fmt.Errorf("find messages: %w", damaged(err))
		}
		out = append(out, m)
	}
	return out, rows.Err()
}

// summaries are the messages with their recipients counted by state.
func (l *Ledger) summaries(ctx context.Context, found []message) ([]books.Message, error) {
	out := make([]books.Message, len(found))
	for i := range found {
		m := &found[i]
		out[i] = books.Message{
			QueueID: m.queueID, MessageID: m.messageID, SubmissionID: m.submissionID, Sender: m.sender, Device: m.device, Owner: m.owner,
			Class: m.class, Size: m.size, AcceptedAt: optional(m.acceptedAt), LateAccept: m.lateAccept, ReportOf: m.reportOf, States: map[string]int{},
		}
		rows, err := l.index.reader.QueryContext(ctx, "SELECT state, count(*) FROM recipients WHERE message = ? GROUP BY state", m.first)
		if err != nil {
			return nil, fmt.Errorf("count recipients: %w", err)
		}
		for rows.Next() {
			var s state
			var n int
			if err := rows.Scan(&s, &n); err != nil {
				rows.Close()
				return nil, fmt.Errorf("count recipients: %w", err)
			}
			out[i].States[books.States[s]] = n
		}
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("count recipients: %w", err)
		}
	}
	return out, nil
}

// detail adds the recipients of one message, every record about it, and where
// those are that are not settled.
func (l *Ledger) detail(ctx context.Context, t *books.Trace, m *message) error {
	rows, err := l.index.reader.QueryContext(ctx, "SELECT "+recipientColumns+" FROM recipients r WHERE message = ? ORDER BY address", m.first)
	if err != nil {
		return fmt.Errorf("read recipients: %w", err)
	}
	list, err := scanRecipients(rows)
	if err != nil {
		return err
	}
	var open []*recipient
	for _, r := range list {
		t.Recipients = append(t.Recipients, books.Recipient{Row: rowOf(m, r)})
		if r.state == queued {
			open = append(open, r)
		}
	}
	if t.Records, err = l.records(ctx, m.first); err != nil {
		return err
	}
	if len(open) == 0 {
		return nil
	}
	positions, err := l.positions(ctx, m, open)
	if err != nil {
		return err
	}
	for i := range t.Recipients {
		if r := &t.Recipients[i]; r.State == books.StateQueued {
			at := positions[r.Row.Recipient]
			r.Position = &at
		}
	}
	return nil
}

// records reads the lines of LEDGER about a message. One that was stored twice
// is shown once; one that LEDGER no longer has is left out.
func (l *Ledger) records(ctx context.Context, id place) ([]books.Record, error) {
	places, err := l.index.places(ctx, id)
	if err != nil {
		return nil, err
	}
	stream, err := l.bus.JS.Stream(ctx, queue.StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("read LEDGER: %w", err)
	}
	var out []books.Record
	var seen [][]byte
	for _, at := range places {
		m, err := stream.GetMsg(ctx, at.seq())
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read LEDGER: %w", err)
		}
		lines := bytes.Split(m.Data, []byte("\n"))
		if at.line() >= len(lines) || containsBytes(seen, lines[at.line()]) {
			continue
		}
		r, err := event.Decode[event.Record](lines[at.line()])
		if err != nil {
			return nil, fmt.Errorf("read LEDGER: %w", err)
		}
		seen = append(seen, lines[at.line()])
		out = append(out, books.Record{Seq: at.seq(), Stored: m.Time, Record: *r})
	}
	return out, nil
}

func containsBytes(list [][]byte, b []byte) bool {
	for _, have := range list {
		if bytes.Equal(have, b) {
			return true
		}
	}
	return false
}

// places are where the records about a message lie.
func (x *index) places(ctx context.Context, id place) ([]place, error) {
	rows, err := x.reader.QueryContext(ctx, "SELECT place FROM records WHERE message = ? ORDER BY place", id)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	defer rows.Close()
	var out []place
	for rows.Next() {
		var at place
		if err := rows.Scan(&at); err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		out = append(out, at)
	}
	return out, rows.Err()
}
