// Package registry holds what the relay knows about its devices: plain types
// and the immutable Snapshot that authorization reads. It performs no I/O;
// package registry/store keeps it in a key-value bucket of the bus.
//
// A device is registered by name. Its addresses and credentials lead to it;
// the most specific address range wins. Entries come from the configuration
// file or from commands, and say which.
package registry

import (
	"net/netip"
	"time"

	"github.com/gaissmai/bart"

	"github.com/postrider/postrider/shared/mail"
)

// State is where a device stands in its life.
type State string

// The states of a device. Only an active one may send.
const (
	StateRequested State = "requested"
	StateApproved  State = "approved"
	StateActive    State = "active"
	StateSuspended State = "suspended"
	StateRetired   State = "retired"
)

// holds reports a state in which a device has its addresses: they may send, or
// have been stopped.
func (s State) holds() bool {
	switch s {
	case StateRequested, StateApproved, StateRetired:
		return false
	}
	return true
}

// Scope is where a device may send to.
type Scope string

// The relay scopes: recipients in hosted domains, or anywhere.
const (
	ScopeHosted   Scope = "hosted"
	ScopeAnywhere Scope = "anywhere"
)

// Origin says who made an entry.
type Origin string

// Entries of the configuration file cannot be changed by command.
const (
	OriginFile    Origin = "file"
	OriginCommand Origin = "command"
)

// Device is one registered sender: a printer, an instrument, an application.
type Device struct {
	// Name is the fully qualified domain name, in lower case; the key.
	Name string `json:"name" yaml:"name"`
	// Owner is a unit, not a person.
	Owner string `json:"owner,omitempty" yaml:"owner"`
	// Contacts are the addresses that hear about trouble, the first is the main one.
	Contacts []string `json:"contacts,omitempty" yaml:"contacts"`
	// Addresses are the networks it sends from; empty means by credential only.
	Addresses []netip.Prefix `json:"addresses,omitempty" yaml:"addresses"`
	// Scope defaults to anywhere: hosted mail needs no registration on most campuses.
	Scope Scope `json:"scope,omitempty" yaml:"scope"`
	// Class selects lane and lifetime.
	Class mail.Class `json:"class,omitempty" yaml:"class"`
	// State is the place in its life; file entries are active.
	State State `json:"state,omitempty" yaml:"state"`
	// Origin says whether a file or a command made it.
	Origin Origin `json:"origin,omitempty" yaml:"-"`
	// ChangedAt, ChangedBy and Reason describe the last change.
	ChangedAt time.Time `json:"changed_at,omitzero" yaml:"-"`
	ChangedBy string    `json:"changed_by,omitempty" yaml:"-"`
	Reason    string    `json:"reason,omitempty" yaml:"-"`
	// Revision is the revision of its key in the bucket, for compare-and-set.
	Revision uint64 `json:"-" yaml:"-"`
}

// Credential is a name and the hash of a secret, belonging to a device.
type Credential struct {
	// Name is what the client gives as its user name.
	Name string `json:"name"`
	// Device is the Name of the device it stands for.
	Device string `json:"device"`
	// Hash is the encoded argon2id hash of the secret.
	Hash      string    `json:"hash"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	CreatedBy string    `json:"created_by,omitempty"`
}

// Snapshot is the registry at one revision, made for look-ups. It is
// immutable: a change makes a new one.
type Snapshot struct {
	// Revision is the last sequence of the bucket that went into it.
	Revision    uint64
	devices     map[string]*Device
	credentials map[string]*Credential
	addresses   bart.Table[*Device]
}

// NewSnapshot indexes devices and credentials. Of two devices with the same
// address range the one whose name sorts first has it. One that is only
// requested, or retired, has no address: asking for a registration changes
// nothing yet, neither for that address nor for the device that has it.
func NewSnapshot(revision uint64, devices []*Device, credentials []*Credential) *Snapshot {
	s := &Snapshot{
		Revision:    revision,
		devices:     make(map[string]*Device, len(devices)),
		credentials: make(map[string]*Credential, len(credentials)),
	}
	for _, d := range devices {
		s.devices[d.Name] = d
		if !d.State.holds() {
			continue
		}
		for _, p := range d.Addresses {
			p = unmap(p)
			if had, ok := s.addresses.Get(p); !ok || d.Name < had.Name {
				s.addresses.Insert(p, d)
			}
		}
	}
	for _, c := range credentials {
		s.credentials[c.Name] = c
	}
	return s
}

// unmap brings an IPv4-mapped IPv6 range to its IPv4 form.
func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// Device is the device of that name.
func (s *Snapshot) Device(name string) (*Device, bool) {
	d, ok := s.devices[name]
	return d, ok
}

// ByAddress is the device with the most specific range that holds addr.
func (s *Snapshot) ByAddress(addr netip.Addr) (*Device, bool) {
	return s.addresses.Lookup(addr.Unmap().WithZone(""))
}

// Rival is another device that has one of the ranges of d for itself. Ranges
// within each other are no rivals: the most specific wins.
func (s *Snapshot) Rival(d *Device) (*Device, bool) {
	for _, p := range d.Addresses {
		if had, ok := s.addresses.Get(unmap(p)); ok && had.Name != d.Name {
			return had, true
		}
	}
	return nil, false
}

// ByCredential is the device a credential stands for.
func (s *Snapshot) ByCredential(name string) (*Device, bool) {
	c, ok := s.credentials[name]
	if !ok {
		return nil, false
	}
	return s.Device(c.Device)
}

// Credential is the credential of that name.
func (s *Snapshot) Credential(name string) (*Credential, bool) {
	c, ok := s.credentials[name]
	return c, ok
}

// Devices is every device, in no order.
func (s *Snapshot) Devices() []*Device {
	out := make([]*Device, 0, len(s.devices))
	for _, d := range s.devices {
		out = append(out, d)
	}
	return out
}
