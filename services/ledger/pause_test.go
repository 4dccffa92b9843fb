package ledger

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// A look that fails is repeated at once, but one that makes the workers finish
// what they have is repeated less and less often.
func TestPause(t *testing.T) {
	r, failed := &recovery{}, errors.New("no room")
	if got := r.pause(nil, false); got != lookPeriod {
		t.Errorf("after a look: %s", got)
	}
	if got := r.pause(nil, true); got <= queue.AckWait || got >= time.Minute {
		t.Errorf("after the first look of a connect: %s", got)
	}
	for n, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, epochsApart, epochsApart} {
		r.epochs.Store(int64(n))
		if got := r.pause(failed, true); got != want {
			t.Errorf("after %d epochs: %s, not %s", n, got, want)
		}
	}
	r.epochs.Store(1 << 40)
	if got := r.pause(failed, false); got != epochsApart {
		t.Errorf("in the end: %s", got)
	}
}

// Epochs that led nowhere are counted until one did.
func TestEpochsOfFailures(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	r.accept("a@example.org")
	kv, err := bus.JS.KeyValue(t.Context(), queue.BucketWorkers)
	if err == nil {
		_, err = kv.PutString(t.Context(), queue.WorkerPrefix+"stuck", queue.WorkerSign(queue.WorkerServing, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(2) {
		short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if err := r.look(short); err == nil || r.epochs.Load() != n+1 {
			t.Errorf("a worker never finishes: %v, %d epochs", err, r.epochs.Load())
		}
		cancel()
	}
	if err := kv.Delete(t.Context(), queue.WorkerPrefix+"stuck"); err != nil {
		t.Fatal(err)
	}
	if err := r.look(t.Context()); err != nil || r.epochs.Load() != 0 || len(r.admittedEvents()) != 1 {
		t.Errorf("nobody has anything: %v, %d epochs, %d driven", err, r.epochs.Load(), len(r.admittedEvents()))
	}
}
