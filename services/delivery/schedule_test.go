package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
)

func TestSchedule(t *testing.T) {
	s := schedule{retry: config.Defaults().Delivery.Retry, lifetime: config.Defaults().Delivery.Lifetime}
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	far := now.Add(100 * time.Hour)
	for _, tt := range []struct {
		name     string
		deadline time.Time
		attempts int
		chance   float64
		want     time.Duration // from now; negative: expired
	}{
		{"after the first", far, 1, .5, 5 * time.Minute},
		{"earliest", far, 1, 0, 4 * time.Minute},
		{"after the third", far, 3, .5, 20 * time.Minute},
		{"the last step repeats", far, 7, .5, 4 * time.Hour},
		{"for ever", far, 70, .5, 4 * time.Hour},
		{"the last attempt is at the deadline", now.Add(time.Minute), 1, .5, time.Minute},
		{"the deadline is over", now, 1, .5, -1},
		{"long over", now.Add(-time.Hour), 9, .5, -1},
	} {
		at, ok := s.next(now, tt.deadline, tt.attempts, tt.chance)
		if ok != (tt.want >= 0) || ok && at.Sub(now) != tt.want {
			t.Errorf("%s: %v %v, want %v", tt.name, at.Sub(now), ok, tt.want)
		}
	}
	if got := s.deadline(now, mail.ClassAlert); got != now.Add(24*time.Hour) {
		t.Errorf("deadline of an alert: %v", got.Sub(now))
	}
}

// A message that is always delayed is tried in steps within the jitter, each
// later than the one before, the last at its deadline and none after it.
func TestScheduleOfALife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s schedule
		for _, d := range rapid.SliceOfN(rapid.Int64Range(int64(time.Second), int64(6*time.Hour)), 1, 8).Draw(t, "retry") {
			s.retry = append(s.retry, config.Duration(d))
		}
		accepted := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
		deadline := accepted.Add(time.Duration(rapid.Int64Range(int64(time.Second), int64(24*time.Hour)).Draw(t, "lifetime")))
		now := accepted
		for attempts := 1; ; attempts++ {
			next, again := s.next(now, deadline, attempts, rapid.Float64Range(0, .999999).Draw(t, "chance"))
			if !again {
				if now.Before(deadline) {
					t.Fatalf("gave up %v before the deadline", deadline.Sub(now))
				}
				return
			}
			step := time.Duration(s.retry[min(attempts, len(s.retry))-1])
			lowest, highest := step*8/10-1, step*12/10+1
			switch d := next.Sub(now); {
			case !next.After(now):
				t.Fatalf("attempt %d: not later", attempts)
			case next.After(deadline):
				t.Fatalf("attempt %d: %v beyond the deadline", attempts, next.Sub(deadline))
			case d > highest, d < lowest && !next.Equal(deadline):
				t.Fatalf("attempt %d: %v is not %v ± 20 %%", attempts, d, step)
			}
			now = next
			if attempts > 200_000 {
				t.Fatal("does not end")
			}
		}
	})
}
