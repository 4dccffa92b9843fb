package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// unread is where the messages begin that policy may not have entered into the
// books, and when the first of them was stored.
type unread struct {
	seq  uint64
	from time.Time
}

func (p *purger) unread(ctx context.Context, stream string) (unread, error) {
	u := unread{from: p.clock()}
	floor, err := ackFloor(ctx, p.bus, stream, policyDurable)
	if err != nil {
		return u, err
	}
	u.seq = floor + 1
	return u, scanHeads(ctx, p.bus, stream, u.seq, 1, func(h head) (bool, error) {
		u.from = h.stored
		return false, nil
	})
}

// plan is what one step does to a stream.
type plan struct {
	stream string
	gone   []head // what goes, in order
	moves  []move // what of it is kept before
	// cut says that the step ended before it met what must stay.
	cut bool
}

// move is a message that goes to KEEP.
type move struct {
	id   mail.QueueID
	seq  uint64
	size int64 // of the content, octets
}

// verdict is what becomes of a message of MAIL.
type verdict int

const (
	stays verdict = iota
	goes
	moves
)

// plan looks at a shard of MAIL from its front. While room is short it ends
// where what it gives back is at least as much as what it has to move: more
// would take room before it gives any.
func (p *purger) plan(ctx context.Context, stream string, u unread) (*plan, error) {
	out := &plan{stream: stream}
	gone, moving := 0, 0 // as far as it is worth while
	var gives, takes int64
	err := p.within(ctx, func(lookup lookup) error {
		return scanHeads(ctx, p.bus, stream, 0, 512, func(h head) (bool, error) {
			enough := p.early && gives >= takes && gives > int64(hastyShare*float64(p.store))
			if out.cut = enough || len(out.gone) == planLength; out.cut {
				return false, nil
			}
			a, v, err := p.judge(h, u, lookup)
			if err != nil || v == stays {
				return false, err
			}
			size := max(a.size, h.size)
			if v == goes {
				gives += size
			} else {
				takes += size
				p.phiKept = p.phiKept || a.phi
				out.moves = append(out.moves, move{a.id, h.seq, size})
			}
			out.gone = append(out.gone, h)
			if !p.early || gives >= takes {
				gone, moving = len(out.gone), len(out.moves)
			}
			return true, nil
		})
	})
	out.gone, out.moves = out.gone[:gone], out.moves[:moving]
	return out, err
}

// judge decides about a message of MAIL.
func (p *purger) judge(h head, u unread, lookup lookup) (a standing, v verdict, err error) {
	due := p.now.Add(-p.retention)
	switch {
	case !p.early && h.stored.After(due):
		return a, stays, nil
	case h.seq >= u.seq:
		p.blocked(h, "policy has not acknowledged it")
		return a, stays, nil
	case queue.IsCanary(h.subject):
		return a, goes, nil
	}
	if a, err = lookup(h.id); err != nil {
		return a, stays, err
	}
	switch {
	case !a.known:
		p.blocked(h, "it is not in the books")
		return a, stays, nil
	case a.over(due, p.early):
		return a, goes, nil
	}
	return a, moves, nil
}

// blockedAfter is how long something may be overdue before the log says why,
// and the time between two such lines.
const blockedAfter = time.Hour

// blocked tells of a message that holds up the purge.
func (p *purger) blocked(h head, why string) {
	if p.now.Sub(h.stored) < p.retention+blockedAfter || p.now.Sub(p.warned[h.subject]) < blockedAfter {
		return
	}
	p.warned[h.subject] = p.now
	p.log.Warn().Str("subject", h.subject).Uint64("seq", h.seq).Str("id", h.id).Time("stored", h.stored).Str("why", why).
		Msg("content cannot be purged, nor what came after it")
}

// body purges the chunks of the messages that left MAIL, and those that belong
// to none.
func (p *purger) body(ctx context.Context, n int, u unread) error {
	s, err := p.bus.JS.Stream(ctx, queue.MailStream(n))
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	for out := (&plan{cut: true}); out.cut && ctx.Err() == nil; {
		out = &plan{stream: queue.BodyStream(n)}
		err := p.within(ctx, func(lookup lookup) error {
			// The server reads chunks to tell of them: few at a time.
			return scanHeads(ctx, p.bus, out.stream, 0, 16, func(h head) (bool, error) {
				if out.cut = len(out.gone) == planLength; out.cut {
					return false, nil
				}
				id, _, _ := strings.Cut(h.id, "/")
				a, err := lookup(id)
				if err != nil || !p.passes(h, a, &state, u) {
					return false, err
				}
				out.gone = append(out.gone, h)
				return true, nil
			})
		})
		if err == nil {
			err = p.carryOut(ctx, out)
		}
		if err != nil || len(out.gone) > 0 { // held
			return err
		}
	}
	return nil
}

