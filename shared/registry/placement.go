package registry

import "net/netip"

// refusing are the networks in which no device can be registered by address,
// with why.
var refusing = []struct {
	kind Kind
	why  string
}{
	{KindWorkstations, "is for workstations"},                                 // W2
	{KindDHCP, "changes hands by DHCP; a device needs a static one"},          // M11
	{KindResidential, "is residential; the relay is not for devices at home"}, // P32
}

// proving are the networks whose addresses prove nothing: a device there has to
// authenticate.
var proving = []struct {
	kind Kind
	why  string
}{
	{KindNAT, "stands for many machines (NAT)"},             // P24
	{KindCloud, "is of a cloud and changes hands"},          // P26
	{KindDeny, "is in a network without anonymous senders"}, // W2
}

// Misplaced says which addresses of a device its networks speak against. Where
// there are campus networks, others than theirs and those of a cloud are none
// of the institution's (M7).
func (s *Snapshot) Misplaced(d *Device) (found []Fault) {
	f := faults(found)
	proves := d.Proof == ProofCredential || d.Proof == ProofBoth
	for i, a := range d.Addresses {
		field := at("addresses", i)
		for _, r := range refusing {
			if n, ok := s.touching(r.kind, a.Range); ok {
				f.bad(field, "%s %s (network %s, %s)", a, r.why, n.Range, n.Kind)
			}
		}
		for _, r := range proving {
			if n, ok := s.touching(r.kind, a.Range); ok && !proves {
				f.bad(field, "%s %s: the device has to authenticate, with proof credential or both (network %s, %s)", a, r.why, n.Range, n.Kind)
			}
		}
		if !s.within(a.Range, KindCampus) && !s.within(a.Range, KindCloud) && s.knows(KindCampus) {
			f.bad(field, "%s is outside the campus networks; leave it out and give the device a credential", a)
		}
	}
	return f
}

// touching is a network of a kind that shares addresses with a range.
func (s *Snapshot) touching(kind Kind, p netip.Prefix) (*Network, bool) {
	for _, n := range s.networks.all() {
		if n.Kind == kind && unmap(n.Range).Overlaps(unmap(p)) {
			return n, true
		}
	}
	return nil, false
}

// within reports that one network of a kind holds all of a range.
func (s *Snapshot) within(p netip.Prefix, kind Kind) bool {
	p = unmap(p)
	for _, n := range s.networks.all() {
		own := unmap(n.Range)
		if n.Kind == kind && own.Bits() <= p.Bits() && own.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

func (s *Snapshot) knows(kind Kind) bool {
	for _, n := range s.networks.all() {
		if n.Kind == kind {
			return true
		}
	}
	return false
}
