//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// TestStoreSilent: the nats-server stands still. It still takes connections,
// as a machine does whose disk hangs.
func TestStoreSilent(t *testing.T) {
	t.Parallel()
	r := start(t, 1)
	without(r, []string{"nats-1"}, syscall.SIGSTOP, func() { r.process("nats-1").Signal(r, syscall.SIGCONT) })
}

// TestNoQuorum: two of three nats-servers die.
func TestNoQuorum(t *testing.T) {
	t.Parallel()
	r := start(t, 3)
	r.replicated()
	gone := []string{"nats-2", "nats-3"}
	without(r, gone, syscall.SIGKILL, func() {
		for _, name := range gone {
			r.process(name).Start(r)
		}
		r.relay.NATS.Ready(r)
	})
	r.replicated()
}

// Messages before, while and after the store is away.
const (
	before, during, after = 300, 5, 50
	// think lets the load last for some seconds.
	think = 200 * time.Millisecond
)

// without takes the store away under load. A device that submits meanwhile is
// told 451 4.3.0 before it loses patience; ingress says that it is not ready;
// when the store is back, everything goes on by itself.
func without(r *rig, targets []string, signal syscall.Signal, restore func()) {
	ingress := r.relay.Service(r, "ingress")
	background := r.submit("client", 1, before, retries, think)
	r.reach(0.3)
	r.strike(targets, signal)
	r.refused()
	began := time.Now()
	var notReady *world.NotReadyError
	err := world.Await(func(ctx context.Context) error {
		if err := ingress.Ready(ctx); !errors.As(err, &notReady) {
			return fmt.Errorf("ingress does not say that it is not ready: %v", err)
		}
		return nil
	})
	if err != nil {
		r.Errorf("the store is away: %v", err)
	} else {
		r.Logf("ingress said that it is not ready %.1f s after the devices were refused: %v", time.Since(began).Seconds(), notReady)
	}
	restore()
	r.restored()
	world.WaitFor(r, "ingress to be ready again", ingress.Ready)
	r.Logf("ingress was ready %.1f s after the store was back", time.Since(r.lastFault()).Seconds())
	background.accepted(before)
	r.submit("after", 3, after, retries, 0).accepted(after)
	r.judge()
}

// refused submits without trying again, and wants 451 4.3.0.
func (r *rig) refused() {
	r.Helper()
	r.submit("during", 2, during, 1, 0).wait()
	r.work.due -= during * (1 + recipients)
	answers := 0
	sent := map[string]submission{}
	for _, l := range read[submission](r, r.path("during")) {
		switch l.Phase {
		case "sent":
			sent[l.Token] = l
		case "reply", "refused":
			answers++
			if l.Code != 451 || l.Enhanced != "4.3.0" {
				r.Errorf("the store is away, and a device is told %d %s %s", l.Code, l.Enhanced, l.Text)
			}
			if s, ok := sent[l.Token]; ok {
				r.Logf("%d %s %.1f s after the dot: %s", l.Code, l.Enhanced, l.At.Sub(s.At).Seconds(), l.Text)
			} else {
				r.Logf("%d %s before the dot: %s", l.Code, l.Enhanced, l.Text)
			}
		}
	}
	if answers != during {
		r.Errorf("the store is away, and of %d devices %d were answered", during, answers)
	}
}

// replicated wants every stream kept three times.
func (r *rig) replicated() {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	bus := r.relay.Connect(r)
	streams := bus.JS.ListStreams(ctx)
	count := 0
	for s := range streams.Info() {
		count++
		if s.Config.Replicas != 3 {
			r.Errorf("stream %s is kept %d times, want 3", s.Config.Name, s.Config.Replicas)
		}
	}
	if err := streams.Err(); err != nil || count == 0 {
		r.Errorf("list streams: %d, %v", count, err)
	}
}
