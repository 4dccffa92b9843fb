package delivery

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queue"
)

// What a member says of itself in the workers bucket, with the epoch it is in.
const (
	serving = queue.WorkerServing
	leaving = queue.WorkerLeaving
)

// memberPrefix begins the keys of members: the bucket has leases, too.
const memberPrefix = queue.WorkerPrefix

// membership is this worker among the others. Each writes a sign of life
// under its name every ttl/3; whoever has written none for ttl is gone. All
// ages are reckoned in the server's time, so that clocks need not agree. A
// sign of life names the last epoch (queue.NextEpoch) of whose predecessors
// nothing is in hand.
type membership struct {
	kv       jetstream.KeyValue
	settings jetstream.KeyValue
	name     string // key in the bucket
	ttl      time.Duration
	log      zerolog.Logger
	// epoch is the last one learned.
	epoch int

	mu sync.Mutex
	// reached is the epoch that signs of life name.
	reached int
	// beat is when our last stored sign of life was sent, by our clock.
	beat time.Time
	// ahead is the server's time less ours, by the last own entry.
	ahead time.Duration
	// seen is the last sign of life of each member, server's time, and whether
	// it serves.
	seen map[string]sign
}

// sign is a sign of life.
type sign struct {
	at      time.Time
	serving bool
}

// join makes this worker a member of the current epoch.
func join(ctx context.Context, bus *queue.Bus, name string, ttl time.Duration) (*membership, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketWorkers)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", queue.BucketWorkers, err)
	}
	settings, err := bus.JS.KeyValue(ctx, queue.BucketSettings)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", queue.BucketSettings, err)
	}
	epoch, err := bus.Epoch(ctx)
	if err != nil {
		return nil, err
	}
	m := &membership{
		kv: kv, settings: settings, name: memberPrefix + name, ttl: ttl, log: bus.Log,
		epoch: epoch, reached: epoch, seen: map[string]sign{},
	}
	if err := m.say(ctx, serving); err != nil {
		return nil, err
	}
	return m, nil
}

// say writes a sign of life.
func (m *membership) say(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, m.ttl/3)
	defer cancel()
	m.mu.Lock()
	value := queue.WorkerSign(what, m.reached)
	m.mu.Unlock()
	now := time.Now()
	if _, err := m.kv.PutString(ctx, m.name, value); err != nil {
		return fmt.Errorf("write sign of life: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat = now
	return nil
}

// left is how long no other worker can take this one for gone: somewhat less
// than ttl after its last sign of life, so that what is begun then is done.
func (m *membership) left() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ttl*9/10 - time.Since(m.beat)
}

// lives reports that a member of that name has shown a sign of life.
func (m *membership) lives(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.seen[memberPrefix+name]
	return ok && time.Now().Add(m.ahead).Sub(s.at) < m.ttl
}

// run keeps the membership and hands every change of the partitions of this
// worker to own, until ctx ends. renew is called for a new epoch: the channel
// is closed when nothing is in hand that was begun before.
func (m *membership) run(ctx context.Context, own func([]int), renew func() <-chan struct{}) {
	tick := time.NewTicker(m.ttl / 3)
	defer tick.Stop()
	last, first := []int(nil), true
	f := &following{tick: tick.C, renew: renew, changed: func() {
		if mine := m.partitions(); first || !slices.Equal(mine, last) {
			own(mine)
			last, first = mine, false
		}
	}}
	for ctx.Err() == nil {
		if err := m.watch(ctx, f); err != nil && ctx.Err() == nil {
			m.log.Warn().Err(err).Msg("cannot watch the workers")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			m.heartbeat(ctx)
			if !first {
				f.changed()
			}
		}
	}
}

// following is what a member does about what it hears.
type following struct {
	tick    <-chan time.Time
	changed func()
	renew   func() <-chan struct{}
	// finished is closed when what is in hand was begun in the epoch learned
	// last; nil when nothing is waited for.
	finished <-chan struct{}
}

// watch takes in what the members say, and the epoch, until one of the watches
// ends.
func (m *membership) watch(ctx context.Context, f *following) error {
	members, err := m.kv.Watch(ctx, memberPrefix+"*")
	if err != nil {
		return err
	}
	defer members.Stop()
	epoch, err := m.settings.Watch(ctx, queue.EpochKey)
	if err != nil {
		return err
	}
	defer epoch.Stop()
	m.follow(ctx, f, members.Updates(), epoch.Updates())
	return nil
}

// follow calls changed only once everything said before is known.
func (m *membership) follow(ctx context.Context, f *following, members, epoch <-chan jetstream.KeyValueEntry) {
	for complete := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-f.tick:
			m.heartbeat(ctx)
		case <-f.finished:
			f.finished = nil
			m.arrive(ctx)
		case entry, more := <-epoch:
			if !more {
				return
			}
			m.learn(f, entry)
		case entry, more := <-members:
			switch {
			case !more:
				return
			case entry == nil:
				complete = true
			default:
				m.note(entry)
			}
		}
		if complete {
			f.changed()
		}
	}
}

// learn begins a new epoch.
func (m *membership) learn(f *following, entry jetstream.KeyValueEntry) {
	if entry == nil || entry.Operation() != jetstream.KeyValuePut {
		return
	}
	n, err := strconv.Atoi(string(entry.Value()))
	if err != nil {
		m.log.Error().Err(err).Msg("cannot read the epoch")
		return
	}
	if n > m.epoch {
		m.epoch = n
		m.log.Info().Int("epoch", n).Msg("new epoch: finishing what was begun before")
		f.finished = f.renew()
	}
}

// arrive says that nothing is in hand from before the epoch learned last.
func (m *membership) arrive(ctx context.Context) {
	m.mu.Lock()
	m.reached = m.epoch
	m.mu.Unlock()
	m.heartbeat(ctx)
}

func (m *membership) heartbeat(ctx context.Context) {
	if err := m.say(ctx, serving); err != nil && ctx.Err() == nil {
		m.log.Warn().Err(err).Msg("cannot write sign of life; without it another worker takes over")
	}
}

// note takes in what a member said.
func (m *membership) note(e jetstream.KeyValueEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Key() == m.name {
		m.ahead = e.Created().Sub(m.beat)
	}
	if e.Operation() != jetstream.KeyValuePut {
		delete(m.seen, e.Key())
		return
	}
	what, _ := queue.ParseWorkerSign(string(e.Value()))
	m.seen[e.Key()] = sign{e.Created(), what == serving}
}

// partitions are those of this worker. One whose own sign of life is too old
// has none.
func (m *membership) partitions() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Add(m.ahead)
	var members []string
	for name, s := range m.seen {
		switch {
		case now.Sub(s.at) >= m.ttl:
			delete(m.seen, name)
		case s.serving:
			members = append(members, name)
		}
	}
	var mine []int
	for p, owner := range assign(members) {
		if owner == m.name {
			mine = append(mine, p)
		}
	}
	return mine
}

// leave lets the others take over, while this worker finishes what it has.
// It still shows signs of life until the returned stop is called, which
// removes it for good.
func (m *membership) leave(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(m.ttl / 3)
		defer tick.Stop()
		for {
			if err := m.say(ctx, leaving); err != nil && ctx.Err() == nil {
				m.log.Warn().Err(err).Msg("cannot tell the other workers")
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.ttl/3)
		defer cancel()
		if err := m.kv.Delete(ctx, m.name); err != nil {
			m.log.Warn().Err(err).Msg("cannot leave the workers")
		}
	}
}
