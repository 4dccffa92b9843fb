package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// statements are the prepared statements of the writer.
type statements struct {
	message, putMessage                 *sql.Stmt
	recipient, recipients, putRecipient *sql.Stmt
	record, count, uncount, checkpoint  *sql.Stmt
	use, entrance, returned, failure    *sql.Stmt
	observed, hour, hourSender          *sql.Stmt
	all                                 []*sql.Stmt
}

// The columns in the order in which scanMessage and scanRecipient read them.
const (
	messageColumns = `m.id, m.queue_id, m.accepted_seq, m.accepted_at, m.message_id, m.submission_id, m.sender,
		m.device, m.owner, m.client, m.by_login, m.class, m.size, m.late_accept, m.report_of, m.stream, m.seq, m.drive, m.phi`
	recipientColumns = `r.address, r.destination, r.accepted, r.state, r.settled_at, r.settled_key, r.attempts, r.failed, r.kept, r.released,
		r.possible_duplicate, r.conflict, r.last_rank, r.remote_mta, r.status, r.diagnostic, r.decided_rank, r.actor, r.reason`
)

func prepare(ctx context.Context, conn *sql.Conn) (*statements, error) {
	s := &statements{}
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&s.message, "SELECT " + messageColumns + " FROM messages m WHERE queue_id = ?"},
		// OR REPLACE would have a journal of its own for each row: 64 KiB, mapped
		// and unmapped again.
		{&s.putMessage, `INSERT INTO messages (id, queue_id, accepted_seq, accepted_at, message_id, submission_id, sender,
			device, owner, client, by_login, class, size, late_accept, report_of, stream, seq, drive, phi) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
			ON CONFLICT (id) DO UPDATE SET accepted_seq = excluded.accepted_seq, accepted_at = excluded.accepted_at,
			message_id = excluded.message_id, submission_id = excluded.submission_id, sender = excluded.sender, device = excluded.device,
			owner = excluded.owner, client = excluded.client, by_login = excluded.by_login, class = excluded.class, size = excluded.size, late_accept = excluded.late_accept,
			report_of = excluded.report_of, stream = excluded.stream, seq = excluded.seq, drive = excluded.drive, phi = excluded.phi`},
		{&s.recipient, "SELECT " + recipientColumns + " FROM recipients r WHERE message = ? AND address = ?"},
		{&s.recipients, "SELECT " + recipientColumns + " FROM recipients r WHERE message = ?"},
		// An update leaves the index of addresses alone, a replacement would not.
		{&s.putRecipient, `INSERT INTO recipients (message, address, destination, accepted, state, settled_at, settled_key, attempts, failed, kept, released,
			possible_duplicate, conflict, last_rank, remote_mta, status, diagnostic, decided_rank, actor, reason)
			VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (message, address) DO UPDATE SET
			accepted = excluded.accepted, state = excluded.state, settled_at = excluded.settled_at, settled_key = excluded.settled_key,
			attempts = excluded.attempts, failed = excluded.failed, kept = excluded.kept, released = excluded.released, possible_duplicate = excluded.possible_duplicate, conflict = excluded.conflict,
			last_rank = excluded.last_rank, remote_mta = excluded.remote_mta, status = excluded.status, diagnostic = excluded.diagnostic,
			decided_rank = excluded.decided_rank, actor = excluded.actor, reason = excluded.reason`},
		{&s.record, "INSERT OR IGNORE INTO records VALUES (?,?)"},
		{&s.count, "INSERT INTO tally VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n"},
		{&s.uncount, "DELETE FROM tally WHERE owner = ? AND destination = ? AND what = ? AND n = 0"},
		{&s.use, "INSERT INTO uses VALUES (?,?,?) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)"},
		{&s.entrance, "INSERT INTO entrances VALUES (?,?,?) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)"},
		{&s.returned, "INSERT OR IGNORE INTO returned VALUES (?,?,?)"},
		{&s.observed, `INSERT INTO observed VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
			n = n + excluded.n, last = excluded.last, sender = excluded.sender, queue_id = excluded.queue_id`},
		{&s.failure, "INSERT OR IGNORE INTO failures VALUES (?,?,?)"},
		{&s.hour, `INSERT INTO hours (device, hour, messages, recipients, unknown, senders, suspect, bare) VALUES (?,?,?,?,?,?,?,?)
			ON CONFLICT DO UPDATE SET messages = messages + excluded.messages, recipients = recipients + excluded.recipients,
			unknown = unknown + excluded.unknown, senders = senders + excluded.senders, suspect = suspect + excluded.suspect, bare = bare + excluded.bare`},
		{&s.hourSender, "INSERT OR IGNORE INTO hour_senders VALUES (?,?,?)"},
		{&s.checkpoint, "UPDATE checkpoint SET stream = ?, seq = ?, at = ?, horizon = ?, unreadable = ?"},
	} {
		stmt, err := conn.PrepareContext(ctx, p.sql)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("prepare statement: %w", err)
		}
		*p.to, s.all = stmt, append(s.all, stmt)
	}
	return s, nil
}

func (s *statements) close() {
	for _, stmt := range s.all {
		stmt.Close()
	}
}

// readMessage leaves m as it is when the index does not know the message.
func (s *statements) readMessage(ctx context.Context, id mail.QueueID, m *message) error {
	err := scanMessage(s.message.QueryRowContext(ctx, string(id)), m)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read message: %w", err)
	}
	return nil
}

