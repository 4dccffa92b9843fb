package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// Mail that is held waits in HELD, one message on HeldSubject: a message of the
// relay for some of its recipients, or one of its jobs. Who decides about
// it writes that on DecisionSubject: of several who do at once, one does. Policy
// carries decisions out, and then takes the message from HELD; the decision stays
// for decisionTTL, so that who tries to hold it again finds that it was decided.

// ErrNotHeld reports a message that is not held.
var ErrNotHeld = errors.New("it is not held")

// ErrDecided reports a held message about which somebody has decided already.
var ErrDecided = errors.New("somebody decided about it already")

// decisionTTL is how long a decision is known. Nothing that was read before it
// comes again so late; and where nobody could carry it out in that time, the
// message is still held.
const decisionTTL = 7 * 24 * time.Hour

// HeldEntry is one held message as it lies in HELD.
type HeldEntry struct {
	event.Held
	Seq uint64
	// Decision is what was decided, and not carried out yet; nil for nothing.
	// DecidedSeq is its sequence, where one entry was asked for.
	Decision   *event.Decision
	DecidedSeq uint64
}

// Hold stores a message in HELD, and returns when it is on stable storage. One
// that is held already, or was decided about, stays as it is.
func (b *Bus) Hold(ctx context.Context, h *event.Held) error {
	switch was, err := b.WasHeld(ctx, h.Message.QueueID, h.Part()); {
	case err != nil:
		return err
	case was:
		return nil
	}
	return b.hold(ctx, h)
}

// HoldAgain is Hold for who knows that nothing became of what was decided about
// the message, if anything was: it is forgotten.
func (b *Bus) HoldAgain(ctx context.Context, h *event.Held) error {
	s, err := b.stream(ctx, StreamHeld)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(DecisionSubject(h.Message.QueueID, h.Part())))
	}
	if err != nil {
		return fmt.Errorf("hold %s again: %w", h.Message.QueueID, err)
	}
	return b.hold(ctx, h)
}

func (b *Bus) hold(ctx context.Context, h *event.Held) error {
	h.Schema, h.Message.Schema = event.Schema, event.Schema
	subject := HeldSubject(h.Message.QueueID, h.Part())
	// An id of its own: the server would take what HELD lost for what it has.
	_, err := b.Publish(ctx, subject, subject+"/"+strconv.FormatInt(time.Now().UnixNano(), 36), event.Encode(h), jetstream.WithExpectLastSequenceForSubject(0, subject))
	if err != nil && !Overtaken(err) {
		return fmt.Errorf("hold %s: %w", h.Message.QueueID, err)
	}
	return nil
}

// WasHeld reports a part of a message that is held, or was until somebody
// decided.
func (b *Bus) WasHeld(ctx context.Context, id mail.QueueID, part string) (bool, error) {
	_, err := b.HeldPart(ctx, id, part)
	if errors.Is(err, ErrNotHeld) {
		var d *event.Decision
		d, _, err = b.decisionOf(ctx, id, part)
		return d != nil, err
	}
	return err == nil, err
}

// HeldOf is a held message; ErrNotHeld says that it is none.
func (b *Bus) HeldOf(ctx context.Context, id mail.QueueID) (*HeldEntry, error) {
	return b.HeldPart(ctx, id, "")
}

// HeldPart is a part of a message that is held; ErrNotHeld says that it is not.
func (b *Bus) HeldPart(ctx context.Context, id mail.QueueID, part string) (*HeldEntry, error) {
	h, seq, err := last(ctx, b, HeldSubject(id, part), event.Decode[event.Held])
	if err == nil && h == nil {
		err = fmt.Errorf("%s: %w", id, ErrNotHeld)
	}
	if err != nil {
		return nil, err
	}
	e := &HeldEntry{Held: *h, Seq: seq}
	e.Decision, e.DecidedSeq, err = b.decisionOf(ctx, id, part)
	return e, err
}

// HeldPartsOf hands every part of a message that is held to each.
func (b *Bus) HeldPartsOf(ctx context.Context, id mail.QueueID, each func(*HeldEntry) error) error {
	return b.List(ctx, StreamHeld, HeldSubject(id, "*"), 0, func(m *jetstream.RawStreamMsg) error {
		h, err := event.Decode[event.Held](m.Data)
		if err != nil {
			return nil
		}
		e := &HeldEntry{Held: *h, Seq: m.Sequence}
		if e.Decision, _, err = b.decisionOf(ctx, id, h.Part()); err != nil {
			return err
		}
		return each(e)
	})
}

func (b *Bus) decisionOf(ctx context.Context, id mail.QueueID, part string) (*event.Decision, uint64, error) {
	return last(ctx, b, DecisionSubject(id, part), event.Decode[event.Decision])
}

// last reads the last message of a subject of HELD; nil when there is none.
func last[E any](ctx context.Context, b *Bus, subject string, decode func([]byte) (*E, error)) (*E, uint64, error) {
	m, err := b.atLeader(ctx, StreamHeld, map[string]any{"last_by_subj": subject})
	if err != nil || m == nil {
		return nil, 0, err
	}
	e, err := decode(m.Data)
	return e, m.Seq, err
}

