package ingress

import (
	"testing"
	"testing/synctest"
	"time"
)

// It ends when it is due, unless it was stopped, also in the last instant.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, over := time.Now(), make(chan time.Duration, 2)
		call := func() { over <- time.Since(began) }
		newHurry(9*time.Second, call)
		stopped := newHurry(5*time.Second, call)
		time.Sleep(4500 * time.Millisecond)
		stopped.stop()
		if took := <-over; took != 9*time.Second {
			t.Errorf("over after %s", took)
		}
		time.Sleep(time.Minute)
		if len(over) != 0 {
			t.Error("over though it was stopped, or twice")
		}
		h := newHurry(time.Second, call)
		h.stop()
		h.step() // which was on its way
		if len(over) != 0 {
			t.Error("over though it was stopped")
		}
	})
}
