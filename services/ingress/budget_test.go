package ingress

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// limited are instances on one bus whose device has limits by the hour.
func limited(t *testing.T, n int, limits registry.Limits) []*rig {
	t.Helper()
	bus := queuetest.Start(t)
	var rigs []*rig
	for i := range n {
		rigs = append(rigs, startOn(t, bus))
		if i == 0 {
			rigs[0].change(func(d *registry.Device) { d.Limits, d.Quirks.HideEHLO = limits, []string{"CHUNKING"} })
		}
	}
	for _, r := range rigs {
		c := r.dial(device)
		timetest.Await(t, "the limits hold", func() bool { return !strings.Contains(c.ask("EHLO probe"), "CHUNKING") })
	}
	sameHour(t)
	return rigs
}

// sameHour keeps a test from running across the turn of an hour, at which all
// limits begin anew.
func sameHour(t *testing.T) {
	t.Helper()
	timetest.Await(t, "an hour that lasts", func() bool {
		now := time.Now()
		return now.Truncate(time.Hour).Add(time.Hour).Sub(now) > 30*time.Second
	})
}

// over is what the facts of the stored messages say.
func over(r *rig) (passed int, held map[string]int) {
	held = map[string]int{}
	for _, m := range r.stored() {
		if len(m.Facts.Over) == 0 {
			passed++
		}
		for _, limit := range m.Facts.Over {
			held[limit]++
		}
	}
	return passed, held
}

// All instances hold one limit of a device: what it sends beyond waits, and is
// stored as over it. Mail for the hosted domains is spared, and what was refused
// counts nothing.
func TestMessagesPerHour(t *testing.T) {
	rigs := limited(t, 3, registry.Limits{MessagesPerHour: 4})
	for range 5 { // given up, refused: nothing is used
		c := rigs[0].begin(device, "x@example.test")
		c.say("RSET", "250")
		c.envelope("x@example.test")
		c.say("DATA", "354")
		c.write("From: <prn@campus.test>\r\n\r\nbare\nnewline\r\n.\r\n")
		c.expect("550 5.6.0 ")
		c.say("QUIT", "221")
	}
	for i := range 6 {
		rigs[i%3].send(device, message, "x@example.test", "y@example.test")
	}
	rigs[0].send(device, message, "anna@campus.test")
	passed, held := over(rigs[0])
	if passed != 5 || held[overMessages] != 2 {
		t.Errorf("%d passed, %v held", passed, held)
	}
	slowed := 0.0
	for _, r := range rigs {
		slowed += r.counted("postrider_ingress_slowed_total")
	}
	if slowed != 2 {
		t.Errorf("%v slowed", slowed)
	}
}

func TestRecipientsPerHour(t *testing.T) {
	rigs := limited(t, 2, registry.Limits{RecipientsPerHour: 3})
	rigs[0].send(device, message, "a@example.test", "anna@campus.test", "a@example.test", "b@example.test")
	rigs[1].send(device, message, "c@example.test", "d@example.test") // one too many: nothing of it is sent
	rigs[1].send(device, message, "e@example.test")                   // for which c was not needed
	rigs[0].send(device, message, "f@example.test")
	passed, held := over(rigs[0])
	if passed != 2 || held[overRecipients] != 2 {
		t.Errorf("%d passed, %v held", passed, held)
	}
}

// A host that is not registered is told to come again: its mail is not held,
// and the recipients before are not concerned.
func TestLimitOfUnregistered(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Limits.Unregistered = config.HourLimit{MessagesPerHour: 2, RecipientsPerHour: 3}
	})
	sameHour(t)
	r.send(campus, message, "a@campus.test")
	c := r.begin(campus, "a@campus.test", "b@campus.test")
	got := c.say("RCPT TO:<c@campus.test>", "451 4.7.1 ")
	c.queued(c.data(message))
	if !strings.Contains(got, "Over the hourly limit: 127.0.0.1. Bulk mail goes through the list service.") {
		t.Errorf("reply %q", got)
	}
	c.say("MAIL FROM:<prn@campus.test>", "250")
	c.say("RCPT TO:<a@campus.test>", "451 4.7.1 ")
	c.say("RSET", "250")
	r.send(device, message, "a@campus.test", "b@campus.test", "c@campus.test", "d@campus.test") // has its own, which is none
	if passed, held := over(r); passed != 3 || len(held) != 0 {
		t.Errorf("%d passed, %v held", passed, held)
	}
	for _, e := range r.refusals() {
		if e.Rule != "limit" || len(e.Facts.Over) == 0 {
			t.Errorf("evidence %+v", e)
		}
	}
}

// While the rule only observes, nobody is held, and nobody is slowed.
func TestLimitObserved(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Limits.Unregistered = config.HourLimit{RecipientsPerHour: 1}
		c.Policy.Observe = []string{"limit"}
	})
	sameHour(t)
	r.send(campus, message, "a@campus.test", "b@campus.test")
	if passed, held := over(r); passed != 0 || held[overRecipients] != 1 || r.counted("postrider_ingress_slowed_total") != 0 {
		t.Errorf("%d passed, %v over, %v slowed", passed, held, r.counted("postrider_ingress_slowed_total"))
	}
}

// A sender over its limits waits once for each message, longer each time, and
// never for long.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{in: &Ingress{ctx: t.Context(), metrics: newMetrics(prometheus.NewRegistry()), rules: &authz.Rules{}}}
		for _, want := range []time.Duration{1, 2, 3, 4, 5, 5} {
			s.taken = taken{}
			for _, want := range []time.Duration{want * time.Second, 0} {
				began := time.Now()
				s.slow()
				if got := time.Since(began); got != want {
					t.Errorf("waits %s, want %s", got, want)
				}
			}
		}
	})
}
