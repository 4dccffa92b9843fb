package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queue"
)

// Content is purged from the front of MAIL and BODY, up to the first message
// that must stay. What must go has its terminal records in LEDGER: the index,
// on which the purge rests, has read them there. A message that is older than
// the retention and must stay all the same is moved to KEEP (keep.go), so that
// none holds up those behind it: in MAIL nothing is older than the retention.
// Only what policy has not acknowledged stays whatever its age, and with it
// what is behind; the metric of the overdue says so.
//
// While room is short, settled content goes before its time, oldest first.

const (
	// purgePeriod is the time between two rounds, and hastyPeriod while room is
	// short and a round gave some back.
	purgePeriod = time.Minute
	hastyPeriod = 5 * time.Second
	// shortShare is the part of the store above which room is short. Intake
	// stops at queue.IntakeShare, which is more.
	shortShare = 0.80
	// planLength is how many messages one step looks at, and hastyShare the part
	// of the store that one step gives back while room is short.
	planLength = 10_000
	hastyShare = 0.01
	// purgeOctets and purgeLength bound what one request to the server purges:
	// it stores nothing in that stream meanwhile.
	purgeOctets = 64 << 20
	purgeLength = 20_000
	// orphanAge is from when on a chunk that belongs to no message is garbage.
	orphanAge = 2 * queue.MaxUpload
	// keptAbreast is how many messages are moved to KEEP at a time.
	keptAbreast = 8
	// keptRounds is how many rounds lie between two looks into KEEP.
	keptRounds = 10
)

// purging purges until ctx ends.
func (l *Ledger) purging(ctx context.Context) {
	p := newPurger(l)
	defer l.metrics.purge.rest()
	for ctx.Err() == nil {
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn().Err(err).Msg("cannot purge everything, will try again")
		}
		pause := min(max(p.retention/10, time.Second), purgePeriod)
		if p.early && p.gave {
			pause = hastyPeriod
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// purger purges the content of settled messages.
type purger struct {
	ledger    *Ledger
	bus       *queue.Bus
	log       zerolog.Logger
	metrics   *purgeMetrics
	retention time.Duration
	clock     func() time.Time
	room      func(context.Context) (queue.Room, error)

	// now is when the round began, early whether room was short then, store its
	// limit, and gave whether anything was purged since.
	now   time.Time
	early bool
	store int64
	gave  bool

	// phiKept says that KEEP has health data, which goes once it is settled.
	phiKept bool

	rounds int
	marks  []mark               // of ADMITTED, oldest first
	warned map[string]time.Time // by subject
}

func newPurger(l *Ledger) *purger {
	return &purger{
		ledger: l, bus: l.bus, log: l.log, metrics: l.metrics.purge, retention: l.retention,
		clock: time.Now, room: l.bus.Room, warned: map[string]time.Time{},
	}
}

// round purges what there is to purge. Trouble with one stream does not keep
// the others from it.
func (p *purger) round(ctx context.Context) error {
	if p.ledger.held() {
		return nil
	}
	p.now, p.gave = p.clock(), false
	early, err := p.short(ctx)
	if early && !p.early {
		p.log.Warn().Msg("room is short: settled content is purged before its time")
	}
	if p.early = early; early {
		p.metrics.early.Inc()
	}
	errs := []error{err}
	for more := true; more && ctx.Err() == nil; {
		more = false
		for n := range queue.Shards {
			again, err := p.shard(ctx, n)
			more = more || again && err == nil
			errs = append(errs, err)
		}
		if !early {
			continue
		}
		if early, err = p.short(ctx); err != nil || !early {
			break
		}
	}
	errs = append(errs, p.admitted(ctx))
	if p.early || p.phiKept || p.rounds%keptRounds == 0 {
		errs = append(errs, p.forget(ctx))
	}
	p.rounds++
	return errors.Join(append(errs, p.measure(ctx))...)
}

// short reports that room is.
func (p *purger) short(ctx context.Context) (bool, error) {
	room, err := p.room(ctx)
	p.store = room.Limit
	return err == nil && room.Ratio() > shortShare, err
}

// shard takes one step on a shard of MAIL, and what it can on its BODY. It
// reports that there may be more to do.
func (p *purger) shard(ctx context.Context, n int) (more bool, err error) {
	unread, err := p.unread(ctx, queue.MailStream(n))
	if err != nil {
		return false, err
	}
	// What policy acknowledged before is now in the index.
	if _, err := p.ledger.caughtUp(ctx); err != nil {
		return false, err
	}
	pl, err := p.plan(ctx, queue.MailStream(n), unread)
	if err == nil {
		gone := len(pl.gone)
		err = p.carryOut(ctx, pl)
		more = pl.cut && len(pl.gone) < gone
	}
	if err != nil {
		return false, fmt.Errorf("purge %s: %w", queue.MailStream(n), err)
	}
	if err := p.body(ctx, n, unread); err != nil {
		return false, fmt.Errorf("purge %s: %w", queue.BodyStream(n), err)
	}
	return more, nil
}
