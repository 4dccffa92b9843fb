package registry

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"
)

// Entries are what a registry holds, by what they are.
type Entries struct {
	Devices     []*Device
	Credentials []*Credential
	Domains     []*Domain
	Networks    []*Network
	Blocks      []*Block
	Owners      []*Owner
	Groups      []*Group
	Resolutions []*Resolution
	Reviews     []*Review
	Notices     []*Notice
}

// Add appends an entry of any kind. What was removed is none.
func (e *Entries) Add(item Item) {
	if item.Audit().Removed {
		return
	}
	switch item := item.(type) {
	case *Device:
		e.Devices = append(e.Devices, item)
	case *Credential:
		e.Credentials = append(e.Credentials, item)
	case *Domain:
		e.Domains = append(e.Domains, item)
	case *Network:
		e.Networks = append(e.Networks, item)
	case *Block:
		e.Blocks = append(e.Blocks, item)
	case *Owner:
		e.Owners = append(e.Owners, item)
	case *Group:
		e.Groups = append(e.Groups, item)
	case *Resolution:
		e.Resolutions = append(e.Resolutions, item)
	case *Review:
		e.Reviews = append(e.Reviews, item)
	case *Notice:
		e.Notices = append(e.Notices, item)
	}
}

// All is every entry, kind after kind.
func (e *Entries) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		_ = each(e.Devices, yield) && each(e.Credentials, yield) && each(e.Domains, yield) && each(e.Networks, yield) &&
			each(e.Blocks, yield) && each(e.Owners, yield) && each(e.Groups, yield) && each(e.Resolutions, yield) && each(e.Reviews, yield) &&
			each(e.Notices, yield)
	}
}

func each[T Item](list []T, yield func(Item) bool) bool {
	for _, item := range list {
		if !yield(item) {
			return false
		}
	}
	return true
}

// Snapshot is the registry at one revision, made for look-ups. It is
// immutable: a change makes a new one, that shares with it what did not change. No
// look-up allocates.
type Snapshot struct {
	// Revision is the last sequence of the bucket that went into it.
	Revision uint64

	devices     index[*Device]
	credentials index[*Credential]
	domains     index[*Domain]
	owners      index[*Owner]
	groups      index[*Group]
	resolutions index[*Resolution]
	reviews     index[*Review]
	notices     index[*Notice]
	networks    index[*Network] // by key, as blocks
	blocks      index[*Block]
	// addresses has for each range the devices that claim it, in the order of
	// their names: the first has it.
	addresses *bart.Table[[]*Device]
	kinds     *bart.Table[Kinds]
	anyKind   Kinds
	blocked   *bart.Table[*Block]
	senders   map[string]*Block // "user@domain" and "@domain", in lower case
}

// Kinds are all those of the networks that hold an address.
type Kinds uint16

// Has reports one of them.
func (k Kinds) Has(kind Kind) bool { return k&kind.bit() != 0 }

var allKinds = [...]Kind{KindCampus, KindDeny, KindWorkstations, KindDHCP, KindResidential, KindNAT, KindCloud}

func (k Kind) bit() Kinds {
	for i, known := range allKinds {
		if k == known {
			return 1 << i
		}
	}
	return 0
}

// NewSnapshot indexes entries. Of two devices with the same address range the
// one whose name sorts first has it. A device that is only requested, or
// retired, has no address: asking for a registration changes nothing yet,
// neither for that address nor for the device that has it.
func NewSnapshot(revision uint64, e Entries) *Snapshot {
	empty := &Snapshot{addresses: new(bart.Table[[]*Device])}
	return empty.with(true, revision, slices.Collect(e.All()), nil)
}

// With is the snapshot after a change: entries that are new or changed, and
// those, as they were, that are no more. It takes time for what changed, but for
// networks and blocks, of which all are indexed anew.
func (s *Snapshot) With(revision uint64, put, gone []Item) *Snapshot {
	return s.with(false, revision, put, gone)
}

// with is With; alone says that nobody else has s.
func (s *Snapshot) with(alone bool, revision uint64, put, gone []Item) *Snapshot {
	n := *s
	n.Revision = revision
	e := &edit{Snapshot: &n, alone: alone}
	for _, item := range slices.Concat(put, gone) {
		e.unplace(item)
	}
	for _, item := range gone {
		e.set(item, true)
	}
	for _, item := range put {
		e.set(item, false)
	}
	for name := range e.displaced {
		if d, ok := n.devices.get(name); ok {
			e.claim(d, true)
		}
	}
	if e.networked || s.kinds == nil {
		n.classify()
	}
	if e.blocking || s.blocked == nil {
		n.block()
	}
	return &n
}

// classify gives every range the kinds of the ranges around it as well, so that
// looking up the most specific one finds all.
func (s *Snapshot) classify() {
	own := new(bart.Table[Kinds])
	s.kinds, s.anyKind = new(bart.Table[Kinds]), 0
	for _, n := range s.networks.all() {
		k, _ := own.Get(n.Range)
		own.Insert(n.Range, k|n.Kind.bit())
		s.anyKind |= n.Kind.bit()
	}
	for p := range own.All() {
		all := Kinds(0)
		for _, k := range own.Supernets(p) {
			all |= k
		}
		s.kinds.Insert(p, all)
	}
}

// block indexes the blocks.
func (s *Snapshot) block() {
	s.blocked, s.senders = new(bart.Table[*Block]), map[string]*Block{}
	for _, b := range s.blocks.all() {
		if p, err := ParseRange(b.Subject); err == nil {
			s.blocked.Insert(p, b)
		} else {
			s.senders[strings.ToLower(b.Subject)] = b
		}
	}
}

