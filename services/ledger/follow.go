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
	batchAge     = 100 * time.Millisecond
)

// idle is how long the follower waits for a record, and how often it looks
// whether LEDGER is still the same stream.
const idle = 5 * time.Second

// follow folds LEDGER into the index until ctx ends. Trouble with the bus is
// waited out; errDamaged is returned, and queue.ErrRolledBack once everybody
// knows it.
func (l *Ledger) follow(ctx context.Context) error {
	for {
		err := l.followOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, queue.ErrRolledBack) {
			err = l.accuse(ctx, err)
		}
		if errors.Is(err, errDamaged) || errors.Is(err, queue.ErrRolledBack) {
			return err
		}
		l.stuck.Store(&err)
		l.log.Warn().Err(err).Msg("cannot follow LEDGER, trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// errSilent reports a consumer that lives and gives nothing. One that was made
// while a cluster lost its quorum was seen to.
var errSilent = errors.New("the consumer of LEDGER gives no records")

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
	var missing bool // there was more in LEDGER than came, when it was checked
	for {
		records, failed := l.collect(iter)
		if len(records) > 0 {
			if at, err = l.index.foldBatch(ctx, at, records); err != nil {
				return err
			}
			l.folded(at, len(records))
			missing = false
		}
		if failed != nil {
			return failed
		}
		if time.Since(checked) < idle {
			continue
		}
		info, err := l.ledgerInfo(ctx)
		if err == nil {
			err = l.bus.Agrees(ctx, at.mark())
		}
		if err != nil {
			return err
		}
		if behind := info.State.LastSeq > at.seq && len(records) == 0; behind && missing {
			return fmt.Errorf("%w: at record %d of %d", errSilent, at.seq, info.State.LastSeq)
		} else {
			missing = behind
		}
		checked = time.Now()
		l.stuck.Store(nil)
		if time.Since(pruned) < prunePeriod {
			continue
		}
		if err := l.index.prune(ctx, info.State.FirstSeq); err != nil {
			return err
		}
		at.horizon, pruned = horizonOf(info), time.Now()
		if err := l.index.forgetUses(ctx, pruned, instant(at.horizon)); err != nil {
			return err
		}
		if err := l.index.forgetObserved(ctx, pruned); err != nil {
			return err
		}
	}
}

// resume finds where to go on. It is queue.ErrRolledBack when the index is
// ahead of LEDGER, or was made from another.
func (l *Ledger) resume(ctx context.Context) (checkpoint, error) {
	at, err := l.index.checkpoint(ctx)
	if err != nil {
		return at, err
	}
	info, err := l.ledgerInfo(ctx)
	if err != nil {
		return at, err
	}
	if at.stream == "" {
		at = checkpoint{stream: queue.StreamIdentity(info), seq: max(info.State.FirstSeq, 1) - 1, horizon: horizonOf(info)}
		at, err = l.index.foldBatch(ctx, at, nil)
	} else {
		err = l.bus.Agrees(ctx, at.mark())
	}
	if err != nil {
		return at, err
	}
	l.position.set(at.seq)
	return at, nil
}

func (l *Ledger) ledgerInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := l.bus.JS.Stream(ctx, queue.StreamLedger)
	if err != nil {
		return nil, fmt.Errorf("ask for LEDGER: %w", err)
	}
	return s.CachedInfo(), nil
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
		out[i] = stored{placeOf(meta.Sequence.Stream, i), nanos(meta.Timestamp), r}
	}
	return out, nil
}

// position is the last record of LEDGER in the index, for those who wait for
// one.
type position struct {
	mu      sync.Mutex
	seq     uint64
	indexes int // that there were before
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

// restart begins with another index: who waits for a record waits in vain.
func (p *position) restart() {
	p.mu.Lock()
	p.indexes++
	p.mu.Unlock()
	p.set(0)
}

// reach waits until the index has the record, and reports whether it came in
// time.
func (p *position) reach(ctx context.Context, seq uint64) bool {
	for first := -1; ; {
		p.mu.Lock()
		at, index, changed := p.seq, p.indexes, p.changed
		p.mu.Unlock()
		if first < 0 {
			first = index
		}
		if index != first || at >= seq {
			return index == first
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
