package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A stream can be listed, be healthy to all appearance, and store nothing: after
// a failed write, or under a leader that hangs. Only an acknowledged publish
// proves that mail can be stored.

// canaryLane is the lane of MAIL subjects that no mail takes.
const canaryLane = "canary"

// IsCanary reports the subject of a message of MAIL that is no mail: it says
// nothing, is in no books, and whoever reads MAIL passes over it.
func IsCanary(subject string) bool { return strings.HasPrefix(subject, "mail."+canaryLane+".") }

// Timing of the pulse. A shard that stops is known to have after canaryIdle +
// canaryTimeout at the latest, which is less than 10 s.
const (
	canaryIdle    = 5 * time.Second // a shard without an acknowledgement for so long gets a canary
	canaryTimeout = 3 * time.Second
	canaryAgain   = time.Second // after one that was not acknowledged
	canaryTick    = 250 * time.Millisecond
)

// Pulse watches whether every shard of MAIL acknowledges.
type Pulse struct {
	bus *Bus

	mu     sync.Mutex
	shards [Shards]shardPulse
}

// shardPulse is what is known of one shard.
type shardPulse struct {
	heard time.Time // the last acknowledgement
	due   time.Time // when to publish a canary, unless something is heard before
	busy  bool      // a canary is under way
	why   error     // why it is silent; nil when it is not
}

// NewPulse has heard no shard yet.
func (b *Bus) NewPulse() *Pulse {
	p := &Pulse{bus: b}
	for n := range p.shards {
		p.shards[n].why = errors.New("has acknowledged nothing yet")
	}
	return p
}

// Heard tells that a shard acknowledged a publish.
func (p *Pulse) Heard(shard int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.shards[shard]
	s.heard, s.why = time.Now(), nil
	s.due = s.heard.Add(canaryIdle)
}

// Check is nil while every shard acknowledges, and names those that do not.
func (p *Pulse) Check() error {
	if !p.bus.NC.IsConnected() {
		return errors.New("the bus is not connected")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var silent []string
	for n := range p.shards {
		if why := p.shards[n].why; why != nil {
			silent = append(silent, MailStream(n)+" "+why.Error())
		}
	}
	if len(silent) > 0 {
		return errors.New(strings.Join(silent, "; "))
	}
	return nil
}

// Run publishes canaries where nothing else is heard, until ctx ends. While
// hush is true it does not: a store that is full needs no more.
func (p *Pulse) Run(ctx context.Context, hush func() bool) {
	tick := time.NewTicker(canaryTick)
	defer tick.Stop()
	var flying sync.WaitGroup
	defer flying.Wait()
	for {
		connected := p.bus.NC.IsConnected()
		for n := range p.shards {
			switch {
			case !connected:
				p.silent(n, errors.New("was out of reach"), time.Now()) // another server may answer next
			case p.take(n, hush()):
				flying.Go(func() { p.fly(ctx, n) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// take reports that a shard needs a canary now, and that nobody else sends it.
func (p *Pulse) take(shard int, hush bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.shards[shard]
	if s.busy || hush || time.Now().Before(s.due) {
		return false
	}
	s.busy = true
	return true
}

// fly publishes one canary.
func (p *Pulse) fly(ctx context.Context, shard int) {
	err := p.publish(ctx, shard)
	if err != nil && ctx.Err() == nil {
		p.silent(shard, silence(err), time.Now())
		p.silent(shard, p.explain(ctx, shard, err), time.Now().Add(canaryAgain))
	}
	p.mu.Lock()
	p.shards[shard].busy = false
	p.mu.Unlock()
	if err == nil {
		p.Heard(shard)
	}
}

func (p *Pulse) publish(ctx context.Context, shard int) error {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	_, err := p.bus.JS.PublishMsg(ctx, &nats.Msg{Subject: "mail." + canaryLane + "." + strconv.Itoa(shard)}, jetstream.WithRetryAttempts(0))
	return err
}

// silent notes why a shard is, unless it was heard since the canary flew.
func (p *Pulse) silent(shard int, why error, due time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.shards[shard]
	if s.why == nil && time.Since(s.heard) < canaryIdle && p.bus.NC.IsConnected() {
		return
	}
	s.why, s.due = why, due
}

// silence is what an error says about a shard.
func silence(err error) error {
	switch {
	case full(err):
		return ErrFull
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("does not acknowledge: no answer within %s", canaryTimeout)
	}
	return fmt.Errorf("does not acknowledge: %w", err)
}

// explain finds out more about a shard that gave no answer, and what to do.
func (p *Pulse) explain(ctx context.Context, shard int, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return silence(err)
	}
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	if why := p.bus.FailedStreams(ctx)[MailStream(shard)]; why != "" {
		return fmt.Errorf("stopped after a write error (%s)%s", why, p.remedy())
	}
	if p.bus.NC.FlushWithContext(ctx) == nil {
		return fmt.Errorf("does not acknowledge, although its server answers: it stopped, likely after a write error, see the server's log%s", p.remedy())
	}
	return silence(err)
}

// remedy is the step that mends a stopped stream.
func (p *Pulse) remedy() string {
	if p.bus.embedded != nil {
		return "; the bus is started again by itself"
	}
	return ": free space on its volume, then restart nats-server"
}
