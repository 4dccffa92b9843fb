package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/budget"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

// Mail of a device that its hourly limits hold gets its turn by itself: one
// instance of policy leads, and decides to release it, as a person would, once
// the budget of the device has room for it. The oldest of a device goes first,
// and the next one not before the device could have sent it by its limits, so
// that an hour does not begin with a burst. What is charged is what ingress
// would have charged: the message, and its recipients. A message with more
// recipients than the limit allows in an hour takes all of one hour, and the
// next waits the longer.
//
// It waits for a person where people held the mail of its sender (contain), and
// while the device is not active. When the lifetime of its class is over, its
// sender gets a report (5.4.7), as of mail that could not be delivered.
//
// The leader reads HELD once and then only what is new. What it remembers is in
// HELD as well: another one begins where it ended, and what both decide is
// decided once. Of a budget that was taken, and not used for a crash, no more is
// lost than one message.

const (
	// ruleLimit is the rule of authorization that holds for a limit.
	ruleLimit = "limit"
	// actorPolicy decides that something has its turn.
	actorPolicy = "policy"
	reasonTurn  = "its turn"

	// turnPeriod is how often the leader looks, turnPause how long a device waits
	// whose budget had no room, or a new hour.
	turnPeriod = 5 * time.Second
	turnPause  = time.Minute
	// roundMost bounds the decisions of one look.
	roundMost = 200
)

// turns is what the leader knows of what waits in HELD.
type turns struct {
	*Policy
	budgets  *budget.Budgets
	lifetime config.Lifetime

	next  uint64 // sequence of HELD
	lines map[string]*line
	// drops are those that can be undone still, by subject.
	drops map[string]dropped
}

// dropped is a drop, and when it was stored: whoever decided it may have a clock
// that is behind, and the time to undo it all the same.
type dropped struct {
	event.Decision
	stored time.Time
}

// line are the messages of one device, the oldest first.
type line struct {
	waiting []turn
	due     time.Time // of the first, at the earliest
	limits  registry.Limits
}

// turn is a message that waits, in few octets.
type turn struct {
	id      mail.QueueID
	expires int64 // Unix time in seconds
}

func openTurns(ctx context.Context, p *Policy, env *service.Env) (*turns, error) {
	budgets, err := budget.Open(ctx, env.Bus)
	if err != nil {
		return nil, err
	}
	if p.holdings, err = env.Bus.FollowHoldings(ctx); err != nil {
		return nil, err
	}
	return &turns{Policy: p, budgets: budgets, lifetime: env.Config.Delivery.Lifetime}, nil
}

