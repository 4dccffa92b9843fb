package delivery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// laneSize is how many jobs of a lane are handled at a time: in one
// partition, and over all partitions of a worker. Alerts have places of their
// own, so that they overtake a backlog.
type laneSize struct {
	lane      mail.Lane
	partition int
	worker    int
}

func lanes() []laneSize {
	return []laneSize{{mail.LaneAlert, 32, 128}, {mail.LaneNormal, 128, 512}}
}

// source is the consumer of the lane in a partition.
func (l *laneSize) source(partition int, slots chan struct{}) queue.Source {
	return queue.Source{
		Stream:  queue.StreamDeliver,
		Durable: fmt.Sprintf("p%02d-%s", partition, l.lane), Filter: queue.ReadySubject(l.lane, partition),
		Concurrency: l.partition, Slots: slots,
	}
}

// servingSet is the set of partitions that are being worked on.
type servingSet struct {
	ctx    context.Context
	w      *worker
	active map[int]*partition
	all    sync.WaitGroup
	// begun is told of every partition that is waited on; nil until there are some.
	begun func()
	ready func()
}

// partition is one being worked on: its end, and the news of it.
type partition struct {
	stop context.CancelFunc
	done chan struct{}
}

// newServing serves nothing yet. ready is called when the first partitions are
// being served, or when there are none.
func newServing(ctx context.Context, w *worker, ready func()) *servingSet {
	return &servingSet{ctx: ctx, w: w, active: map[int]*partition{}, ready: ready}
}

// only begins and stops until exactly these partitions are served. A
// partition that comes back waits for its earlier service to end.
func (s *servingSet) only(mine []int) {
	if s.begun == nil {
		s.begun = service.Last(len(mine), s.ready)
	}
	want := map[int]bool{}
	for _, p := range mine {
		want[p] = true
		if before := s.active[p]; before == nil || before.stop == nil {
			s.active[p] = s.begin(p, before)
		}
	}
	for p, running := range s.active {
		if !want[p] && running.stop != nil {
			running.stop()
			running.stop = nil
		}
	}
}

// renew ends the service of every partition and begins it anew: what was taken
// before is finished, or handed back within the time of grace. The channel is
// closed when it is.
func (s *servingSet) renew() (finished <-chan struct{}) {
	var before []*partition
	for n, p := range s.active {
		before = append(before, p)
		if p.stop != nil {
			p.stop()
			s.active[n] = s.begin(n, p)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range before {
			<-p.done
		}
	}()
	return done
}

func (s *servingSet) begin(n int, before *partition) *partition {
	ctx, stop := context.WithCancel(s.ctx)
	p := &partition{stop: stop, done: make(chan struct{})}
	s.all.Go(func() {
		defer close(p.done)
		if before != nil {
			<-before.done
		}
		s.w.serve(ctx, s.ctx, n, sync.OnceFunc(s.begun))
	})
	return p
}

func (s *servingSet) wait() { s.all.Wait() }

// serve works on one partition, both lanes, until ctx ends; service ends when
// the whole worker does. begun is called when it waits for jobs, or for LEDGER:
// that is told as a hindrance.
func (w *worker) serve(ctx, service context.Context, n int, begun func()) {
	defer begun() // one that goes elsewhere is not waited for
	t := w.enter(ctx, n, begun)
	if t == nil {
		return
	}
	defer t.end(service, w.memory)
	tidying, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { t.tidy(tidying) })
	var lane sync.WaitGroup
	for _, l := range lanes() {
		source := l.source(n, w.slots[l.lane])
		source.Begun = begun
		lane.Go(func() {
			err := w.bus.Work(ctx, source, w.settings.grace, func(ctx context.Context, m queue.Message) error { return w.handle(ctx, m, t) })
			if err != nil && ctx.Err() == nil {
				w.log.Error().Err(err).Str("consumer", source.Durable).Msg("partition is not served")
			}
		})
	}
	lane.Wait()
}

// enter begins a tenure once LEDGER was read, for as long as that takes; nil
// when ctx ended before.
func (w *worker) enter(ctx context.Context, n int, begun func()) *tenure {
	for ctx.Err() == nil {
		t, err := w.tryEnter(ctx, n)
		if t != nil {
			return t
		}
		if err == nil { // LEDGER is still not read
			begun()
			continue
		}
		if ctx.Err() == nil {
			w.log.Warn().Err(err).Int("partition", n).Msg("cannot begin with a partition, trying again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// lookPeriod is how often those who serve nothing, since LEDGER is not read, look
// whether all who had served before are dead.
const lookPeriod = 5 * time.Second

// tryEnter begins a tenure, unless LEDGER is not read within lookPeriod: then
// it returns nothing.
func (w *worker) tryEnter(ctx context.Context, n int) (*tenure, error) {
	if err := w.rota.look(ctx, w.bus, n); err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, lookPeriod)
	defer cancel()
	if w.settled.Wait(short) != nil {
		return nil, nil
	}
	return w.rota.begin(ctx, w.bus, n)
}
