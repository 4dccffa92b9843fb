package registry

import (
	"cmp"
	"math/big"
	"net/netip"
	"slices"
	"strings"
)

// Near is a registration that somebody may have meant.
type Near struct {
	Device *Device
	// Address is the one of the device that is close, where that is why.
	Address Address
	// Distance is how far Address is from the one asked for, in addresses: 0 is
	// one that the device has, but not to send from (now).
	Distance uint64
}

// maxNear is how many registrations a question is answered with.
const maxNear = 3

// NearestAddress are the devices whose ranges are closest to an address, of
// whatever state, closest first. Farther than the /24 or /64 of the address is
// not near. It looks at every device: it is for people, not for decisions.
func (s *Snapshot) NearestAddress(a netip.Addr) []Near {
	a = a.Unmap().WithZone("")
	around := 24
	if a.Is6() {
		around = 64
	}
	net, err := a.Prefix(around)
	if err != nil {
		return nil
	}
	var found []Near
	for _, d := range s.devices.all() {
		best := Near{}
		for _, own := range d.Addresses {
			p := unmap(own.Range)
			if p.Addr().BitLen() != a.BitLen() || !net.Overlaps(p) {
				continue
			}
			if n := distance(a, p); best.Device == nil || n < best.Distance {
				best = Near{Device: d, Address: own, Distance: n}
			}
		}
		if best.Device != nil {
			found = append(found, best)
		}
	}
	slices.SortFunc(found, func(x, y Near) int {
		return cmp.Or(cmp.Compare(x.Distance, y.Distance), cmp.Compare(x.Address.Range.Bits(), y.Address.Range.Bits())*-1, strings.Compare(x.Device.Name, y.Device.Name))
	})
	return found[:min(len(found), maxNear)]
}

// distance is how many addresses lie between a and the nearest of a range.
func distance(a netip.Addr, p netip.Prefix) uint64 {
	switch first := p.Masked().Addr(); {
	case p.Contains(a):
		return 0
	case a.Less(first):
		return between(a, first)
	default:
		return between(last(p), a)
	}
}

// last is the last address of a range.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// between is how far apart two addresses are.
func between(low, high netip.Addr) uint64 {
	n := new(big.Int).Sub(new(big.Int).SetBytes(high.AsSlice()), new(big.Int).SetBytes(low.AsSlice()))
	return n.Uint64()
}

// NearestName are the devices whose names are most alike, most first. It looks
// at every device.
func (s *Snapshot) NearestName(name string) []Near {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return nil
	}
	type alike struct {
		d     *Device
		steps int
	}
	var found []alike
	host, _, _ := strings.Cut(name, ".")
	for _, d := range s.devices.all() {
		own, _, _ := strings.Cut(d.Name, ".")
		steps := editDistance(name, d.Name)
		if own == host { // its first label, in another domain
			steps = min(steps, 1)
		}
		if steps <= len(host)/3+1 {
			found = append(found, alike{d, steps})
		}
	}
	slices.SortFunc(found, func(x, y alike) int {
		return cmp.Or(cmp.Compare(x.steps, y.steps), strings.Compare(x.d.Name, y.d.Name))
	})
	var out []Near
	for _, f := range found[:min(len(found), maxNear)] {
		out = append(out, Near{Device: f.d})
	}
	return out
}

// WithSender are devices that may send as an address, in the order of their
// names. It looks at every device.
func (s *Snapshot) WithSender(address string) []Near {
	var found []Near
	for _, d := range s.devices.all() {
		has := func(own string) bool { return strings.EqualFold(own, address) }
		if address != "" && (slices.ContainsFunc(d.Senders, has) || slices.ContainsFunc(d.HeaderSenders, has)) {
			found = append(found, Near{Device: d})
		}
	}
	slices.SortFunc(found, func(x, y Near) int { return strings.Compare(x.Device.Name, y.Device.Name) })
	return found[:min(len(found), maxNear)]
}

// editDistance is how many letters to insert, remove or replace to make one
// name of the other.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