// watch looks after HELD until ctx ends.
func (w *turns) watch(ctx context.Context) {
	w.next, w.lines, w.drops = 0, map[string]*line{}, map[string]dropped{}
	tick := time.NewTicker(turnPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := w.round(ctx, time.Now()); err != nil && ctx.Err() == nil {
			w.bus.Log.Warn().Err(err).Msg("cannot look after what is held, will try again")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// round does what is due.
func (w *turns) round(ctx context.Context, now time.Time) error {
	if err := w.look(ctx); err != nil {
		return err
	}
	if err := w.finalize(ctx, now); err != nil {
		return err
	}
	left := roundMost
	for name, l := range w.lines {
		if err := w.expire(ctx, l, now, &left); err != nil {
			return err
		}
		if err := w.serve(ctx, name, l, now, &left); err != nil {
			return err
		}
		if len(l.waiting) == 0 && now.After(l.due) {
			delete(w.lines, name)
		}
	}
	return nil
}

// look reads what came to HELD.
func (w *turns) look(ctx context.Context) (err error) {
	w.next, err = w.bus.ListHeldNews(ctx, w.next, func(n queue.HeldNews) error {
		switch {
		case n.Held != nil:
			w.enter(n.Held)
		case n.Decision == nil:
		case n.Decision.Verb == event.Drop && !n.Decision.Final:
			w.drops[queue.HeldSubject(n.Decision.QueueID, n.Decision.Part)] = dropped{*n.Decision, n.Stored}
		default:
			delete(w.drops, queue.HeldSubject(n.Decision.QueueID, n.Decision.Part))
			if n.Decision.Verb == event.Undo {
				return w.undone(ctx, n.Decision)
			}
		}
		return nil
	})
	return err
}

// undone lets what was not dropped after all wait again.
func (w *turns) undone(ctx context.Context, d *event.Decision) error {
	h, err := w.bus.HeldPart(ctx, d.QueueID, d.Part)
	if err == nil {
		w.enter(&h.Held)
	}
	if errors.Is(err, queue.ErrNotHeld) {
		return nil
	}
	return err
}

func (w *turns) enter(h *event.Held) {
	if h.Rule != ruleLimit || h.Job != nil {
		return
	}
	l := w.lines[h.Message.Device]
	if l == nil {
		l = &line{}
		w.lines[h.Message.Device] = l
	}
	t := turn{h.Message.QueueID, h.Message.AcceptedAt.Add(w.lifetime.Of(h.Message.Class)).Unix()}
	at, twice := slices.BinarySearchFunc(l.waiting, t, func(a, b turn) int { return cmp.Compare(a.id, b.id) })
	if !twice {
		l.waiting = slices.Insert(l.waiting, at, t)
	}
}

// finalize makes the drops final that were stored event.UndoFor before now.
// That is a decision of its own: of it and an undo at the same time, one is.
func (w *turns) finalize(ctx context.Context, now time.Time) error {
	left := roundMost
	for key, d := range w.drops {
		if now.Sub(d.stored) < event.UndoFor {
			continue
		}
		if left--; left < 0 {
			return nil // turns wait behind drops, a round at most
		}
		d.Final = true
		if err := w.bus.Decide(ctx, d.Decision); err != nil && !over(err) {
			return err
		}
		delete(w.drops, key)
	}
	return nil
}

// over reports that there is nothing to decide any more.
func over(err error) bool {
	return errors.Is(err, queue.ErrDecided) || errors.Is(err, queue.ErrNotHeld)
}

// expire ends the waiting of those whose time is over.
func (w *turns) expire(ctx context.Context, l *line, now time.Time, left *int) error {
	for i := 0; i < len(l.waiting); {
		t := l.waiting[i]
		if now.Unix() < t.expires || *left == 0 {
			i++
			continue
		}
		if h, err := w.open(ctx, t.id); err != nil {
			return err
		} else if h != nil {
			*left--
			if err := w.decideAbout(ctx, t.id, event.Expire, event.ReasonExpired); err != nil {
				return err
			}
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return nil
}

// open is what is still held, and nobody has decided about; nil where somebody
// has, or people want it held.
func (w *turns) open(ctx context.Context, id mail.QueueID) (*queue.HeldEntry, error) {
	h, err := w.bus.HeldOf(ctx, id)
	switch {
	case errors.Is(err, queue.ErrNotHeld):
		return nil, nil
	case err != nil:
		return nil, err
	case h.Decision != nil && h.Decision.Verb != event.Undo, w.holdings.OfMessage(&h.Message) != nil:
		return nil, nil
	}
	return h, nil
}

func (w *turns) decideAbout(ctx context.Context, id mail.QueueID, verb event.Verb, why string) error {
	err := w.bus.Decide(ctx, event.Decision{QueueID: id, Verb: verb, Actor: actorPolicy, Reason: why})
	if over(err) {
		return nil
	}
	return err
}

// serve releases what has its turn.
func (w *turns) serve(ctx context.Context, name string, l *line, now time.Time, left *int) error {
	d, known := w.registry().Device(name)
	if !known || d.State != registry.StateActive {
		return nil
	}
	if l.limits != d.Limits { // what was due by others is not
		l.limits, l.due = d.Limits, time.Time{}
	}
	for *left > 0 && len(l.waiting) > 0 && !now.Before(l.due) {
		id := l.waiting[0].id
		h, err := w.open(ctx, id)
		if err != nil {
			return err
		}
		if h != nil {
			tokens, room, err := w.take(ctx, d, len(h.Message.Env.Recipients))
			if err != nil {
				return err
			}
			if !room {
				l.due = earlier(now.Add(turnPause), now.Truncate(time.Hour).Add(time.Hour))
				return nil
			}
			*left--
			if err := w.decideAbout(ctx, id, event.Release, reasonTurn); err != nil {
				w.give(tokens)
				return err
			}
			l.due = later(l.due, now.Add(-turnPeriod)).Add(paceOf(d.Limits, len(h.Message.Env.Recipients)))
		}
		l.waiting = l.waiting[1:]
	}
	return nil
}

// take takes what a message needs of the budget of its device, all or nothing.
func (w *turns) take(ctx context.Context, d *registry.Device, recipients int) (tokens []budget.Token, room bool, err error) {
	for _, need := range []struct {
		key      string
		limit, n int
	}{
		{"/messages", d.Limits.MessagesPerHour, 1},
		{"/recipients", d.Limits.RecipientsPerHour, min(recipients, d.Limits.RecipientsPerHour)},
	} {
		if need.limit <= 0 {
			continue
		}
		t, ok, err := w.budgets.Take(ctx, "device/"+d.Name+need.key, need.limit, need.n)
		if err != nil || !ok {
			w.give(tokens)
			return nil, false, err
		}
		tokens = append(tokens, t)
	}
	return tokens, true, nil
}

func (w *turns) give(tokens []budget.Token) {
	for _, t := range tokens {
		w.budgets.Give(t)
	}
}

// pace is paceOf for a device as it is now; 0 for one that is not known.
func (p *Policy) pace(device string, recipients int) time.Duration {
	if d, ok := p.registry().Device(device); ok {
		return paceOf(d.Limits, recipients)
	}
	return 0
}

// paceOf is the time in which the limits allow a message of so many recipients.
func paceOf(l registry.Limits, recipients int) (pace time.Duration) {
	if l.MessagesPerHour > 0 {
		pace = time.Hour / time.Duration(l.MessagesPerHour)
	}
	if l.RecipientsPerHour > 0 {
		pace = max(pace, time.Duration(recipients)*time.Hour/time.Duration(l.RecipientsPerHour))
	}
	return pace
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
