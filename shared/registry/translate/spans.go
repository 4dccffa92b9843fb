package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// What other servers say about addresses in an order of rules, the registry says
// by ranges of which the most specific counts. Both are the same once every
// range that occurs anywhere is taken as the class of addresses that are in it
// and in no smaller one: for each class the rules there have one answer, and
// here the entry of the range, or of the next larger one that has an entry, has
// to give the same.
//
// An answer that admits is a device. One that refuses what is around it admits
// is a block where authenticated clients are refused as well, a network of kind
// deny where they are not, and a suspended device where something smaller
// within is admitted again: blocks and networks hold for all that is in them.

// answer is what the addresses of a class get.
type answer struct {
	// hosted and beyond: mail of unauthenticated clients to hosted domains, and
	// to others. auth: authenticated clients may send.
	hosted, beyond, auth bool
	limits               registry.Limits
}

func (a answer) admits() bool { return a.hosted || a.beyond }

// span is a range of addresses with its answer.
type span struct {
	Range netip.Prefix
	want  answer
	// name is that of the device, where the input has one, and owner its unit.
	name string
	// group brings the pieces of one range together in one device.
	group string
	// became says what was made of it.
	became string
	// differs says what the entry cannot say.
	differs string

	parent *span
	// inner: something smaller within is admitted.
	inner bool
	have  answer // what the registry answers
	// registered: a device has the range, or one around it. It comes before any
	// network of the campus.
	registered bool
}

// spans are the ranges of an input.
type spans map[netip.Prefix]*span

// of is the span of a range, made when it is not there.
func (s spans) of(r netip.Prefix) *span {
	if s[r] == nil {
		s[r] = &span{Range: r}
	}
	return s[r]
}

// ordered are the spans, each after those that cover it.
func (s spans) ordered() []*span {
	out := make([]*span, 0, len(s))
	for _, p := range s {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.Range.Bits(), b.Range.Bits()), a.Range.Addr().Compare(b.Range.Addr()))
	})
	for _, p := range out {
		p.parent = s.around(p.Range)
	}
	for _, p := range out {
		for up := p.parent; p.want.admits() && up != nil && !up.inner; up = up.parent {
			up.inner = true
		}
	}
	return out
}

// around is the smallest other span that covers a range.
func (s spans) around(r netip.Prefix) *span {
	for bits := r.Bits() - 1; bits >= 0; bits-- {
		outer, _ := r.Addr().Prefix(bits)
		if p := s[outer]; p != nil {
			return p
		}
	}
	return nil
}

// settle makes entries of the spans.
func (s spans) settle(domain string, into *registry.Entries) {
	makers := settler{domain: domain, into: into, devices: map[string]*registry.Device{}}
	for _, d := range into.Devices {
		makers.devices[d.Name] = d
	}
	for _, p := range s.ordered() {
		p.have = answer{auth: true} // nobody is registered
		if p.parent != nil {
			p.have, p.registered = p.parent.have, p.parent.registered
		}
		makers.settle(p)
	}
}

type settler struct {
	domain  string
	into    *registry.Entries
	devices map[string]*registry.Device
}

func (m *settler) settle(p *span) {
	want := p.want
	single := p.Range.IsSingleIP()
	same := want == p.have
	switch {
	case p.Range.Bits() == 0:
		// Every address: whatever it is, it is no registration.
		p.became = "nothing: an address that is not named is refused here"
		if want.admits() {
			p.differs = "every address is admitted there"
		}
	case same && !(single && want.admits()):
		p.became = "nothing of its own: the answer is that of the range around it"
	case want.beyond:
		m.device(p, registry.ScopeAnywhere, registry.StateActive)
		if !want.hosted {
			p.differs = "hosted domains are refused there and other recipients are not"
		}
		p.have = answer{true, true, true, want.limits}
	case want.hosted && (single || p.registered):
		m.device(p, registry.ScopeHosted, registry.StateActive)
		p.have = answer{true, false, true, want.limits}
	case want.hosted:
		m.network(p, registry.KindCampus)
		p.have = answer{hosted: true, auth: true}
	case p.inner:
		m.device(p, registry.ScopeHosted, registry.StateSuspended)
		p.have = answer{auth: true}
		if !want.auth {
			p.differs = "authenticated clients are refused there, too"
		}
	case want.auth:
		m.network(p, registry.KindDeny)
		p.have = want
	default:
		m.into.Blocks = append(m.into.Blocks, &registry.Block{Subject: subject(p.Range)})
		p.became, p.have = "block of "+subject(p.Range), want
	}
	if p.have.admits() && !want.auth && p.differs == "" {
		p.differs = "authenticated clients are refused there"
	}
}

func subject(r netip.Prefix) string { return registry.Address{Range: r}.String() }

func (m *settler) network(p *span, kind registry.Kind) {
	n := &registry.Network{Range: p.Range, Kind: kind, Note: p.name}
	m.into.Networks = append(m.into.Networks, n)
	p.became = n.String()
}

// device gives the range to the device of its name or group, if that is of the
// same kind, else to one of its own.
func (m *settler) device(p *span, scope registry.Scope, state registry.State) {
	made := registry.Device{Scope: scope, State: state, Class: mail.ClassDefault, Limits: p.want.limits}
	if state != registry.StateActive {
		made.Suspension = &registry.Suspension{Cause: "operator"}
	}
	for _, name := range []string{p.name, p.group, nameOf(p.Range, m.domain)} {
		had := m.devices[name]
		if name == "" || had != nil && (had.Scope != scope || had.State != state || had.Limits != made.Limits || len(had.Addresses) == 0) {
			continue
		}
		if had == nil {
			had = &made
			had.Name = name
			m.devices[name] = had
			m.into.Devices = append(m.into.Devices, had)
		}
		had.Addresses = append(had.Addresses, registry.Address{Range: p.Range})
		p.registered = true
		p.became = fmt.Sprintf("%s, %s", had, scope)
		if state != registry.StateActive {
			p.became = fmt.Sprintf("%s, %s", had, state)
		}
		return
	}
	p.became = "nothing: every name for it is taken"
	p.differs = "it has no registration"
}
