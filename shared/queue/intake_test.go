package queue_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// press are as many clients as others give way to.
func press(i *queue.Intake) (end func()) {
	var ends []func()
	for range 4 {
		ends = append(ends, i.Begin())
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// While many clients wait, one message of a stage goes on every 10 ms; nobody
// waits for a few clients, nor once they are served.
func TestGiveWay(t *testing.T) {
	passed := func(t *testing.T, i *queue.Intake, n int) (after time.Duration) {
		begun := time.Now()
		for range n {
			if err := i.GiveWay(t.Context(), "signer", mail.LaneNormal, time.Now()); err != nil {
				t.Error(err)
			}
		}
		return time.Since(begun)
	}
	synctest.Test(t, func(t *testing.T) {
		var i queue.Intake
		var ends []func()
		for range 3 {
			ends = append(ends, i.Begin())
		}
		if after := passed(t, &i, 100); after != 0 {
			t.Errorf("three clients hold the others up for %s", after)
		}
		ends = append(ends, i.Begin())
		if after := passed(t, &i, 100); after < 950*time.Millisecond || after > 1050*time.Millisecond {
			t.Errorf("100 messages pass four clients in %s", after)
		}
		for _, end := range ends {
			end()
		}
		if after := passed(t, &i, 100); after > 100*time.Millisecond {
			t.Errorf("100 messages take %s after the clients are served", after)
		}
	})
}

// Turns that nobody took, since it became quiet before, are not waited for when
// clients press again.
func TestGiveWayAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i queue.Intake
		for range 100 {
			end := press(&i)
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if err := i.GiveWay(t.Context(), "signer", mail.LaneNormal, time.Now()); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			end()
			all.Wait()
		}
		defer press(&i)()
		begun := time.Now()
		for range 10 {
			if err := i.GiveWay(t.Context(), "signer", mail.LaneNormal, time.Now()); err != nil {
				t.Error(err)
			}
		}
		if after := time.Since(begun); after > 110*time.Millisecond {
			t.Errorf("10 messages pass four clients in %s", after)
		}
	})
}

// Mail that gave way for two seconds goes on, however many clients still wait:
// a steady load must not leave it behind.
func TestGiveWayNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i queue.Intake
		defer press(&i)()
		begun := time.Now()
		var all sync.WaitGroup
		for range 10_000 { // whose turns would be over in 100 s
			all.Go(func() {
				if err := i.GiveWay(t.Context(), "signer", mail.LaneNormal, begun); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if after := time.Since(begun); after != 2*time.Second {
			t.Errorf("the last of them went after %s", after)
		}
		if err := i.GiveWay(t.Context(), "signer", mail.LaneNormal, begun); err != nil || time.Since(begun) != 2*time.Second {
			t.Errorf("one that is as old waits: %v", err)
		}
	})
}

// Stages have turns of their own, and who is stopped does not wait.
func TestGiveWayByStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i queue.Intake
		defer press(&i)()
		begun := time.Now()
		for range 10 {
			for _, stage := range []string{"policy", "signer", "delivery"} {
				if err := i.GiveWay(t.Context(), stage, mail.LaneNormal, time.Now()); err != nil {
					t.Error(err)
				}
			}
		}
		if after := time.Since(begun); after > 110*time.Millisecond {
			t.Errorf("three stages wait for each other: %s", after)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		i.GiveWay(ctx, "policy", mail.LaneNormal, time.Now()) // takes the turn that is free
		if err := i.GiveWay(ctx, "policy", mail.LaneNormal, time.Now()); err == nil {
			t.Error("no error after the stop")
		}
		for range 3 {
			if err := i.GiveWay(ctx, "policy", mail.LaneAlert, time.Now()); err != nil {
				t.Errorf("an alert gives way: %v", err)
			}
		}
	})
}
