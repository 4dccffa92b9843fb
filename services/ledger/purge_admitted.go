package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
)

// admittedAge is how long an event stays in ADMITTED after the signer
// acknowledged it: longer than the server recognises a repeated publish, since
// policy then reads what it decided before.
const admittedAge = 10 * time.Minute

// mark is where a stream ended at a time.
type mark struct {
	at   time.Time
	last uint64
}

// admitted purges what the signer acknowledged of ADMITTED, up to where it
// ended admittedAge ago.
func (p *purger) admitted(ctx context.Context) error {
	s, err := p.bus.JS.Stream(ctx, queue.StreamAdmitted)
	if err != nil {
		return fmt.Errorf("purge %s: %w", queue.StreamAdmitted, err)
	}
	state := s.CachedInfo().State
	p.marks = append(p.marks, mark{p.now, state.LastSeq})
	old := 0
	for old < len(p.marks) && p.now.Sub(p.marks[old].at) >= admittedAge {
		old++
	}
	if old == 0 {
		return nil
	}
	p.marks = p.marks[old-1:]
	seq := p.marks[0].last
	for _, lane := range admittedLanes {
		signed, err := signedUpTo(ctx, p.bus, signerDurable+string(lane), state.LastSeq)
		if err != nil {
			return fmt.Errorf("purge %s: %w", queue.StreamAdmitted, err)
		}
		seq = min(seq, signed)
	}
	if seq < state.FirstSeq || state.Msgs == 0 || p.ledger.held() {
		return nil
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(seq+1)); err != nil {
		return fmt.Errorf("purge %s: %w", queue.StreamAdmitted, err)
	}
	p.metrics.purged(queue.StreamAdmitted, int(seq+1-state.FirstSeq), 0)
	return nil
}

// signedUpTo is the sequence up to which the signer has acknowledged a lane. A
// lane without a message since is done up to last, the end of the stream
// before it was asked.
func signedUpTo(ctx context.Context, bus *queue.Bus, durable string, last uint64) (uint64, error) {
	c, err := bus.JS.Consumer(ctx, queue.StreamAdmitted, durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	info := c.CachedInfo()
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return last, nil
	}
	return min(last, info.AckFloor.Stream), nil
}
