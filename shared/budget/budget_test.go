package budget

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// open is an instance whose clock stands at that of the test.
func open(t *testing.T, bus *queue.Bus, clock *time.Time) *Budgets {
	t.Helper()
	b, err := Open(t.Context(), bus)
	if err != nil {
		t.Fatal(err)
	}
	b.now = func() time.Time { return *clock }
	return b
}

var noon = time.Date(2026, 5, 4, 12, 30, 0, 0, time.UTC)

// drain takes one after the other until nothing is left.
func drain(t *testing.T, b *Budgets, key string, limit int) (taken int) {
	t.Helper()
	for {
		_, ok, err := b.Take(t.Context(), key, limit, 1)
		if err != nil {
			t.Error(err)
			return taken
		}
		if !ok {
			return taken
		}
		taken++
	}
}

// Instances that take at the same time get all of a limit, nearly, and never
// more.
func TestInstancesShare(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	for _, limit := range []int{1, 7, 39, 100, 250, 1000} {
		key := fmt.Sprint("device ", limit)
		taken := make([]int, 6)
		var all sync.WaitGroup
		for i := range 3 {
			b := open(t, bus, &clock)
			for j := range 2 { // two sessions each
				all.Go(func() { taken[2*i+j] = drain(t, b, key, limit) })
			}
		}
		all.Wait()
		sum := 0
		for _, n := range taken {
			sum += n
		}
		t.Logf("limit %d: %v", limit, taken)
		if sum > limit || sum*10 < limit*9 {
			t.Errorf("limit %d: %d taken", limit, sum)
		}
	}
}

// However many instances die with their slices, nine tenths remain; with the
// hour everything comes back.
func TestDeadInstances(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	const limit = 400
	taken := 0
	for range 50 {
		if _, ok, err := open(t, bus, &clock).Take(t.Context(), "device", limit, 1); err != nil || !ok {
			t.Fatal(ok, err)
		}
		taken++
	}
	last := open(t, bus, &clock)
	taken += drain(t, last, "device", limit)
	if taken > limit || taken < limit*9/10 {
		t.Errorf("%d of %d taken", taken, limit)
	}
	clock = clock.Add(time.Hour)
	if n := drain(t, last, "device", limit); n != limit {
		t.Errorf("%d of %d taken in the next hour", n, limit)
	}
}

// What is not used, and what was taken in vain, others can take.
func TestUnusedComesBack(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	const limit = 400
	one, other := open(t, bus, &clock), open(t, bus, &clock)
	token, ok, err := one.Take(t.Context(), "device", limit, 1)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n := drain(t, other, "device", limit); n != limit-limit/slices {
		t.Errorf("%d taken beside a slice", n)
	}
	one.Give(token)
	one.tidy(t.Context(), clock.Add(-time.Second)) // too early
	if n := drain(t, other, "device", limit); n != 0 {
		t.Errorf("%d taken of what is in use", n)
	}
	one.tidy(t.Context(), clock)
	if n := drain(t, other, "device", limit); n != limit/slices {
		t.Errorf("%d of the slice came back", n)
	}
	if len(one.slice) != 0 {
		t.Error("a slice that was given back is not forgotten")
	}
	one.Give(token) // of a slice that is gone: it was counted as spent
	if n := drain(t, one, "device", limit); n != 1 {
		t.Errorf("%d taken after one was given back", n)
	}
	clock = clock.Add(time.Hour)
	one.Give(token) // too late
	if n := drain(t, one, "device", limit); n != limit {
		t.Errorf("%d taken in the next hour", n)
	}
}

// A limit that is changed holds at once.
func TestLimitChanges(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	b := open(t, bus, &clock)
	for range 50 {
		b.Take(t.Context(), "device", 1000, 1)
	}
	if n := drain(t, b, "device", 60); n != 10 {
		t.Errorf("%d taken of 60 after 50", n)
	}
	if n := drain(t, b, "device", 40); n != 0 {
		t.Errorf("%d taken of 40 after 60", n)
	}
	if n := drain(t, b, "device", 100); n != 40 {
		t.Errorf("%d taken of 100 after 60", n)
	}
}

// At its end an instance gives back everything.
func TestRunGivesBack(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	b := open(t, bus, &clock)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { b.Run(ctx); close(ended) }()
	if _, ok, err := b.Take(t.Context(), "device", 400, 1); err != nil || !ok {
		t.Fatal(ok, err)
	}
	stop()
	<-ended
	if n := drain(t, open(t, bus, &clock), "device", 400); n != 399 {
		t.Errorf("%d taken, want 399", n)
	}
}

// Without the bucket nobody is told anything.
func TestNoAnswerIsNoVerdict(t *testing.T) {
	bus := queuetest.Start(t)
	clock := noon
	b := open(t, bus, &clock)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, ok, err := b.Take(ctx, "device", 1, 1); err == nil || ok {
		t.Errorf("got %v, %v", ok, err)
	}
}

// Whatever instances do, lost answers and deaths included: never more than the
// limit passes, and when one is told that nothing is left, at most a tenth lies
// idle.
func TestAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 2000).Draw(t, "limit")
		var a account
		a.turn(1)
		left := map[string]int{}
		passed, lost := 0, 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			who := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "who")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // idle
				a.settle(who, left[who])
				left[who] = 0
			case 1: // dies, and another of its name cannot know
				if had := a.Leases[who]; had > 0 {
					a.Leases[who+" that was"] += had
					delete(a.Leases, who)
				}
				left[who] = 0
			case 2: // gets no answer to what was done
				a.settle(who, left[who])
				left[who] = 0
				lost += a.lease(who, limit, 1)
			default:
				n := rapid.IntRange(1, 30).Draw(t, "n")
				for range n {
					if left[who] < 1 {
						a.settle(who, left[who])
						left[who] = a.lease(who, limit, 1)
					}
					if left[who] < 1 {
						if limit >= 100 && (passed+lost)*10 < limit*9 {
							t.Fatalf("nothing is left after %d of %d", passed, limit)
						}
						break
					}
					left[who]--
					passed++
				}
			}
			if passed+lost > limit || a.Spent+a.open() > limit {
				t.Fatalf("%d passed, %d spent, %d out: limit %d", passed, a.Spent, a.open(), limit)
			}
		}
	})
}
