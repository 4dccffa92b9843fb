package ingress

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// late remembers the messages that were refused because the store did not
// acknowledge, and may have been stored: the books must say so, because the
// device will send them again. The record is written as soon as the store
// answers; of a message that was not stored it says nothing to anybody.
type late struct {
	record  func(context.Context, mail.QueueID) error
	log     zerolog.Logger
	dropped prometheus.Counter
	ids     chan mail.QueueID
}

const (
	lateMost     = 10_000          // remembered at once
	latePause    = time.Second     // between two tries
	latePatience = 5 * time.Second // for all that are left at the end
)

func newLate(record func(context.Context, mail.QueueID) error, log zerolog.Logger, dropped prometheus.Counter) *late {
	return &late{record: record, log: log, dropped: dropped, ids: make(chan mail.QueueID, lateMost)}
}

// recordLate writes the record of a message that may be accepted late.
func recordLate(bus *queue.Bus) func(context.Context, mail.QueueID) error {
	return func(ctx context.Context, id mail.QueueID) error {
		return bus.Record(ctx, "", event.Record{Stage: event.StageIngress, Outcome: event.Late, QueueID: id})
	}
}

// add remembers a message.
func (l *late) add(id mail.QueueID) {
	select {
	case l.ids <- id:
	default:
		l.drop(id)
	}
}

func (l *late) drop(id mail.QueueID) {
	l.dropped.Inc()
	l.log.Error().Str("queue_id", string(id)).Msg("message was refused and may have been stored; the ledger does not know")
}

// run writes records until ctx ends, and then tries once for what is left.
func (l *late) run(ctx context.Context) {
	for {
		select {
		case id := <-l.ids:
			if !l.write(ctx, id) {
				l.finish(id)
				return
			}
		case <-ctx.Done():
			l.finish()
			return
		}
	}
}

// write tries until the record is written; it is false when ctx ended before.
func (l *late) write(ctx context.Context, id mail.QueueID) bool {
	for ctx.Err() == nil {
		err := l.record(ctx, id)
		if err == nil {
			l.log.Warn().Str("queue_id", string(id)).Msg("message was refused for a store that did not acknowledge; if it is there, it is marked late_accept")
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(latePause):
		}
	}
	return false
}

// finish tries once for each that is left, the given ones first.
func (l *late) finish(first ...mail.QueueID) {
	ctx, cancel := context.WithTimeout(context.Background(), latePatience)
	defer cancel()
	for {
		for _, id := range first {
			if l.record(ctx, id) != nil {
				l.drop(id)
			}
		}
		select {
		case id := <-l.ids:
			first = []mail.QueueID{id}
		default:
			return
		}
	}
}
