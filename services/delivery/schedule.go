package delivery

import (
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
)

// jitter spreads attempts that failed together, as a part of the delay.
const jitter = 0.2

// schedule says when to try again and when to give up (RFC 5321 §4.5.4.1).
type schedule struct {
	retry    []config.Duration
	lifetime config.Lifetime
}

// deadline is when the lifetime of a message ends.
func (s schedule) deadline(accepted time.Time, class mail.Class) time.Time {
	return accepted.Add(s.lifetime.Of(class))
}

// next is when to try again after so many attempts, or false when the
// lifetime has ended. The last attempt is made at the deadline itself, so that
// all of the lifetime is used and nothing lives beyond it. u in [0, 1) is
// chance.
func (s schedule) next(now, deadline time.Time, attempts int, u float64) (time.Time, bool) {
	if !now.Before(deadline) {
		return time.Time{}, false
	}
	at := now.Add(s.delay(attempts, u))
	if at.After(deadline) {
		return deadline, true
	}
	return at, true
}

// delay before the attempt that follows so many; the last step repeats.
func (s schedule) delay(attempts int, u float64) time.Duration {
	step := time.Duration(s.retry[min(max(attempts, 1), len(s.retry))-1])
	return time.Duration(float64(step) * (1 - jitter + 2*jitter*u))
}
