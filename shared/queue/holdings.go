package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
)

// What is to be held before it is delivered stands in the bucket "holds", one
// event.Holding for each time that somebody wanted it. Who delivers follows it,
// and moves what it covers to HELD before an attempt: that is the one place that
// all mail passes last. A holding outlives by far what it is about.

// holdingTTL is how long a holding stands, which is longer than mail waits.
const holdingTTL = 30 * 24 * time.Hour

// MaxHoldingJobs is how many jobs one holding may name.
const MaxHoldingJobs = 5000

// PutHolding stores a holding, and returns when it is on stable storage.
func (b *Bus) PutHolding(ctx context.Context, h *event.Holding) error {
	h.Schema = event.Schema
	kv, err := b.JS.KeyValue(ctx, BucketHolds)
	if err == nil {
		_, err = kv.Create(ctx, h.Rule+"."+rand.Text(), event.Encode(h))
	}
	if err != nil {
		return fmt.Errorf("store what is to be held: %w", err)
	}
	return nil
}

// Holdings are the holdings as they were last followed.
type Holdings struct {
	all atomic.Pointer[holdings]
}

// holdings is one state of them; it does not change.
type holdings struct {
	senders []*event.Holding
	jobs    map[string]*event.Holding
}

// Of is the holding that covers a job; nil for none.
func (h *Holdings) Of(j *event.Job) *event.Holding {
	if j.Hold != nil {
		return j.Hold
	}
	if h == nil {
		return nil
	}
	all := h.all.Load()
	if found := all.jobs[j.ID]; found != nil && found.Covers(j) {
		return found
	}
	for _, found := range all.senders {
		if found.Covers(j) {
			return found
		}
	}
	return nil
}

// OfMessage is the holding that covers a message before it has jobs; nil for
// none.
func (h *Holdings) OfMessage(m *event.Admitted) *event.Holding {
	if h == nil {
		return nil
	}
	for _, found := range h.all.Load().senders {
		if found.CoversMessage(m) {
			return found
		}
	}
	return nil
}

// with is the state with one more; of two that name a job the later counts.
func (s *holdings) with(h *event.Holding) *holdings {
	if len(h.Jobs) == 0 {
		return &holdings{senders: append(s.senders[:len(s.senders):len(s.senders)], h), jobs: s.jobs}
	}
	out := &holdings{senders: s.senders, jobs: maps.Clone(s.jobs)}
	out.name(h)
	return out
}

func (s *holdings) name(h *event.Holding) {
	if s.jobs == nil {
		s.jobs = make(map[string]*event.Holding, len(h.Jobs))
	}
	for _, id := range h.Jobs {
		if was := s.jobs[id]; was == nil || was.At.Before(h.At) {
			own := *h
			own.Jobs = []string{id}
			s.jobs[id] = &own
		}
	}
}

// FollowHoldings follows the holdings until ctx ends; it returns once those are
// known that there are.
func (b *Bus) FollowHoldings(ctx context.Context) (*Holdings, error) {
	h := &Holdings{}
	h.all.Store(&holdings{})
	read := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		for known := false; ctx.Err() == nil; {
			err := b.watchHoldings(ctx, h, func() {
				if !known {
					known = true
					close(read)
				}
			})
			if !known {
				failed <- err
				return
			}
			if ctx.Err() == nil {
				b.Log.Warn().Err(err).Msg("what is to be held is read anew")
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	select {
	case <-read:
		return h, nil
	case err := <-failed:
		return nil, fmt.Errorf("read what is to be held: %w", err)
	}
}

func (b *Bus) watchHoldings(ctx context.Context, h *Holdings, known func()) error {
	kv, err := b.JS.KeyValue(ctx, BucketHolds)
	if err != nil {
		return err
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer watch.Stop()
	state, all := &holdings{}, false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-watch.Updates():
			switch {
			case !ok:
				return errors.New("watch ended")
			case e == nil:
				all = true
				h.all.Store(state)
				known()
				continue
			}
			one, err := event.Decode[event.Holding](e.Value())
			if err != nil {
				b.Log.Error().Err(err).Str("key", e.Key()).Msg("what is to be held cannot be read")
				continue
			}
			if !all && len(one.Jobs) > 0 { // nobody has it yet
				state.name(one)
				continue
			}
			if state = state.with(one); all {
				h.all.Store(state)
			}
		}
	}
}
