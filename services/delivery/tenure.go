package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// tenure is the time in which this worker serves a partition, and what it has
// to expect from those who served it before. There is nothing to expect when
// all of them ended cleanly, which is the rule.
//
// What a predecessor may have in hand, or may have sent without a trace:
//
//   - a job that the bus delivers for the second time: the predecessor had it;
//   - a job that came out of a schedule: it was the predecessor's before, and a
//     schedule may fire twice (when the predecessor died, the bus counts the
//     first);
//   - a job that recovery drove;
//   - of the jobs that were there before, the first that the bus hands out, when
//     the bus forgot since which it had handed out to the predecessor: as many
//     as a worker has in hand, and none that came when it was dead (sight.go).
//
// While such a predecessor lives, the job waits until it has finished. When it
// died, a job that it had, or may have had, is sent, and what comes of it is in
// doubt.
type tenure struct {
	rota      *rota
	bus       *queue.Bus
	partition int
	// life is that of the consumers, server the one connected to, upTo the last
	// sequence of DELIVER, when the tenure began.
	life   string
	server string
	upTo   uint64
	// fresh is from where on those had nothing who were dead then; 0 when that
	// is not known.
	fresh uint64
	begun time.Time

	mu    sync.Mutex
	lanes map[mail.Lane]*inheritance
}

// inheritance counts the jobs of a lane that a forgetful bus may have handed
// out before.
type inheritance struct {
	most             int
	waited, doubtful int
}

// begin begins a tenure: it says so before anything is taken.
func (r *rota) begin(ctx context.Context, bus *queue.Bus, partition int) (*tenure, error) {
	if err := r.aware(ctx); err != nil {
		return nil, err
	}
	t := &tenure{
		rota: r, bus: bus, partition: partition, server: bus.NC.ConnectedServerId(), begun: time.Now(),
		lanes: map[mail.Lane]*inheritance{},
	}
	for _, l := range lanes() {
		// What was handled and not yet acknowledged at the bus counts as in hand.
		t.lanes[l.lane] = &inheritance{most: 2 * l.partition}
	}
	var err error
	if t.life, t.upTo, err = lifeOf(ctx, bus, partition); err != nil {
		return nil, err
	}
	t.fresh = r.fresh(t)
	if err := r.hold(ctx, partition, t.life); err != nil {
		// It may be written all the same, and nothing was taken.
		return nil, errors.Join(err, t.release(ctx, false))
	}
	return t, nil
}

// waitHeld is how long a job stays away that a living predecessor may have.
const waitHeld = 2 * time.Second

// held reports that a living predecessor may have this job in hand.
func (t *tenure) held(m queue.Message, job *event.Job) bool {
	if t == nil {
		return false
	}
	living, _ := t.rota.others(t.partition)
	if len(living) == 0 {
		return false
	}
	return m.Delivered > 1 || scheduled(job) || t.inherited(living, 0, m, job, func(i *inheritance) *int { return &i.waited })
}

// inherits reports that another worker may have had this job a moment ago, and
// have written what became of it.
func (t *tenure) inherits(m queue.Message, job *event.Job) bool {
	return m.Delivered > 1 || scheduled(job) && (t == nil || time.Since(t.begun) < heirloom)
}

// doubt reports that a predecessor that died may have sent this job.
func (t *tenure) doubt(m queue.Message, job *event.Job) bool {
	if t == nil {
		return false
	}
	_, dead := t.rota.others(t.partition)
	if len(dead) == 0 {
		return false
	}
	// What recovery drove was lost from the streams, and the dead may have had it.
	return m.Delivered > 1 || job.Drive > 0 || t.inherited(dead, t.fresh, m, job, func(i *inheritance) *int { return &i.doubtful })
}

// inherited reports that the bus may have handed out a job before, to one of
// these, and have forgotten it. They had nothing from fresh on, unless it forgot
// since the tenure began. counter is how many of those there were.
func (t *tenure) inherited(from []entry, fresh uint64, m queue.Message, job *event.Job, counter func(*inheritance) *int) bool {
	forgot := t.bus.NC.ConnectedServerId() != t.server
	if m.Seq > t.upTo || fresh > 0 && m.Seq >= fresh && !forgot {
		return false
	}
	for _, e := range from {
		forgot = forgot || e.Life != t.life
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.lanes[job.Class.Lane()]
	if n := counter(i); forgot && *n < i.most {
		*n++
		return true
	}
	return false
}

// scheduled reports a job that waited for its time.
func scheduled(job *event.Job) bool { return job.Attempt > 0 || job.LastReply != "" }

// resolved reports that every job that a predecessor may have had was seen, so
// that the dead among them can be forgotten.
func (t *tenure) resolved(ctx context.Context) (bool, error) {
	if time.Since(t.begun) < heirloom {
		return false, nil
	}
	for _, l := range lanes() {
		c, err := t.bus.JS.Consumer(ctx, queue.StreamDeliver, l.source(t.partition, nil).Durable)
		if err != nil {
			return false, err
		}
		info := c.CachedInfo()
		t.mu.Lock()
		all := t.lanes[l.lane].doubtful >= t.lanes[l.lane].most
		t.mu.Unlock()
		if !all && info.NumPending > 0 && info.Delivered.Stream < t.upTo {
			return false, nil
		}
	}
	return true, nil
}

// heirloom is how long a predecessor's death counts at least: the bus takes
// less than a minute to deliver again what it had, recovery somewhat more to
// drive what was lost at the same time.
const heirloom = 15 * time.Minute

// tidy forgets predecessors that died once their jobs were seen.
func (t *tenure) tidy(ctx context.Context) {
	tick := time.NewTicker(heirloom / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, dead := t.rota.others(t.partition); len(dead) == 0 {
			continue
		}
		done, err := t.resolved(ctx)
		if err == nil && done {
			err = t.rota.forget(ctx, t.partition)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.rota.log.Warn().Err(err).Int("partition", t.partition).Msg("cannot tidy up after those who served before")
		}
	}
}

// end ends a tenure: what was decided and could not be stored is stored now,
// for as long as that takes, unless the service ends meanwhile. The next one
// to serve the partition then finds no entry, or one that tells of a doubt.
func (t *tenure) end(ctx context.Context, memory *memory) {
	for {
		undone, doubt := memory.rest(t.partition)
		err := t.finish(ctx, memory, undone)
		if err == nil {
			err = t.release(ctx, doubt)
		}
		if err == nil {
			return
		}
		t.rota.log.Warn().Err(err).Int("partition", t.partition).Msg("cannot end serving a partition cleanly")
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (t *tenure) finish(ctx context.Context, memory *memory, undone []*settlement) error {
	for _, s := range undone {
		if err := store(ctx, t.bus, s); err != nil {
			return fmt.Errorf("settle %s: %w", s.job.ID, err)
		}
		memory.store(s.job, s)
	}
	return nil
}

func (t *tenure) release(ctx context.Context, doubt bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return t.rota.release(ctx, t.partition, doubt)
}
