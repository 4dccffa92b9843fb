// Package budget holds limits per hour over all instances of a service: slices
// of an hour's budget are leased from the bucket "budgets" by compare-and-set,
// and spent without asking anybody.
//
// Consumes and produces the bucket "budgets": one account for each key and hour
// of the clock (UTC). Keys that nobody uses any more are forgotten by the bucket.
//
// Guarantees: all instances together never take more than the limit in an hour
// of the clock. They get at least nine tenths of a limit of 100 and more, and
// all of one below 40, before any of them is told that nothing is left: slices
// are a fortieth of the limit, and all that are out at once a tenth. What an
// instance has not used for two seconds, and when it ends, it gives back. What
// one has that died counts as spent, since it may be, and comes back with the
// next hour; it is part of the same tenth.
//
// Failures: while the bucket does not answer, Take fails: who is over a limit is
// not known. What a change was about whose
// answer was lost counts as spent.
//
// Limits: around the turn of an hour twice the limit may pass within minutes. An
// instance whose clock is ahead begins the hour for all.
package budget

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queue"
)

// Budgets are the slices that this instance holds.
type Budgets struct {
	kv       jetstream.KeyValue
	log      zerolog.Logger
	instance string
	now      func() time.Time

	mu    sync.Mutex
	slice map[string]*slice
}

// slice is what this instance may spend of one key.
type slice struct {
	mu    sync.Mutex
	hour  int64
	limit int // under which it was leased
	left  int
	used  time.Time
	gone  bool // no longer in the map
}

// Open opens the budgets of the relay.
func Open(ctx context.Context, bus *queue.Bus) (*Budgets, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketBudgets)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", queue.BucketBudgets, err)
	}
	return &Budgets{kv: kv, log: bus.Log, instance: rand.Text()[:12], now: time.Now, slice: map[string]*slice{}}, nil
}

// Token is something that was taken, to be given back if it was not needed.
type Token struct {
	key  string
	hour int64
	n    int
}

// Take takes n of what is left in this hour of a limit, 1 or more, for key. It
// is false when the limit is reached; an error says nothing about that.
func (b *Budgets) Take(ctx context.Context, key string, limit, n int) (Token, bool, error) {
	s := b.locked(key)
	defer s.mu.Unlock()
	now := b.now()
	s.used = now
	if s.hour < hourOf(now) {
		s.hour, s.left = hourOf(now), 0
	}
	if s.left < n || s.limit != limit {
		if err := b.refill(ctx, key, s, limit, n); err != nil {
			return Token{}, false, err
		}
	}
	if s.left < n {
		return Token{}, false, nil
	}
	s.left -= n
	return Token{key, s.hour, n}, true, nil
}

// Give gives back what was taken and not used. After its hour it is worthless.
func (b *Budgets) Give(t Token) {
	if t.n == 0 {
		return
	}
	s := b.locked(t.key)
	defer s.mu.Unlock()
	if s.hour == 0 {
		s.hour = t.hour
	}
	if s.hour == t.hour {
		s.left += t.n
		s.used = b.now()
	}
}

// locked is the slice of a key, locked.
func (b *Budgets) locked(key string) *slice {
	for {
		b.mu.Lock()
		s := b.slice[key]
		if s == nil {
			s = &slice{}
			b.slice[key] = s
		}
		b.mu.Unlock()
		s.mu.Lock()
		if !s.gone {
			return s
		}
		s.mu.Unlock()
	}
}

// refill settles the slice and leases the next, if there is one.
func (b *Budgets) refill(ctx context.Context, key string, s *slice, limit, n int) error {
	var granted int
	hour, err := b.change(ctx, key, s, func(a *account, unspent int) bool {
		before := a.Leases[b.instance]
		a.settle(b.instance, unspent)
		granted = a.lease(b.instance, limit, n)
		return granted != 0 || before != 0 || unspent != 0
	})
	if err == nil {
		s.hour, s.limit, s.left = hour, limit, granted
	}
	return err
}

// release gives what is left of a slice back to everybody.
func (b *Budgets) release(ctx context.Context, key string, s *slice) error {
	_, err := b.change(ctx, key, s, func(a *account, unspent int) bool {
		a.settle(b.instance, unspent)
		return true
	})
	if err == nil {
		s.left = 0
	}
	return err
}

// tries bounds how often a change is begun again because others were faster.
const tries = 50

// change is one compare-and-set of an account. book is told what this instance
// has left of its lease in that hour, and reports whether it changed anything.
func (b *Budgets) change(ctx context.Context, key string, s *slice, book func(a *account, unspent int) bool) (hour int64, err error) {
	key = token(key)
	for range tries {
		a, revision, err := b.read(ctx, key)
		if err != nil {
			return 0, err
		}
		a.turn(hourOf(b.now()))
		unspent := s.left
		if s.hour != a.Hour {
			unspent = 0
		}
		if !book(&a, unspent) {
			return a.Hour, nil
		}
		err = b.write(ctx, key, a, revision)
		if err == nil {
			return a.Hour, nil
		}
		if !queue.Overtaken(err) {
			s.left = 0 // it may be with others now
			return 0, fmt.Errorf("write budget: %w", err)
		}
	}
	return 0, errors.New("write budget: others are always faster")
}

func (b *Budgets) read(ctx context.Context, key string) (a account, revision uint64, err error) {
	e, err := b.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return a, 0, nil
	case err != nil:
		return a, 0, fmt.Errorf("read budget: %w", err)
	}
	if err := json.Unmarshal(e.Value(), &a); err != nil {
		return a, 0, fmt.Errorf("read budget: %w", err)
	}
	return a, e.Revision(), nil
}

func (b *Budgets) write(ctx context.Context, key string, a account, revision uint64) error {
	value, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if revision == 0 {
		_, err = b.kv.Create(ctx, key, value)
	} else {
		_, err = b.kv.Update(ctx, key, value, revision)
	}
	return err
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// token is a key of the bucket for any key.
func token(key string) string {
	return base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(key))
}