// passes reports a chunk that nobody needs: its message has left MAIL, or was
// never stored. A message that the books do not know is one of MAIL that
// policy has not read, or none: a chunk is stored no longer than
// queue.MaxUpload before its message. Settled messages beyond the end of MAIL
// are from a stream before it.
func (p *purger) passes(h head, a standing, mail *jetstream.StreamState, u unread) bool {
	if a.known {
		return a.seq < mail.FirstSeq || a.seq > mail.LastSeq && a.over(p.now.Add(-p.retention), p.early)
	}
	age := max(p.retention, orphanAge)
	if p.early {
		age = orphanAge
	}
	return h.stored.Before(p.now.Add(-age)) && h.stored.Before(u.from.Add(-orphanAge))
}

// carryOut moves what is to be kept, and purges as it goes: a copy takes room
// until then.
func (p *purger) carryOut(ctx context.Context, pl *plan) error {
	for left := pl.moves; len(left) > 0; {
		n, octets := 0, int64(0)
		for n < len(left) && octets < purgeOctets {
			octets += left[n].size
			n++
		}
		last, err := p.keep(ctx, pl.stream, left[:n])
		if err := errors.Join(err, p.purge(ctx, pl, last)); err != nil {
			return err
		}
		left = left[n:]
	}
	return p.purge(ctx, pl, math.MaxUint64)
}

// keep copies messages to KEEP, and returns the sequence up to which all are.
func (p *purger) keep(ctx context.Context, stream string, list []move) (last uint64, err error) {
	var group errgroup.Group
	group.SetLimit(keptAbreast)
	failed := make([]error, len(list))
	for i, m := range list {
		group.Go(func() error {
			failed[i] = p.bus.Keep(ctx, m.id, stream, m.seq)
			return nil
		})
	}
	group.Wait()
	for i, m := range list {
		if failed[i] != nil {
			return m.seq - 1, failed[i]
		}
		last = m.seq
		p.metrics.kept.Inc()
	}
	return last, nil
}

// purge takes out what a plan has up to a sequence, in requests of bounded
// length. None is made any more once recovery finds that LEDGER is not what it
// was.
func (p *purger) purge(ctx context.Context, pl *plan, last uint64) error {
	s, err := p.bus.JS.Stream(ctx, pl.stream)
	for err == nil && len(pl.gone) > 0 && pl.gone[0].seq <= last && !p.ledger.held() {
		n, octets := 0, int64(0)
		for n < len(pl.gone) && pl.gone[n].seq <= last && n < purgeLength && octets < purgeOctets {
			octets += pl.gone[n].size
			n++
		}
		if err = s.Purge(ctx, jetstream.WithPurgeSequence(pl.gone[n-1].seq+1)); err == nil {
			p.metrics.purged(pl.stream, n, octets)
			pl.gone, p.gave = pl.gone[n:], true
		}
	}
	return err
}

// standing is what the books say of a message: whether it is in them, whether
// all its recipients are settled, and since when.
type standing struct {
	id        mail.QueueID
	known     bool
	open      bool
	settledAt time.Time
	size      int64  // octets
	seq       uint64 // in MAIL
	phi       bool
}

// over reports a message that was settled before due or, when that does not
// matter, at all.
func (a *standing) over(due time.Time, early bool) bool {
	return a.known && !a.open && (early || !a.settledAt.After(due))
}

// lookup finds a QueueID in the books.
type lookup func(id string) (standing, error)

// within runs steps that look up.
func (p *purger) within(ctx context.Context, steps func(lookup) error) error {
	l := p.ledger
	l.opened.RLock()
	defer l.opened.RUnlock()
	stmt, err := l.index.reader.PrepareContext(ctx, `SELECT m.accepted_seq > 0, m.seq, m.size, sum(r.state = 0) > 0, max(r.settled_at), m.phi
		FROM messages m JOIN recipients r ON r.message = m.id WHERE m.queue_id = ? GROUP BY m.id`)
	if err != nil {
		return fmt.Errorf("look up message: %w", err)
	}
	defer stmt.Close()
	var last standing
	return steps(func(id string) (standing, error) {
		if id == string(last.id) {
			return last, nil
		}
		a := standing{id: mail.QueueID(id)}
		var settled int64
		err := stmt.QueryRowContext(ctx, id).Scan(&a.known, &a.seq, &a.size, &a.open, &settled, &a.phi)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return a, fmt.Errorf("look up message: %w", err)
		}
		a.settledAt, last = instant(settled), a
		return a, nil
	})
}
