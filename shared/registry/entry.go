package registry

import (
	"net/netip"
	"time"
)

// Origin says who made an entry.
type Origin string

// Entries of the configuration file cannot be changed by command.
const (
	OriginFile    Origin = "file"
	OriginCommand Origin = "command"
)

// Entry is what every entry of the registry says of itself. The history of the
// bucket, each revision with this, is the audit.
type Entry struct {
	Origin Origin `json:"origin,omitempty"`
	// At, By, Reason and Ticket describe the last change.
	At     time.Time `json:"changed_at,omitzero"`
	By     string    `json:"changed_by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Ticket string    `json:"ticket,omitempty"`
	// Removed says that the entry is no more: a deletion would have no author.
	Removed bool `json:"removed,omitempty"`
	// Revision is the revision of its key in the bucket, for compare-and-set.
	Revision uint64 `json:"-"`
}

// Change is who changes an entry, when and why.
type Change struct {
	By, Reason, Ticket string
	At                 time.Time
}

// Stamp notes a change.
func (e *Entry) Stamp(c Change) { e.By, e.Reason, e.Ticket, e.At = c.By, c.Reason, c.Ticket, c.At }

// Audit is the entry itself: every kind embeds one.
func (e *Entry) Audit() *Entry { return e }

// Credential is a name and the hashes of its secrets, belonging to a device.
type Credential struct {
	// Name is what the client gives as its user name. It is not an address it
	// sends as (S30).
	Name string `json:"name"`
	// Device is the Name of the device it stands for.
	Device string `json:"device"`
	// Secrets are one, and two while it is rotated (S29). None: an authority
	// outside checks it (P16).
	Secrets []Secret `json:"secrets,omitempty"`
	// Suspended takes nothing from the device's other credentials (S39).
	Suspended bool `json:"suspended,omitempty"`
	Entry
}

// Secret is the hash of one.
type Secret struct {
	// Hash is the encoded argon2id hash.
	Hash string    `json:"hash"`
	Made time.Time `json:"made"`
	// Until is when it ends; zero is never.
	Until time.Time `json:"until,omitzero"`
}

// Domain is a domain of the institution. Its subdomains are not included (P10).
type Domain struct {
	Name string `json:"name"`
	// Route is its next hop as in delivery.routes; empty means by MX.
	Route string `json:"route,omitempty"`
	// Internal: external owners may not send as it, only as subdomains (W42).
	Internal bool `json:"internal,omitempty"`
	Entry
}

// Resolution is what the DNS last said of a device. The relay writes it by itself.
type Resolution struct {
	Device string `json:"device"`
	// Addresses are those of its name: a device that follows the DNS sends from
	// there (P12).
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Confirmed is when an address was last seen to have the device's name, and the
	// name the address (P22).
	Confirmed map[netip.Addr]time.Time `json:"confirmed,omitempty"`
	Entry
}

// Review is what the relay found out about a device by itself.
type Review struct {
	Device   string    `json:"device"`
	Findings []Finding `json:"findings,omitempty"`
	Entry
}

// Finding is one thing that was looked at.
type Finding struct {
	// Check is spf, dmarc, sender, personal-sender, mail-server or contact.
	Check string `json:"check"`
	// About is the domain, the network address or the mail address.
	About string `json:"about,omitempty"`
	OK    bool   `json:"ok"`
	// Doubt: it could not be found out now.
	Doubt bool   `json:"doubt,omitempty"`
	Text  string `json:"text"`
}

// Kind is what a network is.
type Kind string

// The kinds of networks.
const (
	KindCampus       Kind = "campus"
	KindDeny         Kind = "deny"
	KindWorkstations Kind = "workstations" // W2
	KindDHCP         Kind = "dhcp"         // M11
	KindResidential  Kind = "residential"  // P32
	KindNAT          Kind = "nat"          // P24
	KindCloud        Kind = "cloud"        // P26
)

// Network is an address range with a meaning.
type Network struct {
	Range netip.Prefix `json:"range"`
	Kind  Kind         `json:"kind"`
	Note  string       `json:"note,omitempty"`
	Entry
}

// Block refuses an address, a range, a sender's address or domain, at once and
// without notice (M9, W44). It needs no device.
type Block struct {
	// Subject is an address, a range, "user@domain" or "@domain".
	Subject string `json:"subject"`
	// Until is when it ends; zero is never.
	Until time.Time `json:"until,omitzero"`
	Entry
}

// Holds reports a block that has not ended.
func (b *Block) Holds(at time.Time) bool { return b.Until.IsZero() || at.Before(b.Until) }

// Owner is a unit that has devices.
type Owner struct {
	Name string `json:"name"`
	// Contacts hear where a device has none of its own.
	Contacts []string `json:"contacts,omitempty"`
	// External: a third party, which may send as subdomains only (W42).
	External bool `json:"external,omitempty"`
	// Contract is its reference (S10).
	Contract string `json:"contract,omitempty"`
	// Administrators are login names of those who may act for the unit, and for no
	// other (P18, W17): delegate.go.
	Administrators []string `json:"administrators,omitempty"`
	Entry
}

// Group is a list of addresses that hear notices (M15, M16).
type Group struct {
	Name    string   `json:"name"`
	Members []string `json:"members"`
	// Joined are the members that the relay put there by itself, as contacts of
	// devices: it takes them out again.
	Joined []string `json:"joined,omitempty"`
	Entry
}
