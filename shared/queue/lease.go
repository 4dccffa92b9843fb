package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A lease is a key of the workers bucket that one process holds: it writes it
// anew every leaseRenewal, and the bucket forgets it WorkerTTL after the last
// time. A holder that could not renew for leaseLoss stops before another can
// begin.
const (
	leasePrefix  = "lease."
	leaseRenewal = WorkerTTL / 5
	leaseLoss    = WorkerTTL * 3 / 5
)

// Lead runs work while this process holds the lease of that name, until ctx
// ends. Of several processes one works; when it ends or loses the bus, another
// takes over within WorkerTTL. work must return when its context ends, and is
// run again when the lease is won again.
func (b *Bus) Lead(ctx context.Context, name, instance string, work func(context.Context)) error {
	kv, err := b.JS.KeyValue(ctx, BucketWorkers)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", BucketWorkers, err)
	}
	l := &lease{bus: b, kv: kv, key: leasePrefix + name, value: []byte(instance)}
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for ctx.Err() == nil {
		if l.take(ctx) {
			l.hold(ctx, work)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// lease is one process's claim to a lease.
type lease struct {
	bus   *Bus
	kv    jetstream.KeyValue
	key   string
	value []byte
	// revision is that of our last renewal, made at renewed.
	revision uint64
	renewed  time.Time
}

// take claims a free lease.
func (l *lease) take(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	now := time.Now()
	revision, err := l.kv.Create(ctx, l.key, l.value)
	if err != nil {
		if !Overtaken(err) && ctx.Err() == nil {
			l.bus.Log.Warn().Err(err).Str("lease", l.key).Msg("cannot claim lease")
		}
		return false
	}
	l.revision, l.renewed = revision, now
	return true
}

// hold runs work until ctx ends or the lease is lost.
func (l *lease) hold(ctx context.Context, work func(context.Context)) {
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(working)
	}()
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for held := true; held; {
		select {
		case <-done:
			held = false
		case <-tick.C:
			held = l.renew(ctx)
		}
	}
	stop()
	<-done
	if ctx.Err() != nil { // stopping: the next may begin at once
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseRenewal)
		defer cancel()
		l.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
	}
}

// renew writes the lease anew, and reports that it is still held.
func (l *lease) renew(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	now := time.Now()
	revision, err := l.kv.Update(ctx, l.key, l.value, l.revision)
	if err == nil {
		l.revision, l.renewed = revision, now
		return true
	}
	if ctx.Err() == nil {
		l.bus.Log.Warn().Err(err).Str("lease", l.key).Msg("cannot renew lease")
	}
	return !Overtaken(err) && now.Sub(l.renewed) < leaseLoss
}