// Decide stores what is to become of a held message; policy carries it out. It is
// ErrNotHeld for a message that is not held, and ErrDecided when somebody was
// faster. Deciding the same again is no error.
func (b *Bus) Decide(ctx context.Context, d event.Decision) error {
	h, err := b.HeldPart(ctx, d.QueueID, d.Part)
	if err != nil {
		return err
	}
	before, seq, err := b.decisionOf(ctx, d.QueueID, d.Part)
	switch {
	case err != nil:
		return err
	case before != nil && before.Same(&d):
		return nil
	case !d.Replaces(before):
		return fmt.Errorf("%s: %w", d.QueueID, ErrDecided)
	}
	// The books go by time: a decision is later than what it is about, whatever
	// the clock of who decides says.
	d.Schema = event.Schema
	if d.At.IsZero() {
		d.At = time.Now().UTC()
	}
	if !d.At.After(h.At) {
		d.At = h.At.Add(time.Nanosecond)
	}
	subject := DecisionSubject(d.QueueID, d.Part)
	_, err = b.Publish(ctx, subject, subject+"/"+strconv.FormatInt(time.Now().UnixNano(), 36), event.Encode(&d),
		jetstream.WithExpectLastSequenceForSubject(seq, subject), jetstream.WithMsgTTL(decisionTTL))
	if Overtaken(err) {
		now, _, failed := b.decisionOf(ctx, d.QueueID, d.Part)
		if failed != nil || now != nil && now.Same(&d) {
			return failed
		}
		return fmt.Errorf("%s: %w", d.QueueID, ErrDecided)
	}
	if err != nil {
		return fmt.Errorf("decide about %s: %w", d.QueueID, err)
	}
	return nil
}

// Unhold takes a message from HELD, about which a decision was carried out.
func (b *Bus) Unhold(ctx context.Context, e *HeldEntry) error {
	s, err := b.stream(ctx, StreamHeld)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", StreamHeld, err)
	}
	err = s.DeleteMsg(ctx, e.Seq)
	if err != nil && !gone(err) {
		return fmt.Errorf("take %s from %s: %w", e.Message.QueueID, StreamHeld, err)
	}
	return nil
}

// gone reports that what was to be deleted is not there.
func gone(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrMsgNotFound) || errors.As(err, &api) && (api.ErrorCode == 10057 || api.ErrorCode == jetstream.JSErrCodeMessageNotFound)
}

// ListHeld hands everything that is held to each, with what was decided about it.
// What cannot be read has nothing but its QueueID, and err says why.
func (b *Bus) ListHeld(ctx context.Context, each func(e HeldEntry, err error) error) error {
	decided := map[string]*event.Decision{}
	err := b.ListDecisions(ctx, 0, func(d *event.Decision) error {
		decided[HeldSubject(d.QueueID, d.Part)] = d
		return nil
	})
	if err != nil {
		return err
	}
	return b.List(ctx, StreamHeld, HeldSubjects, 0, func(m *jetstream.RawStreamMsg) error {
		e := HeldEntry{Seq: m.Sequence}
		h, err := event.Decode[event.Held](m.Data)
		if err != nil {
			id, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, "held."), ".")
			e.Message.QueueID = mail.QueueID(id)
			return each(e, err)
		}
		e.Held = *h
		if d := decided[m.Subject]; d != nil && d.Verb != event.Undo {
			e.Decision = d
		}
		return each(e, nil)
	})
}

// ListDecisions hands what was decided to each, what was carried out among it,
// from a sequence of HELD on. What cannot be read is passed over.
func (b *Bus) ListDecisions(ctx context.Context, from uint64, each func(*event.Decision) error) error {
	return b.List(ctx, StreamHeld, DecisionSubjects, from, func(m *jetstream.RawStreamMsg) error {
		d, err := event.Decode[event.Decision](m.Data)
		if err != nil {
			return nil
		}
		return each(d)
	})
}

// HeldNews is what came to HELD: one of both, that which is held or what was
// decided.
type HeldNews struct {
	Held     *event.Held
	Decision *event.Decision
	Stored   time.Time
}

// ListHeldNews hands what came to HELD from a sequence on to each, in order, and
// says where to go on. What cannot be read is passed over.
func (b *Bus) ListHeldNews(ctx context.Context, from uint64, each func(HeldNews) error) (next uint64, err error) {
	next = from
	err = b.List(ctx, StreamHeld, "", from, func(m *jetstream.RawStreamMsg) error {
		news := HeldNews{Stored: m.Time}
		if strings.HasPrefix(m.Subject, "held.") {
			news.Held, _ = event.Decode[event.Held](m.Data)
		} else {
			news.Decision, _ = event.Decode[event.Decision](m.Data)
		}
		if err := each(news); err != nil {
			return err
		}
		next = m.Sequence + 1
		return nil
	})
	return next, err
}
