package event

import (
	"net/netip"
	"testing"
	"time"
)

// A holding covers what the sender had sent when it was stopped, by the registry
// where clocks do not tell, and nothing that was released after it.
func TestHoldingCovers(t *testing.T) {
	sent := Job{ID: "Q-0", Device: "prn", AcceptedAt: at, Origin: Origin{Address: netip.MustParseAddr("10.2.3.4"), Identity: "app", Revision: 9}}
	job := func(change func(*Job)) *Job {
		j := sent
		change(&j)
		return &j
	}
	device := Holding{At: at.Add(time.Hour), Device: "prn", Revision: 12}
	for name, c := range map[string]struct {
		h    Holding
		j    *Job
		want bool
	}{
		"device":               {device, &sent, true},
		"another device":       {Holding{At: device.At, Device: "scn"}, &sent, false},
		"address":              {Holding{At: device.At, Address: netip.MustParsePrefix("10.2.0.0/16")}, &sent, true},
		"another address":      {Holding{At: device.At, Address: netip.MustParsePrefix("10.3.0.0/16")}, &sent, false},
		"mapped address":       {Holding{At: device.At, Address: netip.MustParsePrefix("10.2.0.0/16")}, job(func(j *Job) { j.Origin.Address = netip.MustParseAddr("::ffff:10.2.3.4") }), true},
		"credential":           {Holding{At: device.At, Credential: "app"}, &sent, true},
		"another credential":   {Holding{At: device.At, Credential: "pap"}, &sent, false},
		"job":                  {Holding{At: device.At, Jobs: []string{"Q-1", "Q-0"}}, &sent, true},
		"another job":          {Holding{At: device.At, Jobs: []string{"Q-1"}}, &sent, false},
		"after it was resumed": {device, job(func(j *Job) { j.AcceptedAt, j.Origin.Revision = at.Add(2*time.Hour), 13 }), false},
		"by an older registry": {device, job(func(j *Job) { j.AcceptedAt, j.Origin.Revision = at.Add(2*time.Hour), 11 }), true},
		"its report":           {device, job(func(j *Job) { j.Report = "R" }), false},
		"released after":       {device, job(func(j *Job) { j.Released = at.Add(2 * time.Hour) }), false},
		"released before":      {device, job(func(j *Job) { j.Released = at.Add(time.Minute) }), true},
		"nobody":               {Holding{At: device.At}, &sent, false},
	} {
		if got := c.h.Covers(c.j); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
