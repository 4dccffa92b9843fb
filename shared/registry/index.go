package registry

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// index is a map by name that is changed by copying: its parts are shared with
// the index it was copied from, until one of them changes.
type index[T any] struct {
	parts [256]map[string]T
}

// partOf spreads names over the parts (FNV-1a).
func partOf(name string) uint8 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint8(h ^ h>>8 ^ h>>16 ^ h>>24)
}

func (x *index[T]) get(name string) (T, bool) {
	v, ok := x.parts[partOf(name)][name]
	return v, ok
}

// put changes an entry, or drops it. owned are the parts that are no longer
// shared.
func (x *index[T]) put(owned *[256]bool, name string, v T, drop bool) {
	p := partOf(name)
	if !owned[p] {
		owned[p] = true
		if x.parts[p] = maps.Clone(x.parts[p]); x.parts[p] == nil {
			x.parts[p] = map[string]T{}
		}
	}
	if drop {
		delete(x.parts[p], name)
	} else {
		x.parts[p][name] = v
	}
}

func (x *index[T]) all() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for p := range x.parts {
			for name, v := range x.parts[p] {
				if !yield(name, v) {
					return
				}
			}
		}
	}
}

// sorted is every entry in the order of their names.
func (x *index[T]) sorted() []T {
	var names []string
	for name := range x.all() {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]T, len(names))
	for i, name := range names {
		out[i], _ = x.get(name)
	}
	return out
}

// edit is a snapshot that is being made of another one.
type edit struct {
	*Snapshot
	// alone: nobody shares the addresses.
	alone     bool
	owned     [10][256]bool
	displaced map[string]bool // devices whose claims are to be made anew
	networked bool
	blocking  bool
}

// unplace takes the claims of the device that an entry is about out of the
// addresses, as it was before the change.
func (e *edit) unplace(item Item) {
	var name string
	switch item := item.(type) {
	case *Device:
		name = item.Name
	case *Resolution:
		name = item.Device
	default:
		return
	}
	if e.displaced == nil {
		e.displaced = map[string]bool{}
	}
	if e.displaced[name] {
		return
	}
	e.displaced[name] = true
	if d, ok := e.devices.get(name); ok {
		e.claim(d, false)
	}
}

// set enters an entry, or takes it out.
func (e *edit) set(item Item, drop bool) {
	switch item := item.(type) {
	case *Device:
		e.devices.put(&e.owned[0], item.Name, item, drop)
	case *Credential:
		e.credentials.put(&e.owned[1], item.Name, item, drop)
	case *Domain:
		e.domains.put(&e.owned[2], item.Name, item, drop)
	case *Owner:
		e.owners.put(&e.owned[3], item.Name, item, drop)
	case *Group:
		e.groups.put(&e.owned[4], item.Name, item, drop)
	case *Resolution:
		e.resolutions.put(&e.owned[5], item.Device, item, drop)
	case *Review:
		e.reviews.put(&e.owned[6], item.Device, item, drop)
	case *Network:
		e.networked = true
		e.networks.put(&e.owned[7], item.Key(), item, drop)
	case *Block:
		e.blocking = true
		e.blocks.put(&e.owned[8], item.Key(), item, drop)
	case *Notice:
		e.notices.put(&e.owned[9], item.ID, item, drop)
	}
}

// claim enters the claims of a device to addresses, or takes them out.
func (e *edit) claim(d *Device, enter bool) {
	if !d.State.Holds() {
		return
	}
	for _, a := range d.Addresses {
		if a.Active() {
			e.claimRange(unmap(a.Range), d, enter)
		}
	}
	if r, ok := e.resolutions.get(d.Name); ok && d.FollowDNS {
		for _, a := range r.Addresses {
			e.claimRange(netip.PrefixFrom(a, a.BitLen()), d, enter)
		}
	}
}

func (e *edit) claimRange(p netip.Prefix, d *Device, enter bool) {
	had, _ := e.addresses.Get(p)
	claims := make([]*Device, 0, len(had)+1)
	for _, c := range had {
		if c.Name != d.Name {
			claims = append(claims, c)
		}
	}
	if enter {
		at, _ := slices.BinarySearchFunc(claims, d.Name, func(c *Device, name string) int {
			if c.Name < name {
				return -1
			}
			return 1
		})
		claims = slices.Insert(claims, at, d)
	}
	switch {
	case len(claims) == 0:
		e.addresses = e.addresses.DeletePersist(p) // one that is alone has something to put only
	case e.alone:
		e.addresses.Insert(p, claims)
	default:
		e.addresses = e.addresses.InsertPersist(p, claims)
	}
}
