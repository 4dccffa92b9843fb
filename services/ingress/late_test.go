package ingress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/mail"
)

// lateRig is a late whose records go to written, unless the bus is down.
type lateRig struct {
	*late
	down atomic.Bool

	mu      sync.Mutex
	written []mail.QueueID
}

func newLateRig() *lateRig {
	r := &lateRig{}
	r.late = newLate(func(_ context.Context, id mail.QueueID) error {
		if r.down.Load() {
			return errors.New("bus is down")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.written = append(r.written, id)
		return nil
	}, zerolog.Nop(), prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"}))
	return r
}

// wrote is what was written.
func (r *lateRig) wrote() []mail.QueueID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.written)
}

// start runs it until the returned function is called.
func (r *lateRig) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// The records are written when the bus is back, in order, each once; those that
// are left at the end are tried once more.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLateRig()
		stop := r.start(t)
		r.down.Store(true)
		r.add("A")
		r.add("B")
		time.Sleep(time.Minute)
		if len(r.wrote()) > 0 {
			t.Errorf("wrote %v to a bus that is down", r.wrote())
		}
		r.down.Store(false)
		time.Sleep(2 * latePause)
		if want := []mail.QueueID{"A", "B"}; !slices.Equal(r.wrote(), want) {
			t.Errorf("wrote %v, want %v", r.wrote(), want)
		}
		r.down.Store(true)
		r.add("C")
		r.add("D")
		synctest.Wait()
		r.down.Store(false)
		stop()
		if want := []mail.QueueID{"A", "B", "C", "D"}; !slices.Equal(r.wrote(), want) || testutil.ToFloat64(r.dropped) != 0 {
			t.Errorf("wrote %v, want %v", r.wrote(), want)
		}
	})
}

// What cannot be remembered, or written in the end, is counted.
func TestLateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLateRig()
		r.down.Store(true)
		for n := range lateMost + 3 {
			r.add(mail.QueueID(fmt.Sprint(n)))
		}
		if got := testutil.ToFloat64(r.dropped); got != 3 {
			t.Errorf("%v dropped", got)
		}
		r.start(t)()
		if got := testutil.ToFloat64(r.dropped); got != lateMost+3 || len(r.ids) > 0 {
			t.Errorf("%v dropped, %d left", got, len(r.ids))
		}
	})
}
