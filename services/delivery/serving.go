package delivery

import (
	"context"
	"fmt"
	"sync"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
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

// servingSet is the set of partitions that are being worked on.
type servingSet struct {
	ctx    context.Context
	w      *worker
	active map[int]*partition
	all    sync.WaitGroup
}

// partition is one being worked on: its end, and the news of it.
type partition struct {
	stop context.CancelFunc
	done chan struct{}
}

func newServing(ctx context.Context, w *worker) *servingSet {
	return &servingSet{ctx: ctx, w: w, active: map[int]*partition{}}
}

// only begins and stops until exactly these partitions are served. A
// partition that comes back waits for its earlier service to end.
func (s *servingSet) only(mine []int) {
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

func (s *servingSet) begin(n int, before *partition) *partition {
	ctx, stop := context.WithCancel(s.ctx)
	p := &partition{stop: stop, done: make(chan struct{})}
	s.all.Go(func() {
		defer close(p.done)
		if before != nil {
			<-before.done
		}
		s.w.serve(ctx, n)
	})
	return p
}

func (s *servingSet) wait() { s.all.Wait() }

// serve works on one partition, both lanes, until ctx ends.
func (w *worker) serve(ctx context.Context, n int) {
	var both sync.WaitGroup
	for _, l := range lanes() {
		source := queue.Source{
			Stream:  queue.StreamDeliver,
			Durable: fmt.Sprintf("p%02d-%s", n, l.lane), Filter: queue.ReadySubject(l.lane, n),
			Concurrency: l.partition, Slots: w.slots[l.lane],
		}
		both.Go(func() {
			if err := w.bus.Work(ctx, source, w.settings.grace, w.handle); err != nil && ctx.Err() == nil {
				w.log.Error().Err(err).Str("consumer", source.Durable).Msg("partition is not served")
			}
		})
	}
	both.Wait()
}
