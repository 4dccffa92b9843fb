package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/notice"
	"github.com/postrider/postrider/shared/registry"
)

const (
	// problemTime is the time in which refusals and failures count, and within
	// which contacts hear of them once.
	problemTime = 24 * time.Hour
	// problemsMost devices have a problem of their own at the same time; where more
	// have, the fault is elsewhere.
	problemsMost = 100
	// refusedEach is how often the evidence is read, refusedMost how far back.
	refusedEach = time.Hour
	refusedMost = 200_000
)

// problems tells once a day when much goes wrong (M24).
func problems(d *registry.Device, use Use, rules *Rules, now time.Time) []Step {
	if rules.Problems == 0 || use.Refused+use.Failed < rules.Problems || told(d, Problem).After(now.Add(-problemTime)) {
		return nil
	}
	return []Step{{Deed: Tell, Cause: Problem, Why: fmt.Sprintf("%d attempts were refused and %d messages were not delivered within a day", use.Refused, use.Failed)}}
}

// brakeProblems takes the notices of problems out of what is to be done, when they
// would be too many, and says so.
func brakeProblems(todo map[*registry.Device][]Step) error {
	isOne := func(s Step) bool { return s.Cause == Problem }
	n := 0
	for _, steps := range todo {
		if slices.ContainsFunc(steps, isOne) {
			n++
		}
	}
	if n <= problemsMost {
		return nil
	}
	for d := range todo {
		todo[d] = slices.DeleteFunc(todo[d], isOne)
	}
	return fmt.Errorf("%d devices have many refusals or failures: is a destination, or the relay itself, broken? Their contacts are not told. Tell those who are to know: postrider notify", n)
}

// evidence is what was refused of the devices within problemTime, as last read.
type evidence struct {
	at      time.Time
	devices map[string]*notice.Trouble
}

// refused reads the evidence of refusals, once in refusedEach.
func (l *Lifecycle) refused(ctx context.Context, reg *registry.Snapshot, now time.Time) error {
	if l.rules.Problems == 0 || now.Sub(l.evidence.at) < refusedEach {
		return nil
	}
	found, read := map[string]*notice.Trouble{}, 0
	err := l.bus.ListRefusals(ctx, func(r *event.Refusal) error {
		if read++; read > refusedMost || now.Sub(r.At) > problemTime {
			return errEnough
		}
		name := notice.Of(reg, r.Facts.Address, r.Facts.Identity)
		if name == "" {
			return nil
		}
		t := found[name]
		if t == nil {
			t = &notice.Trouble{}
			found[name] = t
		}
		if t.Refused += max(r.Count, 1); len(t.Samples) < notice.MaxSamples {
			t.Samples = append(t.Samples, notice.Refused(r))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("read refusals: %w", err)
	}
	l.evidence = evidence{now, found}
	return nil
}

// errEnough ends the reading of the evidence.
var errEnough = errors.New("read far enough")

// describe is the text of a problem notice, with samples.
func (l *Lifecycle) describe(ctx context.Context, d *registry.Device, now time.Time) ([]string, error) {
	t := notice.Trouble{Since: now.Add(-problemTime)}
	if had := l.evidence.devices[d.Name]; had != nil {
		t.Refused, t.Samples = had.Refused, slices.Clone(had.Samples)
	}
	failed, samples, err := notice.FailedSince(ctx, l.export, d.Name, t.Since)
	t.Failed, t.Samples = failed, append(t.Samples, samples...)
	return notice.Problem(d, &t), err
}
