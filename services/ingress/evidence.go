package ingress

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
)

// evidence keeps refusals without holding up a session, and without becoming
// load in a flood: the first of an address and minute are kept one by one, the
// rest counted by stage and rule. Nothing vanishes uncounted, and a flood from
// one address takes no place from the refusals of others. Of those that only
// connect, as monitors do all day, one a minute is kept.
type evidence struct {
	keep    func(context.Context, event.Refusal) error
	log     zerolog.Logger
	dropped prometheus.Counter
	queue   chan event.Refusal

	// Of this minute.
	mu      sync.Mutex
	singles map[netip.Addr]int
	rest    map[evidenceKey]event.Refusal // the last one, with the count of all
}

type evidenceKey struct {
	peer        netip.Addr
	stage, rule string
}

const (
	evidenceQueue    = 4096
	evidenceSingles  = 20
	evidenceMinute   = time.Minute
	evidencePeers    = 10_000          // tallies at once; strangers beyond share one
	evidencePatience = 2 * time.Second // for one of them, and for all that are left at the end
)

func newEvidence(keep func(context.Context, event.Refusal) error, log zerolog.Logger, dropped prometheus.Counter) *evidence {
	return &evidence{
		keep: keep, log: log, dropped: dropped, queue: make(chan event.Refusal, evidenceQueue),
		singles: map[netip.Addr]int{}, rest: map[evidenceKey]event.Refusal{},
	}
}

// keep stores a refusal in REFUSED.
func keep(bus *queue.Bus) func(context.Context, event.Refusal) error {
	return func(ctx context.Context, r event.Refusal) error {
		r.Schema = event.Schema
		_, err := bus.Publish(ctx, queue.RefusedSubject(r.Stage), string(r.Ref), event.Encode(&r))
		return err
	}
}

// add takes a refusal: to be kept singly, or into the tally of its kind. When
// the store is far behind it is only counted.
func (e *evidence) add(r event.Refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	peer := e.peer(r)
	most := evidenceSingles
	if r.Rule == event.CauseNoMail {
		most = 1
	}
	if e.singles[peer] < most {
		e.singles[peer]++
		select {
		case e.queue <- r:
			return
		default:
		}
	}
	key := evidenceKey{peer, r.Stage, r.Rule}
	r.Count += e.rest[key].Count
	e.rest[key] = r
}

// ruleFull is the rule of a refusal for want of room.
const ruleFull = event.CauseFull

// peer is what a refusal counts as coming from. Refusals for want of room must
// not take what is left: they count as if all came from one.
func (e *evidence) peer(r event.Refusal) netip.Addr {
	peer := tallied(r.Facts.Address)
	if _, known := e.singles[peer]; r.Rule == ruleFull || !known && len(e.singles) >= evidencePeers {
		return netip.Addr{}
	}
	return peer
}

// run keeps what add took until ctx ends, and then what is left.
func (e *evidence) run(ctx context.Context) {
	minute := time.NewTicker(evidenceMinute)
	defer minute.Stop()
	kept := context.WithoutCancel(ctx) // what is being stored when ctx ends is stored
	for {
		select {
		case r := <-e.queue:
			e.store(kept, r)
		case <-minute.C:
			e.settle(kept)
		case <-ctx.Done():
			e.finish(kept)
			return
		}
	}
}

// settle keeps the tallies of a minute and begins the next.
func (e *evidence) settle(ctx context.Context) {
	e.mu.Lock()
	rest := e.rest
	e.rest = map[evidenceKey]event.Refusal{}
	clear(e.singles)
	e.mu.Unlock()
	for _, r := range rest {
		e.store(ctx, r)
	}
}

func (e *evidence) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, evidencePatience)
	defer cancel()
	for len(e.queue) > 0 {
		e.store(ctx, <-e.queue)
	}
	e.settle(ctx)
}

func (e *evidence) store(ctx context.Context, r event.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, evidencePatience)
	defer cancel()
	if err := e.keep(ctx, r); err != nil {
		e.dropped.Add(float64(r.Count))
		e.log.Warn().Err(err).Str("ref", string(r.Ref)).Msg("cannot keep evidence of a refusal")
	}
}

// tallied is what counts as one address: one of IPv4, or the /64 that one host
// of IPv6 has.
func tallied(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return a.Unmap()
	}
	prefix, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return prefix.Addr()
}
