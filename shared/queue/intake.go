package queue

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// A device waits for the reply to its dot and barely retries; the mail behind
// MAIL is safe and can wait. Where one process does both, what comes after
// MAIL gives way while many clients wait at once: it goes on, one message of a
// stage per intakeTurn, and takes the whole machine again as soon as the
// clients are served. That is for bursts. Where clients come steadily, some
// always wait, and what gave way to them all the time would be left behind.
const (
	// intakePressed is how many clients wait at once when others give way.
	intakePressed = 4
	// intakeLinger is how long they still do after that: clients that wait
	// together come back together.
	intakeLinger = 20 * time.Millisecond
	intakeTurn   = 10 * time.Millisecond
	// intakePatience is how old mail is that gives way no longer.
	intakePatience = 2 * time.Second
)

// Intake is the clients of this process that have sent their dot and wait for
// the reply. Who is still sending keeps nobody waiting but himself: slow
// clients must not slow the relay. The zero value has none.
type Intake struct {
	mu      sync.Mutex
	waiting int
	pressed time.Time            // when intakePressed clients last waited
	turns   map[string]time.Time // by stage: when the next turn is free
}

// Begin counts a client whose dot has come, until the returned function is called.
func (i *Intake) Begin() (end func()) {
	i.count(1)
	return func() { i.count(-1) }
}

func (i *Intake) count(by int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if max(i.waiting, i.waiting+by) >= intakePressed {
		i.pressed = time.Now()
	}
	i.waiting += by
}

// GiveWay returns when few clients wait, or when it is the caller's turn to go
// on although many do, or with the error of ctx. A stage is a service. Alerts
// give way to nobody, nor does what the stage could have had intakePatience ago.
func (i *Intake) GiveWay(ctx context.Context, stage string, lane mail.Lane, since time.Time) error {
	if lane == mail.LaneAlert {
		return nil
	}
	var turn time.Time
	for {
		now := time.Now()
		patience := since.Add(intakePatience).Sub(now)
		if patience <= 0 {
			return nil
		}
		wait := min(i.wait(now, stage, &turn), patience)
		if wait <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// wait is how long to wait before looking again; not at all when it is time.
func (i *Intake) wait(now time.Time, stage string, turn *time.Time) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.waiting >= intakePressed {
		i.pressed = now
	}
	quiet := i.pressed.Add(intakeLinger).Sub(now)
	if quiet <= 0 {
		delete(i.turns, stage) // those that are left are not taken any more
		return 0
	}
	if turn.IsZero() {
		if i.turns == nil {
			i.turns = map[string]time.Time{}
		}
		*turn = i.turns[stage]
		if turn.Before(now) {
			*turn = now
		}
		i.turns[stage] = turn.Add(intakeTurn)
	}
	return min(quiet, turn.Sub(now))
}
