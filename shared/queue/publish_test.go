package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// silent is a store that acknowledges after so many attempts. At each before, the
// process stands still for as long; 0: the attempt ends in time.
type silent struct {
	jetstream.JetStream
	attempts int
	still    time.Duration
}

func (s *silent) PublishMsg(ctx context.Context, _ *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if s.attempts--; s.attempts < 0 {
		return &jetstream.PubAck{Stream: "MAIL_0", Sequence: 7, Duplicate: true}, nil
	}
	time.Sleep(s.still)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A process that was stopped for longer than PublishTimeout finds out that what
// it published is stored; one that was not answers in time.
func TestTimeInWhichTheProcessStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &Bus{JS: &silent{attempts: 2, still: 5 * time.Second}}
		if at, err := b.Publish(t.Context(), "mail.normal.0", "id", nil); err != nil || at.Seq != 7 {
			t.Errorf("%+v, %v", at, err)
		}
		b = &Bus{JS: &silent{attempts: 100}}
		began := time.Now()
		if _, err := b.Publish(t.Context(), "mail.normal.0", "id", nil); !errors.Is(err, ErrUnavailable) || time.Since(began) != PublishTimeout {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := b.Publish(ctx, "mail.normal.0", "id", nil); !errors.Is(err, ErrUnavailable) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
