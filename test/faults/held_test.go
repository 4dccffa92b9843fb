//go:build faults

package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/service"
)

// TestHoldAndRelease: all that is queued is held and released again and again,
// while those who hold it and who release it are killed. Nobody gets a copy more
// or less for that.
func TestHoldAndRelease(t *testing.T) {
	t.Parallel()
	messages, kills := size(t, 600, 8)
	seeds(t, func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		p := plan{seed: seed, messages: messages}
		for n := range kills {
			who := []string{"policy", "delivery", "policy", "delivery-2", "nats-1"}[n%5]
			p.add(rnd, []string{who}, between(100*time.Millisecond, time.Second)(rnd))
		}
		p.sort()
		t.Log(p)
		r := start(t, 1)
		l := r.submit("client", p.seed, p.messages, retries, p.think())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- r.holdAndRelease(ctx) }()
		r.apply(p, r.kill)
		l.accepted(p.messages)
		stop()
		if releases := <-done; releases < 3 {
			t.Errorf("only %d times something was released", releases)
		}
		r.judge()
	})
}

// holdAndRelease holds what there is of the devices, wherever it is, as contain
// does, and releases it, until ctx ends; and then what is held.
func (r *rig) holdAndRelease(ctx context.Context) (releases int) {
	bus := r.relay.Connect(r)
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil && r.Context().Err() == nil {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			h := event.Holding{At: time.Now(), Rule: event.RuleContain, By: "fault", Address: netip.MustParsePrefix("127.0.0.0/8")}
			if err := bus.PutHolding(short, &h); err != nil {
				r.Logf("hold: %v", err) // its bus was killed
			}
			cancel()
			r.rest(200 * time.Millisecond)
		}
	})
	all.Go(func() {
		for ctx.Err() == nil && r.Context().Err() == nil {
			if r.decides("release", "--all") {
				releases++
			}
			r.rest(500 * time.Millisecond)
		}
	})
	all.Wait()
	// What delivery comes to only now is held after all: what a worker had that
	// was killed, and what is deferred.
	for idle := 0; idle < 3 && r.Context().Err() == nil; {
		r.decides("release", "--all")
		r.rest(time.Second)
		if left, err := r.run("postrider", "queue", "ls", "-o", "jsonl", "--config", r.relay.File); err == nil && left == "" {
			idle++
		} else {
			idle = 0
		}
	}
	r.Logf("released %d times while mail came", releases)
	return releases
}

// decides runs a command on the queue, and reports that it did something.
func (r *rig) decides(args ...string) bool {
	_, err := r.run("postrider", slices.Concat([]string{"queue"}, args, []string{"--reason", "fault", "--config", r.relay.File})...)
	var exit *errExit
	if errors.As(err, &exit) && exit.code != service.ExitNotFound {
		r.Logf("queue %s: %v", args[0], err) // its bus was killed
	}
	return err == nil
}
