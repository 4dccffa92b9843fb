package delivery

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// enter reports whether a place was had at once; the place is kept.
func enter(t *testing.T, l *limits, destination string) (taken bool, at time.Time) {
	t.Helper()
	var busy *busyError
	switch err := l.enter(t.Context(), destination, false); {
	case err == nil:
		return true, time.Time{}
	case errors.As(err, &busy):
		return false, busy.at
	default:
		t.Fatal(err)
		return false, time.Time{}
	}
}

func TestLimitOfADestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(2)
		begun := time.Now()
		for range 2 {
			if ok, _ := enter(t, l, "a.test"); !ok {
				t.Fatal("no place in an empty destination")
			}
		}
		if ok, _ := enter(t, l, "b.test"); !ok || time.Since(begun) > 0 {
			t.Fatal("another destination had to wait")
		}
		ok, at := enter(t, l, "a.test")
		if ok || time.Since(begun) != glance {
			t.Fatalf("third of two: %v after %v", ok, time.Since(begun))
		}
		if d := time.Until(at); d < soonest || d > latest {
			t.Fatalf("appointment in %v", d)
		}
		if ok, _ := enter(t, l, "a.test"); ok || time.Since(begun) != glance+patience {
			t.Fatalf("fourth of two: %v after %v", ok, time.Since(begun))
		}
		l.leave("a.test", 10*time.Millisecond, true)
		if ok, _ := enter(t, l, "a.test"); !ok {
			t.Fatal("the place that was left is not free")
		}
	})
}

func TestAppointmentsFollowThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(1)
		enter(t, l, "slow.test")
		l.leave("slow.test", 30*time.Second, true) // half a minute for each job
		enter(t, l, "slow.test")
		begun := time.Now()
		var last time.Time
		for range 5 {
			ok, at := enter(t, l, "slow.test")
			if ok || time.Since(begun) > 0 {
				t.Fatal("waits in front of a destination that is too slow to wait for")
			}
			if !last.IsZero() && at.Sub(last) != 30*time.Second {
				t.Fatalf("%v between two appointments", at.Sub(last))
			}
			last = at
		}
		for range 100 {
			_, last = enter(t, l, "slow.test")
		}
		if d := last.Sub(begun); d > latest {
			t.Fatalf("appointment in %v", d)
		}
	})
}

func TestFailingDestinationIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(3)
		for range 3 {
			enter(t, l, "dead.test")
		}
		for range 3 {
			l.leave("dead.test", connectTimeout, false)
		}
		if ok, _ := enter(t, l, "dead.test"); !ok {
			t.Fatal("nobody probes")
		}
		if ok, _ := enter(t, l, "dead.test"); ok {
			t.Fatal("two probe at a time")
		}
		l.leave("dead.test", 10*time.Millisecond, true)
		for range 3 {
			if ok, _ := enter(t, l, "dead.test"); !ok {
				t.Fatal("the destination is back and does not get all its places")
			}
		}
	})
}

func TestUrgentGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(1)
		enter(t, l, "a.test")
		l.leave("a.test", time.Millisecond, true)
		enter(t, l, "a.test")
		order := make(chan string, 2)
		wait := func(name string, urgent bool) {
			if err := l.enter(t.Context(), "a.test", urgent); err != nil {
				t.Error(err)
			}
			order <- name
			l.leave("a.test", time.Millisecond, true)
		}
		go wait("normal", false)
		synctest.Wait()
		go wait("alert", true)
		synctest.Wait()
		if _, waiting := l.busy(); waiting != 2 {
			t.Fatalf("%d wait", waiting)
		}
		l.leave("a.test", time.Millisecond, true)
		if first := <-order; first != "alert" {
			t.Errorf("%s went first", first)
		}
		<-order
	})
}

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(1)
		enter(t, l, "a.test")
		ctx, cancel := context.WithTimeout(t.Context(), glance/2)
		defer cancel()
		if err := l.enter(ctx, "a.test", false); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		l.leave("a.test", time.Second, true)
		if ok, _ := enter(t, l, "a.test"); !ok {
			t.Fatal("the one who gave up still has the place")
		}
	})
}

func TestDestinationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(1)
		for i := range 5 * many {
			name := time.Duration(i).String()
			if ok, _ := enter(t, l, name); !ok {
				t.Fatal(name)
			}
			l.leave(name, time.Millisecond, true)
			time.Sleep(time.Second)
		}
		if len(l.gates) > 2*many {
			t.Errorf("%d destinations are remembered", len(l.gates))
		}
	})
}
