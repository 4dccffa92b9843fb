package registry

import (
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
)

// Item is an entry of any kind.
type Item interface {
	fmt.Stringer // what people call it: "device prn-1.campus.test"
	// Key is its key in the bucket, one for each name.
	Key() string
	// Audit is what it says of its last change.
	Audit() *Entry
	// Faults are what is wrong with it, whoever made it.
	Faults() []Fault
}

// The prefixes of keys. A name follows with "." written "=", or in base32 where
// it may have other letters than a key.
const (
	devicePrefix     = "device."
	credentialPrefix = "credential."
	domainPrefix     = "domain."
	networkPrefix    = "network."
	blockPrefix      = "block."
	ownerPrefix      = "owner."
	groupPrefix      = "group."
	resolutionPrefix = "resolution."
	reviewPrefix     = "review."
	noticePrefix     = "notice."
)

// Key is device.<name>.
func (d *Device) Key() string { return devicePrefix + host(d.Name) }

// Key is credential.<name in base32>.
func (c *Credential) Key() string { return credentialPrefix + token(c.Name) }

// Key is domain.<name>.
func (d *Domain) Key() string { return domainPrefix + host(d.Name) }

// Key is network.<kind>.<range in base32>.
func (n *Network) Key() string { return networkPrefix + string(n.Kind) + "." + token(n.Range.String()) }

// Key is block.<subject in base32>.
func (b *Block) Key() string { return blockPrefix + token(b.Subject) }

// Key is owner.<name in base32>.
func (o *Owner) Key() string { return ownerPrefix + token(o.Name) }

// Key is group.<name in base32>.
func (g *Group) Key() string { return groupPrefix + token(g.Name) }

// Key is resolution.<device>.
func (r *Resolution) Key() string { return resolutionPrefix + host(r.Device) }

// Key is review.<device>.
func (r *Review) Key() string { return reviewPrefix + host(r.Device) }

// Key is notice.<id in base32>.
func (n *Notice) Key() string { return noticePrefix + token(n.ID) }

func (d *Device) String() string     { return "device " + d.Name }
func (c *Credential) String() string { return "credential " + c.Name }
func (d *Domain) String() string     { return "domain " + d.Name }
func (n *Network) String() string    { return "network " + n.Range.String() + " (" + string(n.Kind) + ")" }
func (b *Block) String() string      { return "block of " + b.Subject }
func (o *Owner) String() string      { return "owner " + o.Name }
func (g *Group) String() string      { return "group " + g.Name }
func (r *Resolution) String() string { return "resolution of " + r.Device }
func (r *Review) String() string     { return "review of " + r.Device }
func (n *Notice) String() string     { return "notice " + n.ID }

// host writes a domain name as one token of the letters that a key may have.
func host(name string) string { return strings.ReplaceAll(name, ".", "=") }

// token keeps a name with "/", "@" and anything else in one token.
func token(name string) string {
	return base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(name))
}

// Decode reads what is stored under a key, also what was removed.
func Decode(key string, value []byte, revision uint64) (Item, error) {
	item := kindOf(key)
	if item == nil {
		return nil, fmt.Errorf("decode %s: no kind of entry has such a key", key)
	}
	if err := json.Unmarshal(value, item); err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if item.Key() != key {
		return nil, fmt.Errorf("decode %s: it is %s", key, item)
	}
	item.Audit().Revision, item.Audit().Origin = revision, OriginCommand
	return item, nil
}

// Clone is a copy of an entry to change: those of a snapshot are shared.
func Clone[T Item](item T) (T, error) {
	value, err := json.Marshal(item)
	if err == nil {
		var copied Item
		if copied, err = Decode(item.Key(), value, item.Audit().Revision); err == nil {
			copied.Audit().Origin = item.Audit().Origin
			return copied.(T), nil
		}
	}
	var none T
	return none, fmt.Errorf("copy %s: %w", item, err)
}

func kindOf(key string) Item {
	prefix, _, _ := strings.Cut(key, ".")
	switch prefix + "." {
	case devicePrefix:
		return new(Device)
	case credentialPrefix:
		return new(Credential)
	case domainPrefix:
		return new(Domain)
	case networkPrefix:
		return new(Network)
	case blockPrefix:
		return new(Block)
	case ownerPrefix:
		return new(Owner)
	case groupPrefix:
		return new(Group)
	case resolutionPrefix:
		return new(Resolution)
	case reviewPrefix:
		return new(Review)
	case noticePrefix:
		return new(Notice)
	}
	return nil
}
