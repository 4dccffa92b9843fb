package lifecycle

import (
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// actor is who the audit names for what happens by itself.
const actor = "lifecycle"

// perform changes a device as a step says. Whoever is told of something is told
// of it with the change, so that a step that was done is not done again.
func perform(d *registry.Device, s Step, now time.Time) {
	about := string(s.Cause)
	switch s.Deed {
	case Suspend:
		d.State = registry.StateSuspended
		d.Suspension = &registry.Suspension{Cause: string(s.Cause), At: now, NeedsTicket: s.Cause == Reports || s.Cause == Anomaly}
	case Retire:
		d.State, d.Dates.Retired = registry.StateRetired, now
	case Drop:
		for i := range d.Addresses {
			if d.Addresses[i].Range == s.Address.Range {
				d.Addresses[i].State, d.Addresses[i].Since = registry.StateRetired, now
			}
		}
		about += " " + s.Address.String()
	}
	if d.Told == nil {
		d.Told = map[string]time.Time{}
	}
	d.Told[about] = now
	if s.Cause == Activated {
		for _, a := range d.Addresses {
			if a.Active() {
				d.Told[string(Confirmed(a))] = now
			}
		}
	}
	d.Stamp(registry.Change{By: actor, Reason: s.Why, At: now})
}
