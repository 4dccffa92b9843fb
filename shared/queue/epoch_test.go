package queue_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Everyone who begins an epoch begins one of his own.
func TestNextEpoch(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	const all = 8
	var mu sync.Mutex
	seen := map[int]bool{}
	var wait sync.WaitGroup
	for range all {
		wait.Go(func() {
			n, err := bus.NextEpoch(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[n] = true
		})
	}
	wait.Wait()
	if n, err := bus.Epoch(t.Context()); err != nil || n != all || len(seen) != all || !seen[all] {
		t.Errorf("%d %v: %v", n, err, seen)
	}
}

func TestAwaitEpoch(t *testing.T) {
	t.Parallel() // it waits for WorkerTTL
	bus := queuetest.Start(t)
	kv, err := bus.JS.KeyValue(t.Context(), queue.BucketWorkers)
	if err != nil {
		t.Fatal(err)
	}
	say := func(name, value string) {
		t.Helper()
		if _, err := kv.PutString(t.Context(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.AwaitEpoch(t.Context(), 3); err != nil {
		t.Errorf("nobody works: %v", err)
	}
	say("lease.ledger", "somebody")
	say("delivery.a", queue.WorkerSign(queue.WorkerServing, 3))
	if err := bus.AwaitEpoch(t.Context(), 3); err != nil {
		t.Errorf("all are there: %v", err)
	}
	say("delivery.b", queue.WorkerSign(queue.WorkerServing, 2))
	say("delivery.c", queue.WorkerSign(queue.WorkerLeaving, 2))
	say("delivery.d", "serving") // of a release without epochs
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := bus.AwaitEpoch(short, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("three are behind: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- bus.AwaitEpoch(t.Context(), 3) }()
	say("delivery.b", queue.WorkerSign(queue.WorkerServing, 3))
	for _, gone := range []string{"delivery.c", "delivery.d"} {
		if err := kv.Delete(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(queue.WorkerTTL - time.Second): // before anybody lapses
		t.Error("it does not see that they are there, or gone")
	}
	say("delivery.killed", queue.WorkerSign(queue.WorkerServing, 2))
	if err := bus.AwaitEpoch(t.Context(), 3); err != nil {
		t.Errorf("one that was killed lapses: %v", err)
	}
}

func TestWorkerSign(t *testing.T) {
	for value, want := range map[string]int{"serving 7": 7, "leaving 0": 0, "serving": -1, "": -1, "serving x": -1} {
		if _, epoch := queue.ParseWorkerSign(value); epoch != want {
			t.Errorf("%q: %d", value, epoch)
		}
	}
	if what, epoch := queue.ParseWorkerSign(queue.WorkerSign(queue.WorkerLeaving, 4)); what != queue.WorkerLeaving || epoch != 4 {
		t.Errorf("%s %d", what, epoch)
	}
}
