// Package ledger keeps the books: it folds LEDGER into an index and answers
// questions about it.
//
// Consumes LEDGER, by an ordered consumer from a checkpoint in its index; reads
// MAIL, ADMITTED, DELIVER and REPORT when it counts what is queued. Produces
// answers on postrider.ledger.<question> (package books) and metrics; and, in
// the one instance that leads, ADMITTED and REPORT for what was lost, LEDGER
// driven and the ends it had forgotten, and the mark of LEDGER.
//
// Guarantees: the index is derived. Its checkpoint is in the transaction of
// the records it covers, so that each is folded once; it is made again from
// LEDGER when the file is gone, damaged, or of another version; and when it is
// ahead of LEDGER or from another stream, but then it is kept beside as
// evidence. Any number of instances may run, each with a file of
// its own, and they answer alike. The first terminal record in LEDGER order
// settles a recipient. What is queued is counted from the streams, never by
// subtraction.
//
// Content is purged, by the instance that leads, only after it is settled: when
// the books have the message with every recipient settled, and policy has
// acknowledged it. What outlives the retention before is in KEEP by then. Health
// data does not wait for the retention: it is overwritten within seconds; what of it
// was in KEEP is purged within a minute.
//
// What is accepted, has no end in LEDGER and is in no stream is driven again,
// once no worker has it in hand: a few messages by itself, many after a person
// has confirmed the plan. While LEDGER is rolled back nothing is driven or
// purged before that. A deferred job that a full store left behind after its
// time is made ready.
//
// Failures: a record that cannot be read is counted and passed over. A bus that
// does not answer is waited for. A question that needs records which are not
// folded within 10 s is answered with books.ErrBehind.
//
// Limits: the index follows LEDGER with a delay of about 50 ms. A message that
// policy has acknowledged out of order counts as queued in MAIL until the
// ones before it are acknowledged as well, and is not seen to be lost as long.
// When all of the store was restored from an earlier copy, and not LEDGER alone,
// only an index tells: what is due, and sent before a ledger with that index has
// started and delivery has looked at the mark again, is sent twice.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// Service is the ledger for a process to run.
var Service = service.Service{Name: "ledger", Run: Run}

// Run keeps the books until ctx ends.
func Run(ctx context.Context, env *service.Env) error {
	dir := env.Config.Relay.Data
	lock, err := lockIndex(dir)
	if errors.Is(err, errInUse) {
		return &service.Exit{Code: service.ExitConflict, Err: err}
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	l := &Ledger{
		bus: env.Bus, log: env.Log, dir: dir, instance: env.Instance, position: newPosition(), metrics: newMetrics(env.Metrics),
		retention: time.Duration(env.Config.Retention.SettledContent), unbalanced: make(chan struct{}, 1),
	}
	l.ensure = func(ctx context.Context) error {
		return queue.Ensure(ctx, l.bus.JS, queue.Replicas(l.bus.NC), time.Duration(env.Config.Retention.Ledger))
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	defer func() { l.index.close() }()
	if err := l.compare(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.keep(ctx) })
	group.Go(func() error { return l.serve(ctx, books.QueueGroup, l.answers(), env.Ready) })
	group.Go(func() error { return l.watch(ctx) })
	group.Go(func() error { return l.bus.Lead(ctx, "ledger", l.instance, l.lead) })
	return group.Wait()
}

// Ledger is the books of one instance.
type Ledger struct {
	bus      *queue.Bus
	log      zerolog.Logger
	dir      string
	instance string
	position *position
	metrics  *metrics
	// unbalanced has word when the balance finds mail that is in no stream.
	unbalanced chan struct{}
	// residual is what the balance last found, and stuck why the index does not
	// follow LEDGER; nil when it does.
	residual atomic.Int64
	stuck    atomic.Pointer[error]
	// holding: see held.
	holding atomic.Bool
	// ensure makes the streams that are missing.
	ensure func(context.Context) error
	// retention is how long content is kept once it is settled.
	retention time.Duration

	// opened is held for reading by who uses the index, and for writing while
	// a damaged one is replaced.
	opened sync.RWMutex
	index  *index
}

// open opens the index.
func (l *Ledger) open(ctx context.Context) error {
	index, fresh, err := openIndex(ctx, l.dir)
	if err != nil {
		return err
	}
	if fresh {
		l.log.Info().Msg("making the index from LEDGER")
	}
	l.index = index
	return nil
}

// compare sets an index aside that LEDGER disagrees with, before anybody is
// answered from it. Without a bus there is nobody to answer either.
func (l *Ledger) compare(ctx context.Context) error {
	_, err := l.resume(ctx)
	if errors.Is(err, queue.ErrRolledBack) {
		err = l.accuse(ctx, err)
	}
	if errors.Is(err, queue.ErrRolledBack) {
		l.log.Error().Err(err).Msg("making the index again from LEDGER")
		return l.replace(ctx, setAside)
	}
	return nil
}

// keep follows LEDGER, and begins again with an empty index when the file
// turns out to be damaged, or LEDGER to be rolled back.
func (l *Ledger) keep(ctx context.Context) error {
	for {
		err := l.follow(ctx)
		if err == nil {
			return nil
		}
		l.log.Error().Err(err).Msg("making the index again from LEDGER")
		clear := removeIndex
		if errors.Is(err, queue.ErrRolledBack) {
			clear = setAside
		}
		if err := l.replace(ctx, clear); err != nil {
			return fmt.Errorf("replace index: %w", err)
		}
	}
}

// replace begins with an empty index, after clear took the file away.
func (l *Ledger) replace(ctx context.Context, clear func(dir string) error) error {
	l.position.restart()
	l.opened.Lock()
	defer l.opened.Unlock()
	l.index.close()
	if err := clear(l.dir); err != nil {
		return err
	}
	return l.open(ctx)
}

// folded tells those who wait, and the metrics, how far the index is.
func (l *Ledger) folded(at checkpoint, records int) {
	l.position.set(at.seq)
	l.metrics.folded(at.seq, records)
}
