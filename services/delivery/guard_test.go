package delivery

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/queue"
)

// A member that lapses between the question before the dot and the moment in
// which the system takes it breaks the transaction off; later it does not.
func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		name  string
		beats bool          // signs of life go on
		sent  time.Duration // after which the dot is out
		want  error
	}{
		{"the dot leaves at once", false, 0, nil},
		{"a peer does not read, the worker lapses", false, time.Minute, errLapsed},
		{"a peer does not read, the worker lives", true, time.Minute, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &membership{ttl: queue.WorkerTTL, beat: time.Now()}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				a := &attempt{mta: &transport{left: m.left}}
				send, g := a.guard(ctx)
				if err := g.beforeDot(send); err != nil {
					t.Fatal(err)
				}
				for range tt.sent / time.Second {
					time.Sleep(time.Second)
					if tt.beats {
						m.mu.Lock()
						m.beat = time.Now()
						m.mu.Unlock()
					}
				}
				if err := context.Cause(send); !errors.Is(err, tt.want) {
					t.Errorf("before the dot was out: %v", err)
				}
				g.afterDot()
				time.Sleep(time.Hour)
				if err := context.Cause(send); !errors.Is(err, tt.want) {
					t.Errorf("after it: %v", err)
				}
				g.end()
			})
		})
	}
}

// A process that was stopped, or cut off from the bus, for as long as the bus
// waits for a sign of life of its jobs, does not complete them.
func TestStoppedProcessSendsNoDot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &membership{ttl: queue.WorkerTTL, beat: time.Now()}
		a := &attempt{mta: &transport{left: m.left}}
		send, g := a.guard(t.Context())
		defer g.end()
		time.Sleep(30 * time.Second) // nothing runs meanwhile, the clock does
		if err := g.beforeDot(send); !errors.Is(err, errLapsed) {
			t.Errorf("got %v", err)
		}
	})
	// Signs of life of jobs are five seconds apart: at the last dot, the bus has
	// seen one within its deadline.
	if queue.WorkerTTL*9/10+queue.AckWait/4 >= queue.AckWait {
		t.Error("a worker may complete a job after its deadline")
	}
}

// A service that stops breaks off before the dot, and waits for its reply after.
func TestGuardOfAStoppingService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &membership{ttl: time.Hour, beat: time.Now()}
		a := &attempt{mta: &transport{left: m.left}}
		before, stopBefore := context.WithCancel(t.Context())
		early, g := a.guard(before)
		stopBefore()
		synctest.Wait()
		if err := context.Cause(early); !errors.Is(err, errStopping) || !errors.Is(g.beforeDot(early), errStopping) {
			t.Errorf("got %v", err)
		}
		g.end()

		after, stopAfter := context.WithCancel(t.Context())
		late, g := a.guard(after)
		if err := g.beforeDot(late); err != nil {
			t.Fatal(err)
		}
		g.afterDot()
		stopAfter()
		time.Sleep(dotGrace - time.Second)
		if late.Err() != nil {
			t.Errorf("after the dot: %v", context.Cause(late))
		}
		time.Sleep(2 * time.Second)
		if late.Err() == nil {
			t.Error("it never ends")
		}
		g.end()
	})
}
