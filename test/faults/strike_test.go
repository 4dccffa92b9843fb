//go:build faults

package faults

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// span is a fault that happened.
type span struct {
	fault
	// from the first signal until the last target was dead or still.
	from, struck time.Time
	// back is when the targets ran again, and a server among them took clients.
	back time.Time
	// kill: the targets died. Else they only stood still.
	kill bool
}

func (s *span) String() string {
	return fmt.Sprintf("%s from %s to %s", strings.Join(s.targets, " "), clock(s.from), clock(s.back))
}

// hits reports that one of the targets belongs to the service.
func (s *span) hits(service string) bool {
	return slices.ContainsFunc(s.targets, func(name string) bool { return name == service || strings.HasPrefix(name, service+"-") })
}

// stall is how long the work may rest before a fault strikes all the same:
// longer than what a killed worker had in hand rests.
const stall = 45 * time.Second

// apply does what a plan says.
func (r *rig) apply(p plan, strike func(fault)) {
	r.Helper()
	for i, f := range p.faults {
		r.reach(f.share)
		r.rest(f.after)
		share := r.work.share(r)
		strike(f)
		r.Logf("fault %d of %d, %4.1f %% done: %s", i+1, len(p.faults), 100*share, &r.spans[len(r.spans)-1])
	}
}

// reach waits until a share of the work is done.
func (r *rig) reach(share float64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, since := -1.0, time.Now()
	for {
		now := r.work.share(r)
		switch {
		case now >= share:
			return
		case now > last:
			last, since = now, time.Now()
		case time.Since(since) > stall:
			r.Logf("the work rests at %.1f %%", 100*now)
			return
		}
		<-tick.C
	}
}

// rest is the pause that a plan asks for.
func (r *rig) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// kill ends the targets by SIGKILL and starts them again after the pause.
func (r *rig) kill(f fault) {
	r.Helper()
	r.strike(f.targets, syscall.SIGKILL)
	r.rest(f.pause)
	for _, name := range f.targets {
		r.process(name).Start(r)
	}
	if r.spans[len(r.spans)-1].hits("nats") {
		r.relay.NATS.Ready(r)
	}
	r.restored()
}

// still stops the targets by SIGSTOP for the pause.
func (r *rig) still(f fault) {
	r.Helper()
	r.strike(f.targets, syscall.SIGSTOP)
	r.rest(f.pause)
	for _, name := range f.targets {
		r.process(name).Signal(r, syscall.SIGCONT)
	}
	r.restored()
}

// strike sends the targets a signal; restored tells that they are back.
func (r *rig) strike(targets []string, signal syscall.Signal) {
	r.Helper()
	s := span{fault: fault{targets: targets}, kill: signal == syscall.SIGKILL, from: time.Now()}
	for _, name := range targets {
		r.process(name).Signal(r, signal)
	}
	if s.kill {
		for _, name := range targets {
			r.process(name).Kill(r)
		}
	}
	s.struck = time.Now()
	s.back = s.struck.Add(time.Hour) // for as long as nobody says otherwise
	r.spans = append(r.spans, s)
}

func (r *rig) restored() { r.spans[len(r.spans)-1].back = time.Now() }

// process is a service or a nats-server.
func (r *rig) process(name string) *world.Process {
	r.Helper()
	for _, p := range r.relay.Processes() {
		if p.Name == name {
			return p
		}
	}
	r.Fatalf("nobody is named %s", name)
	return nil
}

// crashes are the programs that ended in a panic, or by themselves.
func (r *rig) crashes() {
	r.Helper()
	for _, p := range r.relay.Processes() {
		for line := range strings.Lines(p.Output()) {
			if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, `"panic`) {
				r.Errorf("%s: %s", p.Name, line)
			}
		}
		if n := p.Unasked(); n > 0 {
			r.Logf("%s ended by itself %d times", p.Name, n)
		}
	}
}

// TestSpanHits: the processes of a service are known by its name.
func TestSpanHits(t *testing.T) {
	s := span{fault: fault{targets: []string{"nats-1", "delivery-2"}}}
	if got := fmt.Sprint(s.hits("nats"), s.hits("delivery"), s.hits("ledger")); got != "true true false" {
		t.Errorf("hits nats, delivery, ledger: %s", got)
	}
}
