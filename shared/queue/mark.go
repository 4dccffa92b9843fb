package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// LEDGER only grows, and what the relay sends rests on it: a copy of it that
// was restored from an earlier time would have mail sent again that was
// delivered since. So a mark of how far it was is kept beside it, and whoever
// sends, purges or drives asks whether LEDGER still agrees with its mark.

// ErrRolledBack reports a LEDGER that is not what it was: shorter, restored
// from an earlier copy, or made anew. Nothing may be sent, purged or driven
// until a person has confirmed the plan of `postrider ledger recover`.
var ErrRolledBack = errors.New("LEDGER is behind its mark: it was restored from an earlier copy, or made anew")

// keyMark is where the mark lies in the bucket of settings.
const keyMark = "ledger-mark"

// Mark is a place that LEDGER has reached.
type Mark struct {
	// Stream tells LEDGER from one of the same name that was made later.
	Stream string `json:"stream"`
	// Seq is its last sequence, stored at Time. Time is zero when nothing was
	// stored, or it is no longer there for its age.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time,omitzero"`
	// Accepted is when a person last accepted LEDGER as it was.
	Accepted time.Time `json:"accepted,omitzero"`
}

// CheckLedger is nil while LEDGER agrees with its mark, and ErrRolledBack when
// it does not. Any other error is trouble with the bus.
func (b *Bus) CheckLedger(ctx context.Context) error {
	mark, _, err := b.ledgerMark(ctx)
	if err != nil {
		return err
	}
	return b.Agrees(ctx, mark)
}

// Agrees is nil when LEDGER is the stream of the mark, has reached it, and has
// there what it had; otherwise ErrRolledBack, or trouble with the bus.
func (b *Bus) Agrees(ctx context.Context, m Mark) error {
	if m.Stream == "" {
		return nil
	}
	s, err := b.JS.Stream(ctx, StreamLedger)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: it is gone", ErrRolledBack)
	}
	if err != nil {
		return fmt.Errorf("ask for LEDGER: %w", err)
	}
	info := s.CachedInfo()
	switch {
	case StreamIdentity(info) != m.Stream:
		return fmt.Errorf("%w: it was made %s, and not %s", ErrRolledBack, StreamIdentity(info), m.Stream)
	case info.State.LastSeq < m.Seq:
		return fmt.Errorf("%w: it ends at %d, and not at %d", ErrRolledBack, info.State.LastSeq, m.Seq)
	case m.Time.IsZero() || m.Seq < info.State.FirstSeq:
		return nil
	}
	at, err := storedAt(ctx, s, m.Seq)
	if err != nil {
		return err
	}
	if !at.IsZero() && !at.Equal(m.Time) {
		return fmt.Errorf("%w: what it has at %d was stored %s, and not %s", ErrRolledBack, m.Seq, at, m.Time)
	}
	return nil
}

// LedgerEnd is how far LEDGER is now.
func (b *Bus) LedgerEnd(ctx context.Context) (Mark, error) {
	s, err := b.JS.Stream(ctx, StreamLedger)
	if err != nil {
		return Mark{}, fmt.Errorf("ask for LEDGER: %w", err)
	}
	info := s.CachedInfo()
	m := Mark{Stream: StreamIdentity(info), Seq: info.State.LastSeq}
	m.Time, err = storedAt(ctx, s, m.Seq)
	return m, err
}

// MarkLedger moves the mark to the end of LEDGER, unless LEDGER disagrees with
// it: then it stays, and the error is ErrRolledBack.
func (b *Bus) MarkLedger(ctx context.Context) error {
	mark, revision, err := b.ledgerMark(ctx)
	if err != nil {
		return err
	}
	if err := b.Agrees(ctx, mark); err != nil {
		return err
	}
	end, err := b.LedgerEnd(ctx)
	if err != nil || end.Stream == mark.Stream && end.Seq == mark.Seq {
		return err
	}
	end.Accepted = mark.Accepted
	return b.setMark(ctx, end, revision)
}

// Accuse puts a mark in the place of one that LEDGER agrees with: somebody
// else than the mark knows that LEDGER was further, or another. What was known
// before LEDGER was last accepted counts no more.
func (b *Bus) Accuse(ctx context.Context, m Mark) error {
	mark, revision, err := b.ledgerMark(ctx)
	if err != nil {
		return err
	}
	err = b.Agrees(ctx, mark)
	if errors.Is(err, ErrRolledBack) {
		return nil // it is known
	}
	if err != nil || !m.Time.After(mark.Accepted) {
		return err
	}
	m.Accepted = mark.Accepted
	return b.setMark(ctx, m, revision)
}

// AcceptLedger makes the end of LEDGER its mark, whatever the mark was.
func (b *Bus) AcceptLedger(ctx context.Context) error {
	_, revision, err := b.ledgerMark(ctx)
	if err != nil {
		return err
	}
	end, err := b.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	end.Accepted = time.Now().UTC()
	return b.setMark(ctx, end, revision)
}

// LedgerMark is the mark as it is, for those who show it.
func (b *Bus) LedgerMark(ctx context.Context) (Mark, error) {
	m, _, err := b.ledgerMark(ctx)
	return m, err
}

// ledgerMark reads the mark with its revision; a relay that has none yet has
// the zero mark.
func (b *Bus) ledgerMark(ctx context.Context) (m Mark, revision uint64, err error) {
	kv, err := b.JS.KeyValue(ctx, BucketSettings)
	if err != nil {
		return m, 0, fmt.Errorf("open bucket %s: %w", BucketSettings, err)
	}
	entry, err := kv.Get(ctx, keyMark)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return m, 0, nil
	}
	if err != nil {
		return m, 0, fmt.Errorf("read mark of LEDGER: %w", err)
	}
	if err := json.Unmarshal(entry.Value(), &m); err != nil {
		return m, 0, fmt.Errorf("read mark of LEDGER: %w", err)
	}
	return m, entry.Revision(), nil
}

// setMark replaces the mark of that revision: who read an older one has
// nothing to say.
func (b *Bus) setMark(ctx context.Context, m Mark, revision uint64) error {
	kv, err := b.JS.KeyValue(ctx, BucketSettings)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", BucketSettings, err)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write mark of LEDGER: %w", err)
	}
	if _, err := kv.Update(ctx, keyMark, data, revision); err != nil {
		return fmt.Errorf("write mark of LEDGER: %w", err)
	}
	return nil
}

// StreamIdentity tells a stream from one of the same name made later.
func StreamIdentity(info *jetstream.StreamInfo) string {
	return info.Created.UTC().Format(time.RFC3339Nano)
}

// storedAt is when a message was stored; zero for one that is not there.
func storedAt(ctx context.Context, s jetstream.Stream, seq uint64) (time.Time, error) {
	if seq == 0 {
		return time.Time{}, nil
	}
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read LEDGER at %d: %w", seq, err)
	}
	return m.Time.UTC(), nil
}
