package delivery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queue"
)

// What a member says of itself in the workers bucket.
const (
	serving = "serving"
	leaving = "leaving" // finishes what it has, takes no more
)

// memberPrefix begins the keys of members: the bucket has leases, too.
const memberPrefix = "delivery."

// membership is this worker among the others. Each writes a sign of life
// under its name every ttl/3; whoever has written none for ttl is gone. All
// ages are reckoned in the server's time, so that clocks need not agree.
type membership struct {
	kv   jetstream.KeyValue
	name string // key in the bucket
	ttl  time.Duration
	log  zerolog.Logger

	mu sync.Mutex
	// beat is when our last stored sign of life was sent, by our clock.
	beat time.Time
	// ahead is the server's time less ours, by the last own entry.
	ahead time.Duration
	// seen is the last sign of life of each serving member, server's time.
	seen map[string]time.Time
}

// join makes this worker a member.
func join(ctx context.Context, bus *queue.Bus, name string, ttl time.Duration) (*membership, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketWorkers)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", queue.BucketWorkers, err)
	}
	m := &membership{kv: kv, name: memberPrefix + name, ttl: ttl, log: bus.Log, seen: map[string]time.Time{}}
	if err := m.say(ctx, serving); err != nil {
		return nil, err
	}
	return m, nil
}

// say writes a sign of life.
func (m *membership) say(ctx context.Context, what string) error {
	ctx, cancel := context.WithTimeout(ctx, m.ttl/3)
	defer cancel()
	now := time.Now()
	if _, err := m.kv.PutString(ctx, m.name, what); err != nil {
		return fmt.Errorf("write sign of life: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat = now
	return nil
}

// alive is nil while no other worker can have taken this one for gone.
func (m *membership) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.beat) >= m.ttl {
		return errLapsed
	}
	return nil
}

// run keeps the membership and hands every change of the partitions of this
// worker to own, until ctx ends.
func (m *membership) run(ctx context.Context, own func([]int)) {
	tick := time.NewTicker(m.ttl / 3)
	defer tick.Stop()
	last, first := []int(nil), true
	changed := func() {
		if mine := m.partitions(); first || !slices.Equal(mine, last) {
			own(mine)
			last, first = mine, false
		}
	}
	for ctx.Err() == nil {
		watch, err := m.kv.Watch(ctx, memberPrefix+"*")
		if err == nil {
			m.follow(ctx, watch, tick.C, changed)
			watch.Stop()
		} else if ctx.Err() == nil {
			m.log.Warn().Err(err).Msg("cannot watch the workers")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			m.heartbeat(ctx)
			if !first {
				changed()
			}
		}
	}
}

// follow takes in what the members say until the watch ends. changed is
// called only once everything said before is known.
func (m *membership) follow(ctx context.Context, watch jetstream.KeyWatcher, tick <-chan time.Time, changed func()) {
	complete := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			m.heartbeat(ctx)
		case entry, more := <-watch.Updates():
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
			changed()
		}
	}
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
	if e.Operation() != jetstream.KeyValuePut || string(e.Value()) != serving {
		delete(m.seen, e.Key())
		return
	}
	m.seen[e.Key()] = e.Created()
}

// partitions are those of this worker. One whose own sign of life is too old
// has none.
func (m *membership) partitions() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Add(m.ahead)
	var members []string
	for name, at := range m.seen {
		if now.Sub(at) < m.ttl {
			members = append(members, name)
			continue
		}
		delete(m.seen, name)
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
