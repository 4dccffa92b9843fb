package delivery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Numbers of the queue in front of a destination.
const (
	// patience is how long a job waits for its turn. A job that waits holds a
	// handler, of which a partition has few: one destination must not take
	// them all from the others.
	patience = 2 * time.Second
	// glance is how long jobs wait for the first one with a destination not
	// seen before. If it is not over by then, each is supposed to take so long.
	glance   = 500 * time.Millisecond
	supposed = time.Second
	// An appointment is at least and at most so far away.
	soonest = time.Second
	latest  = 10 * time.Minute
)

// limits holds the jobs of each destination to a number at a time. The jobs
// of a destination meet in one worker, so that its limits hold over all.
//
// As many jobs as can be served within patience wait in memory. A fast
// destination therefore never turns a job away, and a slow or dead one turns
// away all but a few, at once. Whoever is turned away gets an appointment: a
// time at which, at its present pace, the destination will have served those
// before. An appointment is no attempt.
type limits struct {
	max int // jobs at a time for one destination

	mu    sync.Mutex
	gates map[string]*gate
	// sweep is the number of gates at which to look for those to forget.
	sweep int
}

// gate is the queue in front of one destination.
type gate struct {
	running int
	// urgent and normal wait for their turn, each in order.
	urgent, normal []chan struct{}
	// took is the moving average of one job; 0: not known. glanced says that
	// somebody waited in vain to know it.
	took    time.Duration
	glanced bool
	// failing: the last job found no host that would talk. One at a time
	// tries until it finds one, so that a dead destination costs one
	// connection and not all.
	failing bool
	// turn is the last appointment given.
	turn time.Time
	used time.Time
}

// busyError says when to come again.
type busyError struct{ at time.Time }

func (e *busyError) Error() string { return fmt.Sprintf("destination is busy until %s", e.at) }

func newLimits(max int) *limits { return &limits{max: max, gates: map[string]*gate{}, sweep: many} }

// enter waits for a place. Its error is a *busyError or that of ctx. Every
// nil is followed by one leave.
func (l *limits) enter(ctx context.Context, destination string, urgent bool) error {
	l.mu.Lock()
	g := l.gate(destination)
	queue := g.queue(urgent)
	if g.running < l.window(g) && len(*queue) == 0 {
		g.running++
		l.mu.Unlock()
		return nil
	}
	if len(*queue) >= l.room(g) {
		defer l.mu.Unlock()
		return &busyError{l.appointment(g, time.Now())}
	}
	turn, wait := make(chan struct{}), patience
	if g.unknown() {
		wait = glance
	}
	*queue = append(*queue, turn)
	l.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-turn:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(*queue, turn)
	if i < 0 { // the turn came at the last moment
		return nil
	}
	*queue = slices.Delete(*queue, i, i+1)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.glanced = true
	return &busyError{l.appointment(g, time.Now())}
}

// leave gives a place back after a job that took so long. ok is false when it
// found no host that would talk.
func (l *limits) leave(destination string, took time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gates[destination]
	g.running--
	switch {
	case g.took == 0 || ok && g.failing: // what is known is of no use
		g.took, g.turn = max(took, 1), time.Time{}
	default:
		g.took = max((3*g.took+took)/4, 1)
	}
	g.failing = !ok
	for g.running < l.window(g) && len(g.urgent)+len(g.normal) > 0 {
		queue := g.queue(len(g.urgent) > 0)
		close((*queue)[0])
		*queue = (*queue)[1:]
		g.running++
	}
}

// busy is the number of destinations with a job, and of jobs that wait.
func (l *limits) busy() (destinations, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gates {
		if g.running > 0 {
			destinations++
		}
		waiting += len(g.urgent) + len(g.normal)
	}
	return destinations, waiting
}

func (g *gate) queue(urgent bool) *[]chan struct{} {
	if urgent {
		return &g.urgent
	}
	return &g.normal
}

// window is how many jobs may run.
func (l *limits) window(g *gate) int {
	if g.failing {
		return 1
	}
	return l.max
}

func (g *gate) unknown() bool { return g.took == 0 && !g.glanced }

// room is how many jobs may wait: those whose turn comes within patience. All
// may glance at a destination that nobody knows.
func (l *limits) room(g *gate) int {
	if g.unknown() {
		return math.MaxInt
	}
	return int(patience * time.Duration(l.window(g)) / g.pace())
}

func (g *gate) pace() time.Duration {
	if g.took == 0 {
		return supposed
	}
	return g.took
}

// appointment is the next free time.
func (l *limits) appointment(g *gate, now time.Time) time.Time {
	step := g.pace() / time.Duration(l.window(g))
	if first := now.Add(soonest); g.turn.Before(first) {
		g.turn = first
	}
	g.turn = g.turn.Add(step)
	if last := now.Add(latest); g.turn.After(last) {
		g.turn = last
		return last.Add(-rand.N(latest / 5)) // not all at once
	}
	return g.turn
}

// forgetAfter is how long the pace of a destination is remembered; many is
// how many are remembered without looking.
const (
	forgetAfter = 10 * time.Minute
	many        = 1024
)

// gate gives the queue of a destination. The caller holds mu.
func (l *limits) gate(destination string) *gate {
	now := time.Now()
	g := l.gates[destination]
	if g == nil {
		if len(l.gates) >= l.sweep {
			l.forget(now)
			l.sweep = max(many, 2*len(l.gates))
		}
		g = &gate{}
		l.gates[destination] = g
	}
	g.used = now
	return g
}

func (l *limits) forget(now time.Time) {
	for name, g := range l.gates {
		if g.running == 0 && len(g.urgent)+len(g.normal) == 0 && now.Sub(g.used) > forgetAfter {
			delete(l.gates, name)
		}
	}
}
