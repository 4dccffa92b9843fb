package delivery

import (
	"context"
	"sync/atomic"
	"time"
)

// guard watches over one transaction. A stopping service breaks it off before
// the dot; from the dot on only dotGrace does. A worker that may no longer be
// the only one with this job never sends the dot: it is asked before the last
// octets are given to the system, and a peer that does not read cannot keep
// them here for longer than the worker may complete messages.
//
// That covers the bus's deadline for the job, too. A worker completes messages
// for less than WorkerTTL after it sent a sign of life that the bus confirmed;
// it extends the deadlines of its jobs every five seconds over the same
// connection, so that the bus saw one at most five seconds before that; and the
// deadline is longer than both together. A process that was stopped, or cut off
// from the bus, meets its lapse here: the clock went on.
type guard struct {
	ctx    context.Context // of the service
	cancel context.CancelCauseFunc
	left   func() time.Duration
	stop   func() bool // stops that the end of the service breaks off
	late   func() bool
	fence  *time.Timer
	sent   atomic.Bool // the dot, or it never will be
}

// guard begins to watch over a transaction, which runs under send.
func (a *attempt) guard(ctx context.Context) (send context.Context, g *guard) {
	send, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	g = &guard{ctx: ctx, cancel: cancel, left: a.mta.left}
	g.stop = context.AfterFunc(ctx, func() { cancel(errStopping) })
	return send, g
}

// beforeDot says whether the message may be completed.
func (g *guard) beforeDot(context.Context) error {
	left := g.left()
	switch {
	case left <= 0:
		return errLapsed
	case !g.stop():
		return errStopping
	}
	g.late = context.AfterFunc(g.ctx, func() { time.AfterFunc(dotGrace, func() { g.cancel(errStopping) }) })
	g.fence = time.AfterFunc(left, g.look)
	return nil
}

// look breaks off a transaction whose end is still here when this worker may
// complete no messages any more.
func (g *guard) look() {
	left := g.left()
	switch {
	case g.sent.Load():
	case left <= 0:
		g.cancel(errLapsed)
	default:
		time.AfterFunc(left, g.look)
	}
}

// afterDot notes that nothing can be held back any more.
func (g *guard) afterDot() {
	g.sent.Store(true)
	g.fence.Stop()
}

// end ends the watch.
func (g *guard) end() {
	g.sent.Store(true)
	g.stop()
	if g.late != nil {
		g.late()
		g.fence.Stop()
	}
	g.cancel(nil)
}
