//go:build crashpoints

package crashpoints

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

// rounds is how often all points are tried; 0 is some points of each service.
var rounds = flag.Int("rounds", 0, "try every point so many `times`; without it some of each service")

const (
	// few is how many points of a service are some.
	few = 8
	// calm is how many points in a row a service must survive to have survived
	// its calls of one kind: which thread makes a call is chance.
	calm = 3
)

// TestCrashPoints: no kill of a service loses mail, doubles it, or brings the
// books out of balance.
func TestCrashPoints(t *testing.T) {
	r := newRelay(t)
	for _, service := range services {
		if t.Failed() {
			break // the books of this relay will not be in order again
		}
		t.Run(service, func(t *testing.T) {
			was := r.T
			r.T = t
			defer func() { r.T = was }()
			if *rounds == 0 {
				r.some(t, service)
			}
			for round := range *rounds {
				r.large = round%2 == 1
				r.all(t, service)
			}
			r.large = false
			r.unchanged(t)
		})
	}
	t.Logf("\n%s", r.table())
	if *rounds > 0 {
		t.Logf("killed when about to make one of these calls:\n%s", r.places())
	}
}

// some tries few points, spread over the calls of the service. Where there are
// fewer, they are tried again: other threads make other calls the n-th.
func (r *relay) some(t *testing.T, service string) {
	t.Helper()
	counts := r.counts(t, service)
	for call, n := range r.counts(t, service) { // less, by another scheduling
		counts[call] = min(n, counts[call])
	}
	var points []point
	for _, call := range slices.Sorted(maps.Keys(counts)) {
		for n := range counts[call] {
			points = append(points, point{service, call, n + 1})
		}
	}
	for i := range few {
		r.play(t, points[i*len(points)/few])
	}
}

// all tries every point, until the service survives.
func (r *relay) all(t *testing.T, service string) {
	t.Helper()
	for _, call := range slices.Sorted(maps.Keys(r.counts(t, service))) {
		survived := 0
		for n := 1; survived < calm && !t.Failed(); n++ {
			if res := r.play(t, point{service, call, n}); res.fired {
				survived = 0
			} else {
				survived++
			}
		}
	}
}

// counts are how many calls of each kind the busiest thread of a service makes
// while a message goes through.
func (r *relay) counts(t *testing.T, service string) map[string]int {
	t.Helper()
	victim := r.programs[service]
	tr := attach(t, victim.cmd.Process.Pid, strings.Join(calls, ","))
	m := r.newProbe()
	r.submit(t, m)
	r.await(t, victim, m)
	r.quiet(t, victim)
	tr.detach()
	return tr.counts(t)
}

// unchanged looks whether more copies came after a point was judged.
func (r *relay) unchanged(t *testing.T) {
	t.Helper()
	for _, res := range r.results {
		if copies, reports := len(r.copies(res.good)), len(r.copies(res.sender)); copies != res.copies || reports != res.reports {
			t.Errorf("%s: at the end there are %d copies and %d reports", res, copies, reports)
		}
	}
}
