package names

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// How old an answer gets before it is asked for again.
const (
	confirmEvery = 12 * time.Hour
	followEvery  = 15 * time.Minute
	// keepConfirmed is how long an address that is no longer confirmed is
	// remembered: as long as ingress may rest on it.
	keepConfirmed = 72 * time.Hour
)

// due reports that something about a device is to be asked.
func due(d *registry.Device, r *registry.Resolution, confirm bool, now time.Time) bool {
	if d.State != registry.StateActive {
		return false
	}
	var asked time.Time
	if r != nil {
		asked = r.At
	}
	switch {
	case d.FollowDNS:
		return now.Sub(asked) >= followEvery
	case confirm && d.Scope == registry.ScopeAnywhere && len(single(d)) > 0:
		return now.Sub(asked) >= confirmEvery
	}
	return false
}

// single are the addresses of a device for which one name is confirmed.
func single(d *registry.Device) (out []netip.Addr) {
	for _, a := range d.Addresses {
		if a.Active() && a.Range.IsSingleIP() {
			out = append(out, a.Range.Addr().Unmap())
		}
	}
	return out
}

// answer is what the DNS said. An error of it is a doubt: nothing changes for
// that.
type answer struct {
	// addresses of the device's name; nil in doubt, empty for a definite none.
	addresses []netip.Addr
	// confirmed says for each address that was asked about whether it has the name;
	// one in doubt is missing.
	confirmed map[netip.Addr]bool
}

// next is the resolution of a device after an answer, and whether it says
// anything new. Only an address that admits may hold is followed: the DNS of
// somebody else must not make a relay for him.
func next(d *registry.Device, old *registry.Resolution, a answer, admits func(netip.Addr) bool, now time.Time) (r *registry.Resolution, changed bool) {
	r = &registry.Resolution{Device: d.Name, Confirmed: map[netip.Addr]time.Time{}}
	if old != nil {
		r.Addresses, r.Entry = old.Addresses, old.Entry
		for addr, at := range old.Confirmed {
			if now.Sub(at) < keepConfirmed {
				r.Confirmed[addr] = at
			}
		}
	}
	if d.FollowDNS && a.addresses != nil {
		followed := slices.DeleteFunc(slices.Clone(a.addresses), func(addr netip.Addr) bool { return !admits(addr) })
		slices.SortFunc(followed, netip.Addr.Compare)
		followed = slices.Compact(followed)
		changed = !slices.Equal(followed, r.Addresses)
		r.Addresses = followed
	}
	for addr, ok := range a.confirmed {
		if ok {
			r.Confirmed[addr] = now
		} else { // a definite no counts at once
			delete(r.Confirmed, addr)
		}
	}
	if old == nil || !maps.EqualFunc(old.Confirmed, r.Confirmed, func(a, b time.Time) bool { return a.Equal(b) }) {
		changed = true
	}
	return r, changed
}