// readRecipients reads one recipient or, without an address, all.
func (s *statements) readRecipients(ctx context.Context, message place, address string) ([]*recipient, error) {
	stmt, args := s.recipients, []any{message}
	if address != "" {
		stmt, args = s.recipient, []any{message, address}
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return scanRecipients(rows)
}

func (s *statements) writeMessage(ctx context.Context, m *message) error {
	_, err := s.putMessage.ExecContext(ctx, m.first, string(m.queueID), m.acceptedSeq, nanos(m.acceptedAt), m.messageID, m.submissionID, m.sender,
		m.device, m.owner, m.client, m.byLogin, string(m.class), m.size, m.lateAccept, string(m.reportOf), m.content.Stream, m.content.Seq, m.drive, m.phi)
	if err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

func (s *statements) writeRecipient(ctx context.Context, message place, r *recipient) error {
	_, err := s.putRecipient.ExecContext(ctx, message, r.address, r.destination, r.accepted, int(r.state), nanos(r.settledAt), r.settledKey, r.attempts, r.failed, r.kept, r.released,
		r.possibleDup, r.conflict, r.last.rank, r.last.remoteMTA, r.last.status, r.last.diagnostic, r.decided.rank, r.decided.actor, r.decided.reason)
	if err != nil {
		return fmt.Errorf("write recipient: %w", err)
	}
	return nil
}

func (s *statements) writeTally(ctx context.Context, t tally) error {
	for k, n := range t {
		if n == 0 {
			continue
		}
		if _, err := s.count.ExecContext(ctx, k.owner, k.destination, k.what, n); err != nil {
			return fmt.Errorf("write tally: %w", err)
		}
		if n > 0 {
			continue
		}
		if _, err := s.uncount.ExecContext(ctx, k.owner, k.destination, k.what); err != nil {
			return fmt.Errorf("write tally: %w", err)
		}
	}
	return nil
}

func (s *statements) writeCheckpoint(ctx context.Context, c checkpoint) error {
	if _, err := s.checkpoint.ExecContext(ctx, c.stream, c.seq, c.at, c.horizon, c.unreadable); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// scanner is a row or rows.
type scanner interface{ Scan(dest ...any) error }

// scanMessage reads messageColumns.
func scanMessage(row scanner, m *message) error {
	t := messageTargets{message: m}
	if err := row.Scan(t.targets()...); err != nil {
		return err
	}
	t.finish()
	return nil
}

// scanRecipient reads recipientColumns.
func scanRecipient(row scanner, r *recipient) error {
	t := recipientTargets{recipient: r}
	if err := row.Scan(t.targets()...); err != nil {
		return err
	}
	t.finish()
	return nil
}

// scanPair reads messageColumns and recipientColumns.
func scanPair(row scanner, p *pair) error {
	m, r := messageTargets{message: &p.message}, recipientTargets{recipient: &p.recipient}
	if err := row.Scan(append(m.targets(), r.targets()...)...); err != nil {
		return err
	}
	m.finish()
	r.finish()
	return nil
}

// messageTargets are where the columns of a message go.
type messageTargets struct {
	*message
	accepted int64
}

func (t *messageTargets) targets() []any {
	return []any{&t.first, &t.queueID, &t.acceptedSeq, &t.accepted, &t.messageID, &t.submissionID, &t.sender,
		&t.device, &t.owner, &t.client, &t.byLogin, &t.class, &t.size, &t.lateAccept, &t.reportOf, &t.content.Stream, &t.content.Seq, &t.drive, &t.phi}
}

func (t *messageTargets) finish() {
	t.acceptedAt, t.content.Size = instant(t.accepted), t.size
}

// recipientTargets are where the columns of a recipient go.
type recipientTargets struct {
	*recipient
	settled int64
}

func (t *recipientTargets) targets() []any {
	return []any{&t.address, &t.destination, &t.recipient.accepted, &t.state, &t.settled, &t.settledKey, &t.attempts, &t.failed, &t.kept, &t.released,
		&t.possibleDup, &t.conflict, &t.last.rank, &t.last.remoteMTA, &t.last.status, &t.last.diagnostic,
		&t.decided.rank, &t.decided.actor, &t.decided.reason}
}

func (t *recipientTargets) finish() { t.settledAt = instant(t.settled) }

// scanRecipients reads and closes rows of recipientColumns.
func scanRecipients(rows *sql.Rows) ([]*recipient, error) {
	defer rows.Close()
	var out []*recipient
	for rows.Next() {
		r := &recipient{}
		if err := scanRecipient(rows, r); err != nil {
			return nil, fmt.Errorf("read recipients: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// scanValues reads and closes rows of one column.
func scanValues[T any](rows *sql.Rows, err error) ([]T, error) {
	if err != nil {
		return nil, damaged(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, damaged(err)
		}
		out = append(out, v)
	}
	return out, damaged(rows.Err())
}

// scanRefs reads and closes rows of a stream and a sequence.
func scanRefs(rows *sql.Rows, err error) ([]event.ContentRef, error) {
	if err != nil {
		return nil, damaged(err)
	}
	defer rows.Close()
	var out []event.ContentRef
	for rows.Next() {
		var ref event.ContentRef
		if err := rows.Scan(&ref.Stream, &ref.Seq); err != nil {
			return nil, damaged(err)
		}
		out = append(out, ref)
	}
	return out, damaged(rows.Err())
}

// nanos and instant are how times lie in the file.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
