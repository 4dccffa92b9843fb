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

// stored is one record as it lies in LEDGER.
type stored struct {
	seq    uint64
	at     time.Time // when LEDGER stored it
	record *event.Record
}

// foldBatch enters records into the index, and the checkpoint with them, in
// one transaction. Records without an event could not be read.
func (x *index) foldBatch(ctx context.Context, at checkpoint, records []stored) (checkpoint, error) {
	ctx = context.WithoutCancel(ctx)
	b := &batch{ctx: ctx, save: x.save, accounts: map[mail.QueueID]*entry{}, tally: tally{}}
	err := x.within(ctx, func() error {
		for _, r := range records {
			at.seq = r.seq
			if r.record == nil {
				at.unreadable++
				continue
			}
			if err := b.fold(r.record, r.seq); err != nil {
				return err
			}
		}
		if err := b.store(); err != nil {
			return err
		}
		_, err := x.save.checkpoint.ExecContext(ctx, at.stream, at.seq, at.horizon, at.unreadable)
		return err
	})
	return at, err
}

// batch is the accounts that a transaction changes: each is read once, folded
// in memory as often as records speak of it, and written once.
type batch struct {
	ctx      context.Context
	save     *statements
	accounts map[mail.QueueID]*entry
	order    []*entry
	tally    tally
}

// entry is an account in memory.
type entry struct {
	account
	seqs []uint64 // of the records folded in this batch
	// known says that the message is in the file; complete, that all its
	// recipients are in memory.
	known, complete bool
}

func (b *batch) fold(r *event.Record, seq uint64) error {
	e, err := b.load(r)
	if err != nil {
		return err
	}
	e.fold(r, seq)
	e.seqs = append(e.seqs, seq)
	return nil
}

// load reads what the record is about into memory. The accepted record may
// name an owner, and then concerns every recipient.
func (b *batch) load(r *event.Record) (*entry, error) {
	e := b.accounts[r.QueueID]
	if e == nil {
		e = &entry{account: account{recipients: map[string]*recipient{}}}
		known, err := b.save.readMessage(b.ctx, r.QueueID, &e.message)
		if err != nil {
			return nil, err
		}
		e.known, e.complete = known, !known
		b.accounts[r.QueueID] = e
		b.order = append(b.order, e)
	}
	if e.complete {
		return e, nil
	}
	if r.Outcome == event.Entered {
		e.complete = true
		return e, b.loadRecipients(e, "")
	}
	for i := range r.Recipients {
		address := r.Recipients[i].Address.String()
		if e.recipients[address] == nil {
			if err := b.loadRecipients(e, address); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// loadRecipients reads one recipient or, without an address, those that are
// not in memory yet, and takes them out of the tally as they were.
func (b *batch) loadRecipients(e *entry, address string) error {
	list, err := b.save.readRecipients(b.ctx, e.firstSeq, address)
	if err != nil {
		return err
	}
	for _, rcpt := range list {
		if e.recipients[rcpt.address] != nil {
			continue
		}
		e.recipients[rcpt.address] = rcpt
		b.tally.add(&e.message, rcpt, -1)
	}
	return nil
}

// store writes the accounts, and what they now count for.
func (b *batch) store() error {
	for _, e := range b.order {
		if err := b.save.writeMessage(b.ctx, &e.message); err != nil {
			return err
		}
		for _, rcpt := range e.recipients {
			b.tally.add(&e.message, rcpt, 1)
			if err := b.save.writeRecipient(b.ctx, e.firstSeq, rcpt); err != nil {
				return err
			}
		}
		for _, seq := range e.seqs {
			if _, err := b.save.record.ExecContext(b.ctx, e.firstSeq, seq); err != nil {
				return fmt.Errorf("write record: %w", err)
			}
		}
	}
	return b.save.writeTally(b.ctx, b.tally)
}

// statements are the prepared statements of the writer.
type statements struct {
	message, putMessage      *sql.Stmt
	recipient, recipients    *sql.Stmt
	putRecipient             *sql.Stmt
	record, count, uncount   *sql.Stmt
	checkpoint               *sql.Stmt
	all                      []*sql.Stmt
}

const (
	messageColumns = `id, queue_id, last_seq, accepted_seq, accepted_at, message_id, submission_id, sender,
		device, owner, class, size, late_accept, report_of, stream, seq`
	recipientColumns = `address, destination, accepted, state, settled_at, settled_key, attempts,
		possible_duplicate, conflict, last_rank, remote_mta, status, diagnostic, decided_rank, actor, reason`
)

func prepare(ctx context.Context, conn *sql.Conn) (*statements, error) {
	s := &statements{}
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&s.message, "SELECT " + messageColumns + " FROM messages WHERE queue_id = ?"},
		{&s.putMessage, "INSERT OR REPLACE INTO messages (" + messageColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&s.recipient, "SELECT " + recipientColumns + " FROM recipients WHERE message = ? AND address = ?"},
		{&s.recipients, "SELECT " + recipientColumns + " FROM recipients WHERE message = ?"},
		{&s.putRecipient, "INSERT OR REPLACE INTO recipients (message, " + recipientColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&s.record, "INSERT OR IGNORE INTO records VALUES (?,?)"},
		{&s.count, "INSERT INTO tally VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n"},
		{&s.uncount, "DELETE FROM tally WHERE owner = ? AND destination = ? AND what = ? AND n = 0"},
		{&s.checkpoint, "UPDATE checkpoint SET stream = ?, seq = ?, horizon = ?, unreadable = ?"},
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

func (s *statements) readMessage(ctx context.Context, id mail.QueueID, m *message) (bool, error) {
	err := scanMessage(s.message.QueryRowContext(ctx, string(id)), m)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read message: %w", err)
	}
	return true, nil
}

func (s *statements) readRecipients(ctx context.Context, message uint64, address string) ([]*recipient, error) {
	rows, err := s.recipients.QueryContext(ctx, message)
	if address != "" {
		if err == nil {
			rows.Close()
		}
		rows, err = s.recipient.QueryContext(ctx, message, address)
	}
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return scanRecipients(rows)
}

func (s *statements) writeMessage(ctx context.Context, m *message) error {
	_, err := s.putMessage.ExecContext(ctx, m.firstSeq, string(m.queueID), m.lastSeq, m.acceptedSeq, nanos(m.acceptedAt), m.messageID, m.submissionID, m.sender,
		m.device, m.owner, string(m.class), m.size, m.lateAccept, string(m.reportOf), m.content.Stream, m.content.Seq)
	if err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

func (s *statements) writeRecipient(ctx context.Context, message uint64, r *recipient) error {
	_, err := s.putRecipient.ExecContext(ctx, message, r.address, r.destination, r.accepted, int(r.state), nanos(r.settledAt), r.settledKey, r.attempts,
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
		if n < 0 {
			if _, err := s.uncount.ExecContext(ctx, k.owner, k.destination, k.what); err != nil {
				return fmt.Errorf("write tally: %w", err)
			}
		}
	}
	return nil
}
