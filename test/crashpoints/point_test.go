//go:build crashpoints

package crashpoints

import (
	"fmt"
	"testing"
	"time"
)

// point is one place to die at.
type point struct {
	service, call string
	n             int
}

func (p point) String() string { return fmt.Sprintf("%s at %s %d", p.service, p.call, p.n) }

// result is what became of a point.
type result struct {
	point
	*probe
	fired bool
	// at is what the process was about to do when it was killed, and when.
	at   string
	when time.Time
	// recorded are those of whom the books said delivered before the service
	// was started again: a second copy for them has no excuse.
	recorded []string
	// copies at the MX for the good recipient, and reports to the sender.
	copies, reports int
}

func (r result) String() string {
	if !r.fired {
		return fmt.Sprintf("%s: survived", r.point)
	}
	return fmt.Sprintf("%s: killed at %q, client told %s, %d copies, %d reports", r.point, r.at, r.told, r.copies, r.reports)
}

// duplicate reports that a second copy arrived.
func (r result) duplicate() bool { return r.copies+r.reports > 2 }

// play sends one message through the relay with a service that dies at p, and
// judges what came of it.
func (r *relay) play(t *testing.T, p point) result {
	t.Helper()
	res := result{point: p, probe: r.newProbe()}
	victim := r.programs[p.service]
	tr := attach(t, victim.cmd.Process.Pid, p.call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", p.call, p.n))
	r.submit(t, res.probe)
	r.await(t, victim, res.probe)
	r.quiet(t, victim) // with all that is written at the end
	tr.detach()
	if res.fired = victim.gone(); res.fired {
		res.when, res.at = victim.ended, tr.last(t)
		r.bury(t, p.service)
		res.recorded = r.recorded(t, res.probe)
		victim.run(t)
	}
	r.quiet(t, victim)
	r.judge(t, &res)
	if res.told != accepted && (p.service != "ingress" || !res.fired) {
		t.Errorf("%s: but nobody killed ingress", res)
	}
	r.results = append(r.results, res)
	t.Log(res)
	return res
}
