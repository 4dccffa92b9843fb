package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
)

// head is a message of a stream without its content.
type head struct {
	seq     uint64
	subject string
	id      string // of the publish
	size    int64  // octets
	stored  time.Time
}

// errScan reports messages that were lost on the way, or never came.
var errScan = errors.New("the server's answers have a gap")

// scanHeads hands the head of every message from a sequence on to each, in order
// and without a gap, until that is false. It asks for one, then for more at a
// time, up to most. Silence is not taken for the end: recovery would drive again
// what it did not get to see. The consumer goes in the end, since each that
// stays costs every message that is stored.
func scanHeads(ctx context.Context, bus *queue.Bus, stream string, from uint64, most int, each func(head) (bool, error)) error {
	config := jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute}
	if from > 1 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	c, err := bus.JS.CreateConsumer(ctx, stream, config)
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	defer bus.JS.DeleteConsumer(context.WithoutCancel(ctx), stream, c.CachedInfo().Name)
	left := c.CachedInfo().NumPending > 0
	next := uint64(1) // sequence of the delivery
	for n := 1; left; n = min(4*n, most) {
		batch, err := c.FetchNoWait(n)
		if err != nil {
			return fmt.Errorf("scan %s: %w", stream, err)
		}
		came := false
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err == nil && meta.Sequence.Consumer != next {
				err = errScan
			}
			if err != nil {
				return fmt.Errorf("scan %s: %w", stream, err)
			}
			next++
			came, left = true, meta.NumPending > 0
			if again, err := each(headOf(m, meta)); err != nil || !again {
				return err
			}
		}
		if err := batch.Error(); err != nil {
			return fmt.Errorf("scan %s: %w", stream, err)
		}
		if !came {
			return nothingLeft(ctx, stream, c)
		}
	}
	return nil
}

// nothingLeft confirms that nothing came because nothing was there any more:
// canaries come and go.
func nothingLeft(ctx context.Context, stream string, c jetstream.Consumer) error {
	info, err := c.Info(ctx)
	if err == nil && info.NumPending > 0 {
		err = errScan
	}
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	return nil
}

func headOf(m jetstream.Msg, meta *jetstream.MsgMetadata) head {
	h := head{seq: meta.Sequence.Stream, subject: m.Subject(), id: m.Headers().Get(jetstream.MsgIDHeader), stored: meta.Timestamp}
	h.size, _ = strconv.ParseInt(m.Headers().Get("Nats-Msg-Size"), 10, 64)
	return h
}
