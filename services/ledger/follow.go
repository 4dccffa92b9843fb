package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
)

// A batch is folded when it has batchRecords, or batchAge after its first
// record came.
const (
	batchRecords = 500
	batchAge     = 50 * time.Millisecond
)

// idle is how long the follower waits for a record, and how often it looks
// whether LEDGER is still the same stream.
const idle = 5 * time.Second

// errOtherStream reports a LEDGER that is not the one in the index.
var errOtherStream = errors.New("LEDGER is another stream than the index was made from")

// follow folds LEDGER into the index until ctx ends. Trouble with the bus is
// waited out; errDamaged is returned.
func (l *Ledger) follow(ctx context.Context) error {
	for {
		err := l.followOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errDamaged) {
			return err
		}
		l.log.Warn().Err(err).Msg("cannot follow LEDGER, trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// followOnce folds from the checkpoint on until something fails.
func (l *Ledger) followOnce(ctx context.Context) error {
	at, err := l.resume(ctx)
	if err != nil {
		return err
	}
	consumer, err := l.bus.JS.OrderedConsumer(ctx, queue.StreamLedger, jetstream.OrderedConsumerConfig{
		DeliverPolicy:    jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:      at.seq + 1,
		MaxResetAttempts: 1, // we try again ourselves, and check the stream before
	})
	if err != nil {
		return fmt.Errorf("read LEDGER: %w", err)
	}
	iter, err := consumer.Messages(jetstream.PullMaxMessages(2 * batchRecords))
	if err != nil {
		return fmt.Errorf("read LEDGER: %w", err)
	}
	defer iter.Stop()
	stop := context.AfterFunc(ctx, iter.Stop)
	defer stop()
	var checked, pruned time.Time
	for {
		records, failed := l.collect(iter)
		if len(records) > 0 {
			if at, err = l.index.foldBatch(ctx, at, records); err != nil {
				return err
			}
			l.folded(at, len(records))
		}
		if failed != nil {
			return failed
		}
		if time.Since(checked) < idle {
			continue
		}
		info, err := l.sameStream(ctx, at)
		if err != nil {
			return err
		}
		checked = time.Now()
		if time.Since(pruned) < prunePeriod {
			continue
		}
		if err := l.index.prune(ctx, info.State.FirstSeq); err != nil {
			return err
		}
		at.horizon, pruned = horizonOf(info), time.Now()
	}
}

// resume finds where to go on. An index that was made from another stream, or
// is ahead of it, is emptied first.
func (l *Ledger) resume(ctx context.Context) (checkpoint, error) {
	at, err := l.index.checkpoint(ctx)
	if err != nil {
		return at, err
	}
	info, err := l.sameStream(ctx, at)
	if err == nil {
		l.position.set(at.seq)
		return at, nil
	}
	if !errors.Is(err, errOtherStream) {
		return at, err
	}
	if at.seq > 0 {
		l.log.Warn().Uint64("checkpoint", at.seq).Uint64("last", info.State.LastSeq).Msg("LEDGER is another stream or shorter than the index; making the index again")
	}
	if err := l.index.empty(ctx); err != nil {
		return at, err
	}
	at = checkpoint{stream: identityOf(info), seq: max(info.State.FirstSeq, 1) - 1, horizon: horizonOf(info)}
	if at, err = l.index.foldBatch(ctx, at, nil); err != nil {
		return at, err
	}
	l.position.set(at.seq)
	return at, nil
}

// sameStream asks whether LEDGER is still the stream of the checkpoint.
func (l *Ledger) sameStream(ctx context.Context, at checkpoint) (*jetstream.StreamInfo, error) {
	info, err := l.ledgerInfo(ctx)
	if err != nil {
		return nil, err
	}
	if identityOf(info) != at.stream || info.State.LastSeq < at.seq {
		return info, errOtherStream
	}
	return info, nil
}

func (l *Ledger) ledgerInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := l.bus.JS.Stream(ctx, queue.StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("ask for LEDGER: %w", err)
	}
	return s.CachedInfo(), nil
}

// identityOf tells a stream from one of the same name made later.
func identityOf(info *jetstream.StreamInfo) string {
	return info.Created.UTC().Format(time.RFC3339Nano)
}

// horizonOf is the time before which LEDGER has been trimmed; 0 for never.
func horizonOf(info *jetstream.StreamInfo) int64 {
	if info.State.FirstSeq <= 1 {
		return 0
	}
	return nanos(info.State.FirstTime)
}

// collect gathers the next batch; it is empty when LEDGER is idle. An error
// comes with what was gathered before it.
func (l *Ledger) collect(iter jetstream.MessagesContext) ([]stored, error) {
	var out []stored
	end := time.Now().Add(idle)
	for len(out) < batchRecords {
		wait := time.Until(end)
		if wait <= 0 {
			return out, nil
		}
		m, err := iter.Next(jetstream.NextMaxWait(wait))
		if errors.Is(err, nats.ErrTimeout) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("read LEDGER: %w", err)
		}
		records, err := l.read(m)
		if err != nil {
			return out, err
		}
		if len(out) == 0 {
			end = time.Now().Add(batchAge)
		}
		out = append(out, records...)
	}
	return out, nil
}

// read decodes the records of a message. One that cannot be read is counted
// and passed over: it must not stop the books.
func (l *Ledger) read(m jetstream.Msg) ([]stored, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read LEDGER: %w", err)
	}
	records, err := event.DecodeRecords(m.Data())
	if err != nil {
		l.log.Error().Err(err).Uint64("seq", meta.Sequence.Stream).Msg("record of LEDGER cannot be read")
		records = append(records, make([]*event.Record, max(0, 1-len(records)))...)
	}
	out := make([]stored, len(records))
	for i, r := range records {
		out[i] = stored{placeOf(meta.Sequence.Stream, i), r}
	}
	return out, nil
}

// position is the last record of LEDGER in the index, for those who wait for
// one.
type position struct {
	mu      sync.Mutex
	seq     uint64
	changed chan struct{}
}

func newPosition() *position { return &position{changed: make(chan struct{})} }

func (p *position) get() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

func (p *position) set(seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = seq
	close(p.changed)
	p.changed = make(chan struct{})
}

// reach waits until the index has the record, and reports whether it came in
// time.
func (p *position) reach(ctx context.Context, seq uint64) bool {
	for {
		p.mu.Lock()
		at, changed := p.seq, p.changed
		p.mu.Unlock()
		if at >= seq {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
