package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrFull reports that the store has no room: the publisher may try again
// later, and nothing was stored.
var ErrFull = errors.New("store is full")

// ErrUnavailable reports that the store did not acknowledge in time. The
// message may have been stored.
var ErrUnavailable = errors.New("store did not acknowledge")

// PublishTimeout bounds one Publish with its retries. A device waits for the
// reply meanwhile: 451 must come within 10 s. Time in which the process stood
// still is not counted: it finds an acknowledgement that it has not read.
const PublishTimeout = 8 * time.Second

const (
	publishAttempt = 3 * time.Second
	publishPause   = 200 * time.Millisecond
)

// Position is where a published message was stored.
type Position struct {
	Stream string
	Seq    uint64
	// Duplicate reports that it had been stored before, at Seq.
	Duplicate bool
}

// Publish stores an event and returns when it is on stable storage. id makes
// a repeated publish the same one. It tries again for PublishTimeout or until
// ctx ends; then ErrFull or ErrUnavailable say why.
func (b *Bus) Publish(ctx context.Context, subject, id string, data []byte, opts ...jetstream.PublishOpt) (Position, error) {
	return b.publish(ctx, &nats.Msg{Subject: subject, Data: data}, id, opts...)
}

func (b *Bus) publish(ctx context.Context, m *nats.Msg, id string, opts ...jetstream.PublishOpt) (Position, error) {
	opts = append(opts, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
	for left := PublishTimeout; ; left -= publishPause {
		limit, began := min(publishAttempt, left), time.Now()
		attempt, stop := context.WithTimeout(ctx, limit)
		ack, err := b.JS.PublishMsg(attempt, m, opts...)
		stop()
		left -= min(time.Since(began), limit)
		if err == nil {
			return Position{ack.Stream, ack.Sequence, ack.Duplicate}, nil
		}
		if full(err) {
			return Position{}, fmt.Errorf("publish %s: %w: %w", m.Subject, ErrFull, err)
		}
		if permanent(err) {
			return Position{}, fmt.Errorf("publish %s: %w", m.Subject, err)
		}
		if left > publishPause {
			select {
			case <-ctx.Done():
			case <-time.After(publishPause):
				continue
			}
		}
		return Position{}, fmt.Errorf("publish %s: %w: %w", m.Subject, ErrUnavailable, err)
	}
}

// PublishLater stores an event that is delivered to target at the given time.
// The schedule has a subject of its own; publishing it again replaces it. The
// server counts whole seconds: at is rounded up, so that nothing comes early.
func (b *Bus) PublishLater(ctx context.Context, subject, target, id string, data []byte, at time.Time) (Position, error) {
	return b.Publish(ctx, subject, id, data, jetstream.WithScheduleAt(at.Add(time.Second-1).Truncate(time.Second)), jetstream.WithScheduleTarget(target))
}

// full recognises the ways in which JetStream says that there is no room:
// a stream's limit, the server's, the account's.
func full(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case 10077, 10023, 10002, 10028, 10047:
		return true
	}
	return false
}

// Overtaken reports a write that was to follow a certain message of its subject,
// or none, and found another there: somebody else was faster. A replicated
// stream says so under a code of its own.
func Overtaken(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	return api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// permanent recognises errors that no repetition mends.
func permanent(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case 10054, 10097: // message or header larger than the stream allows
			return true
		}
		return Overtaken(err)
	}
	return errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubject)
}
