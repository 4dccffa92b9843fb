package ledger

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// place is where a record lies in LEDGER: the sequence of the message, and
// which of its lines it is.
type place uint64

// placeOf makes a place; a message has no more than event.MaxRecords lines.
func placeOf(seq uint64, line int) place { return place(seq<<placeBits | uint64(line)) }

func (p place) seq() uint64 { return uint64(p) >> placeBits }
func (p place) line() int   { return int(p & (1<<placeBits - 1)) }

const placeBits = 10

// stored is one record as it lies in LEDGER.
type stored struct {
	place  place
	at     int64 // when LEDGER stored it
	record *event.Record
}

// foldBatch enters records into the index, and the checkpoint with them, in
// one transaction. Records without an event could not be read.
func (x *index) foldBatch(ctx context.Context, at checkpoint, records []stored) (checkpoint, error) {
	ctx = context.WithoutCancel(ctx)
	b := &batch{ctx: ctx, save: x.save, accounts: map[mail.QueueID]*entry{}, tally: tally{}}
	err := x.within(ctx, func() error {
		for _, r := range records {
			at.seq, at.at = r.place.seq(), r.at
			if r.record == nil {
				at.unreadable++
				continue
			}
			if err := b.fold(r.record, r.place); err != nil {
				return err
			}
		}
		if err := b.store(); err != nil {
			return err
		}
		return x.save.writeCheckpoint(ctx, at)
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
	uses     uses
	observed observations
}

// entry is an account in memory.
type entry struct {
	account
	before message // as it is in the file
	places []place // of the records folded in this batch
	// complete says that all its recipients are in memory.
	complete bool
}

func (b *batch) fold(r *event.Record, at place) error {
	e, err := b.load(r)
	if err != nil {
		return err
	}
	first, unknown := e.acceptedSeq == 0, e.nowUnknown(r)
	e.fold(r, at)
	b.uses.note(e, r)
	b.observed.note(e, r, at)
	b.uses.hours.unknown(e, unknown)
	if first && e.acceptedSeq != 0 {
		b.uses.hours.entered(e, r.Message, len(r.Recipients))
	}
	e.places = append(e.places, at)
	return nil
}

// load reads what the record is about into memory. The accepted record may
// name an owner, and then concerns every recipient.
func (b *batch) load(r *event.Record) (*entry, error) {
	e := b.accounts[r.QueueID]
	if e == nil {
		e = &entry{account: account{recipients: map[string]*recipient{}}}
		if err := b.save.readMessage(b.ctx, r.QueueID, &e.message); err != nil {
			return nil, err
		}
		e.before, e.complete = e.message, e.first == 0
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
	list, err := b.save.readRecipients(b.ctx, e.first, address)
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
		if e.before.acceptedSeq == 0 && e.acceptedSeq != 0 {
			b.tally[tallyKey{what: sumMessages}]++
		}
		if e.message != e.before {
			if err := b.save.writeMessage(b.ctx, &e.message); err != nil {
				return err
			}
		}
		for _, rcpt := range e.recipients {
			b.tally.add(&e.message, rcpt, 1)
			if err := b.save.writeRecipient(b.ctx, e.first, rcpt); err != nil {
				return err
			}
		}
		for _, at := range e.places {
			if _, err := b.save.record.ExecContext(b.ctx, e.first, at); err != nil {
				return fmt.Errorf("write record: %w", err)
			}
		}
	}
	if err := b.save.writeUses(b.ctx, &b.uses); err != nil {
		return err
	}
	if err := b.save.writeObserved(b.ctx, b.observed); err != nil {
		return err
	}
	return b.save.writeTally(b.ctx, b.tally)
}
