package ingress

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
)

// intake knows whether mail can be taken in: whether the store has room for it,
// and whether it acknowledges. It asks in the background; a session only looks.
type intake struct {
	bus      *queue.Bus
	pulse    *queue.Pulse
	log      zerolog.Logger
	metrics  *metrics
	hindered func(by string, why error)

	looking sync.Mutex // of two looks the later one tells

	room    atomic.Pointer[queue.Room] // nil until somebody could say
	since   atomic.Int64               // octets accepted since then
	stopped atomic.Bool
}

// Periods of the looks at the store.
const (
	roomPeriod  = time.Second
	pulsePeriod = 250 * time.Millisecond
	// proveTimeout is how long a start waits for the first acknowledgements.
	proveTimeout = 5 * time.Second
)

func newIntake(bus *queue.Bus, log zerolog.Logger, m *metrics, hindered func(string, error)) *intake {
	i := &intake{bus: bus, pulse: bus.NewPulse(), log: log, metrics: m, hindered: hindered}
	i.look() // not ready before every shard acknowledged once
	return i
}

// run looks until ctx ends.
func (i *intake) run(ctx context.Context) {
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { i.pulse.Run(ctx, i.stopped.Load) })
	looking.Go(func() { every(ctx, pulsePeriod, i.look) })
	every(ctx, roomPeriod, func() { i.measure(ctx) })
}

// every calls do at once, and then periodically until ctx ends.
func every(ctx context.Context, period time.Duration, do func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// prove returns when every shard has acknowledged, or when that takes too long:
// from then on readiness tells.
func (i *intake) prove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	every(ctx, pulsePeriod/25, func() {
		if i.look(); i.pulse.Check() == nil {
			cancel()
		}
	})
}

func (i *intake) look() {
	i.looking.Lock()
	defer i.looking.Unlock()
	i.hindered("shards", i.pulse.Check())
}

// measure asks how full the store is. What cannot be found out now is as it
// was before.
func (i *intake) measure(ctx context.Context) {
	counted := i.since.Load()
	room, err := i.bus.Room(ctx)
	if err != nil || room.Limit <= 0 {
		return
	}
	i.room.Store(&room)
	i.since.Add(-counted)
	i.metrics.used.Set(room.Ratio())
	before := i.stopped.Load()
	now := stops(before, room)
	if now == before {
		return
	}
	i.stopped.Store(now)
	if !now {
		i.hindered("room", nil)
		i.log.Warn().Int64("used", room.Used).Int64("limit", room.Limit).Msg("the store has room again, mail is accepted")
		return
	}
	i.hindered("room", fullError(room))
	i.log.Error().Int64("used", room.Used).Int64("limit", room.Limit).Msg("the store is nearly full, new mail is answered 452")
}

// stops decides whether intake is stopped, having been or not.
func stops(before bool, room queue.Room) bool {
	if before {
		return room.Ratio() >= queue.IntakeAgain
	}
	return !room.Takes(0)
}

// takes is nil when a message of a declared size, 0 for none, may come.
func (i *intake) takes(size int64) error {
	room := i.room.Load()
	if room == nil || !i.stopped.Load() && room.Takes(size+i.since.Load()) {
		return nil
	}
	return fullError(*room)
}

// accepted tells of a message that was stored.
func (i *intake) accepted(a *event.Accepted) {
	i.since.Add(a.Size)
	i.pulse.Heard(queue.ShardOf(a.QueueID))
}

// fullError says why no mail is accepted, and what to do about it.
func fullError(room queue.Room) error {
	return fmt.Errorf("new mail is answered 452: %d of %d MB of the store are used (%.0f %%). Wait until mail is delivered and its content purged, or free space on the volume",
		room.Used>>20, room.Limit>>20, 100*room.Ratio())
}