// unmap brings an IPv4-mapped IPv6 range to its IPv4 form.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// KindsOf are the kinds of all networks that hold an address.
func (s *Snapshot) KindsOf(a netip.Addr) Kinds {
	k, _ := s.kinds.Lookup(a.Unmap().WithZone(""))
	return k
}

// HasKind reports that there is a network of a kind at all.
func (s *Snapshot) HasKind(kind Kind) bool { return s.anyKind.Has(kind) }

// BlockedAddress is the most specific block of an address.
func (s *Snapshot) BlockedAddress(a netip.Addr) (*Block, bool) {
	return s.blocked.Lookup(a.Unmap().WithZone(""))
}

// BlocksSenders reports that there are blocks of senders at all.
func (s *Snapshot) BlocksSenders() bool { return len(s.senders) > 0 }

// BlockedSender is the block of a sender's address, or of its domain. The
// address is in lower case.
func (s *Snapshot) BlockedSender(address string) (*Block, bool) {
	if b, ok := s.senders[address]; ok || len(s.senders) == 0 {
		return b, ok
	}
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return nil, false
	}
	b, ok := s.senders[address[at:]]
	return b, ok
}

// Device is the device of that name.
func (s *Snapshot) Device(name string) (*Device, bool) {
	return s.devices.get(name)
}

// ByAddress is the device with the most specific range that holds addr.
func (s *Snapshot) ByAddress(addr netip.Addr) (*Device, bool) {
	claims, ok := s.addresses.Lookup(addr.Unmap().WithZone(""))
	if !ok {
		return nil, false
	}
	return claims[0], true
}

// Rival is another device that has one of the ranges of d for itself. Ranges
// within each other are no rivals: the most specific wins.
func (s *Snapshot) Rival(d *Device) (*Device, bool) {
	for _, a := range d.Addresses {
		claims, _ := s.addresses.Get(unmap(a.Range))
		if i := slices.IndexFunc(claims, func(c *Device) bool { return c.Name != d.Name }); i >= 0 {
			return claims[i], true
		}
	}
	return nil, false
}

// Credential is the credential of that name.
func (s *Snapshot) Credential(name string) (*Credential, bool) {
	return s.credentials.get(name)
}

// ByCredential is the device a credential stands for.
func (s *Snapshot) ByCredential(name string) (*Device, bool) {
	c, ok := s.credentials.get(name)
	if !ok {
		return nil, false
	}
	return s.Device(c.Device)
}

// Hosted reports a domain of the institution, in lower case.
func (s *Snapshot) Hosted(domain string) bool {
	_, ok := s.domains.get(domain)
	return ok
}

// Domain is the hosted domain of that name.
func (s *Snapshot) Domain(name string) (*Domain, bool) {
	return s.domains.get(name)
}

// Owner is the unit of that name.
func (s *Snapshot) Owner(name string) (*Owner, bool) {
	return s.owners.get(name)
}

// Group is the notice list of that name.
func (s *Snapshot) Group(name string) (*Group, bool) {
	return s.groups.get(name)
}

// Sends reports that a device may send from an address, by its registration or by
// the DNS that it follows.
func (s *Snapshot) Sends(d *Device, a netip.Addr) bool {
	r, known := s.resolutions.get(d.Name)
	return d.Sends(a) || d.FollowDNS && known && slices.Contains(r.Addresses, a.Unmap().WithZone(""))
}

// Resolution is what the DNS last said of a device.
func (s *Snapshot) Resolution(device string) (*Resolution, bool) {
	return s.resolutions.get(device)
}

// Review is what was found out about a device.
func (s *Snapshot) Review(device string) (*Review, bool) {
	return s.reviews.get(device)
}

// Notice is the notice of that id.
func (s *Snapshot) Notice(id string) (*Notice, bool) {
	return s.notices.get(id)
}

// Unsent are the notices of which not every message is stored yet.
func (s *Snapshot) Unsent() (out []*Notice) {
	for _, n := range s.notices.all() {
		if n.Stored.IsZero() {
			out = append(out, n)
		}
	}
	return out
}

// Confirmed is the name of the device at an address, and when the DNS last
// confirmed it, if that is not older than most.
func (s *Snapshot) Confirmed(addr netip.Addr, most time.Duration, now time.Time) (name string, at time.Time, ok bool) {
	d, ok := s.ByAddress(addr)
	if !ok {
		return "", time.Time{}, false
	}
	r, ok := s.resolutions.get(d.Name)
	if !ok {
		return "", time.Time{}, false
	}
	at, ok = r.Confirmed[addr.Unmap().WithZone("")]
	return d.Name, at, ok && now.Sub(at) <= most
}

// Entries are all entries, each kind in the order of their names.
func (s *Snapshot) Entries() Entries {
	return Entries{
		Devices: s.devices.sorted(), Credentials: s.credentials.sorted(), Domains: s.domains.sorted(),
		Owners: s.owners.sorted(), Groups: s.groups.sorted(), Resolutions: s.resolutions.sorted(), Reviews: s.reviews.sorted(),
		Notices:  s.notices.sorted(),
		Networks: slices.SortedFunc(slices.Values(s.networks.sorted()), (*Network).compare),
		Blocks:   slices.SortedFunc(slices.Values(s.blocks.sorted()), func(a, b *Block) int { return strings.Compare(a.Subject, b.Subject) }),
	}
}

// compare sorts networks by kind, then by range.
func (n *Network) compare(other *Network) int {
	return cmp.Or(strings.Compare(string(n.Kind), string(other.Kind)), n.Range.Addr().Compare(other.Range.Addr()), cmp.Compare(n.Range.Bits(), other.Range.Bits()))
}
