// Package ledger keeps the books: it folds LEDGER into an index and answers
// questions about it.
//
// Consumes LEDGER, by an ordered consumer from a checkpoint in its index; reads
// MAIL, ADMITTED, DELIVER and REPORT when it counts what is queued. Produces
// nothing but answers on postrider.ledger.<question> (package books) and
// metrics.
//
// Guarantees: the index is derived. Its checkpoint is in the transaction of
// the records it covers, so that each is folded once; it is made again from
// LEDGER when the file is gone, damaged, of another version, ahead of LEDGER,
// or from another stream. Any number of instances may run, each with a file of
// its own, and they answer alike. The first terminal record in LEDGER order
// settles a recipient. What is queued is counted from the streams, never by
// subtraction.
//
// Failures: a record that cannot be read is counted and passed over. A bus that
// does not answer is waited for. A question that needs records which are not
// folded within 10 s is answered with books.ErrBehind.
//
// Limits: the index follows LEDGER with a delay of about 50 ms. A message that
// policy has acknowledged out of order counts as queued in MAIL until the
// ones before it are acknowledged as well.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

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
	l := &Ledger{bus: env.Bus, log: env.Log, dir: dir, instance: env.Instance, position: newPosition(), metrics: newMetrics(env.Metrics)}
	if err := l.open(ctx); err != nil {
		return err
	}
	defer func() { l.index.close() }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.keep(ctx) })
	group.Go(func() error { return l.answer(ctx, env.Ready) })
	group.Go(func() error { return l.watch(ctx) })
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

// keep follows LEDGER, and begins again with an empty index when the file
// turns out to be damaged.
func (l *Ledger) keep(ctx context.Context) error {
	for {
		err := l.follow(ctx)
		if err == nil {
			return nil
		}
		l.log.Error().Err(err).Msg("making the index again from LEDGER")
		if err := l.replace(ctx); err != nil {
			return fmt.Errorf("replace index: %w", err)
		}
	}
}

func (l *Ledger) replace(ctx context.Context) error {
	l.opened.Lock()
	defer l.opened.Unlock()
	l.index.close()
	if err := removeIndex(l.dir); err != nil {
		return err
	}
	l.position.set(0)
	return l.open(ctx)
}

// folded tells those who wait, and the metrics, how far the index is.
func (l *Ledger) folded(at checkpoint, records int) {
	l.position.set(at.seq)
	l.metrics.folded(at.seq, records)
}
