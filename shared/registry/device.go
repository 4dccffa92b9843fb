package registry

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

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

// Holds reports a state in which a device has its addresses: they may send, or
// have been stopped.
func (s State) Holds() bool {
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

// Proof is what a device must show of itself.
type Proof string

// The proofs of a device. The empty one is either.
const (
	ProofEither     Proof = "either"     // its address or a credential
	ProofCredential Proof = "credential" // also from its own address
	ProofBoth       Proof = "both"       // X21, S7
)

// Traffic is what kind of mail a device sends (W45). The bulk kinds are held
// to the rules for bulk.
type Traffic string

// The kinds of traffic.
const (
	TrafficAlerts        Traffic = "alerts"
	TrafficTransactional Traffic = "transactional"
	TrafficScans         Traffic = "scans"
	TrafficNewsletter    Traffic = "newsletter"
	TrafficResearch      Traffic = "research" // calls for participation
	TrafficSurvey        Traffic = "survey"
)

// Bulk reports a kind of mail that goes to many at once.
func (t Traffic) Bulk() bool {
	return t == TrafficNewsletter || t == TrafficResearch || t == TrafficSurvey
}

// Device is one registered sender: a printer, an instrument, an application.
type Device struct {
	// Name is the fully qualified domain name, in lower case; the key (P12).
	Name string `json:"name" yaml:"name"`
	// Owner is a unit, not a person (M6).
	Owner string `json:"owner,omitempty" yaml:"owner"`
	// Contacts are the addresses that hear about trouble: the main one, then
	// the backups (M13).
	Contacts []string `json:"contacts,omitempty" yaml:"contacts"`
	// Addresses are the networks it sends from; empty means by credential only.
	Addresses []Address `json:"addresses,omitempty" yaml:"addresses"`
	// FollowDNS lets it send from the addresses that the DNS has for its name, too:
	// one that moves needs no change here (P12).
	FollowDNS bool `json:"follow_dns,omitempty" yaml:"follow_dns"`
	// Proof is what it must show: its address, a credential, or both.
	Proof Proof `json:"proof,omitempty" yaml:"proof"`
	// Senders are the addresses it may send as, at most MaxSenders, each exact
	// (S4, S27), or a whole domain (SenderDomain) where that may be; empty leaves it
	// to the rules for everybody.
	Senders []string `json:"senders,omitempty" yaml:"senders"`
	// HeaderSenders are further ones that only its From field may have (S23).
	HeaderSenders []string `json:"header_senders,omitempty" yaml:"header_senders"`
	// Scope defaults to anywhere: hosted mail needs no registration on most campuses.
	Scope Scope `json:"scope,omitempty" yaml:"scope"`
	// Class selects lane and lifetime.
	Class mail.Class `json:"class,omitempty" yaml:"class"`
	// Traffic is what it sends.
	Traffic Traffic `json:"traffic,omitempty" yaml:"traffic"`
	// Limits are its own instead of everybody's.
	Limits Limits `json:"limits,omitzero" yaml:"limits"`
	// Quirks are what is done for a device that nobody can reconfigure.
	Quirks Quirks `json:"quirks,omitzero" yaml:"quirks"`
	// PHI marks mail that must never leave in clear (W13), and is purged at once.
	PHI bool `json:"phi,omitempty" yaml:"phi"`
	// Exempt is why it need not authenticate where others must (P20).
	Exempt *Exemption `json:"exempt,omitempty" yaml:"exempt"`

	// State is the place in its life; file entries are active.
	State State `json:"state,omitempty" yaml:"state"`
	// Suspension says why it is suspended.
	Suspension *Suspension `json:"suspension,omitempty" yaml:"-"`
	// Application is the form it was requested with.
	Application *Application `json:"application,omitempty" yaml:"-"`
	// Approver is who let it send, and Decision why (S19).
	Approver string `json:"approver,omitempty" yaml:"-"`
	Decision string `json:"decision,omitempty" yaml:"-"`
	// Told is when the contacts were last told of something, by cause.
	Told map[string]time.Time `json:"told,omitempty" yaml:"-"`
	// Dates of its life.
	Dates Dates `json:"dates,omitzero" yaml:"-"`

	Entry `yaml:"-"`
}

// Sends reports that the device may send from an address.
func (d *Device) Sends(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, own := range d.Addresses {
		if own.Active() && unmap(own.Range).Contains(a) {
			return true
		}
	}
	return false
}

// Ranged reports that the device has the address by a range, not singly: no
// one name is confirmed for it (P23).
func (d *Device) Ranged(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, own := range d.Addresses {
		if !own.Range.IsSingleIP() && own.Active() && unmap(own.Range).Contains(a) {
			return true
		}
	}
	return false
}

// MaxSenders is how many addresses one device may send as (S4).
const MaxSenders = 10

// Address is one network that a device sends from. Several in one registration
// each have a standing of their own (W16).
type Address struct {
	Range netip.Prefix `json:"range"`
	// State is StateActive where it is empty.
	State State `json:"state,omitempty"`
	// Since is when it got its state.
	Since time.Time `json:"since,omitzero"`
}

// Active reports that the device may send from it.
func (a Address) Active() bool { return a.State == "" || a.State == StateActive }

// String is the address or range as people write it.
func (a Address) String() string {
	if a.Range.IsSingleIP() {
		return a.Range.Addr().String()
	}
	return a.Range.String()
}

// MarshalJSON writes an address that is only a range as that.
func (a Address) MarshalJSON() ([]byte, error) {
	if a.State == "" && a.Since.IsZero() {
		return json.Marshal(a.Range)
	}
	type plain Address
	return json.Marshal(plain(a))
}

// UnmarshalJSON reads either form.
func (a *Address) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		return a.UnmarshalText([]byte(s))
	}
	type plain Address
	return json.Unmarshal(text, (*plain)(a))
}

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address or a range in CIDR notation.
func (a *Address) UnmarshalText(text []byte) error {
	p, err := ParseRange(string(text))
	if err == nil {
		*a = Address{Range: p}
	}
	return err
}

// ParseRange reads an address or a range in CIDR notation, without host bits.
func ParseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a range (examples: 10.2.3.4, 10.2.3.0/28)", s)
	}
	if p.Masked() != p {
		return p, fmt.Errorf("%s has host bits set; did you mean %s?", p, p.Masked())
	}
	return unmap(p), nil
}

// MustAddresses are the addresses of a literal list of ranges; it panics where one
// cannot be read.
func MustAddresses(ranges ...string) []Address {
	out := make([]Address, len(ranges))
	for i, r := range ranges {
		if err := out[i].UnmarshalText([]byte(r)); err != nil {
			panic(err)
		}
	}
	return out
}

// Limits bound what a device may send; zero leaves it to the limits of all.
type Limits struct {
	// Size of one message, in octets.
	Size int64 `json:"size,omitempty" yaml:"size"`
	// Session is how many messages one session may send.
	Session int `json:"session,omitempty" yaml:"session"`
	// Recipients of one message.
	Recipients int `json:"recipients,omitempty" yaml:"recipients"`
	// MessagesPerHour holds over all ingress instances.
	MessagesPerHour int `json:"messages_per_hour,omitempty" yaml:"messages_per_hour"`
	// RecipientsPerHour does so, too.
	RecipientsPerHour int `json:"recipients_per_hour,omitempty" yaml:"recipients_per_hour"`
}

// Quirks are what is done for a device that nobody can reconfigure. Each shows
// in the trace of a message that it touched.
type Quirks struct {
	// From replaces the reverse-path and the From field.
	From string `json:"from,omitempty" yaml:"from"`
	// Domain completes addresses that have none.
	Domain string `json:"domain,omitempty" yaml:"domain"`
	// HideEHLO are keywords that it does not get to see.
	HideEHLO []string `json:"hide_ehlo,omitempty" yaml:"hide_ehlo"`
	// LegacyTLS lets it use the versions and ciphers of old devices.
	LegacyTLS bool `json:"legacy_tls,omitempty" yaml:"legacy_tls"`
	// RepairNewlines mends bare CR and LF instead of refusing them.
	RepairNewlines bool `json:"repair_newlines,omitempty" yaml:"repair_newlines"`
}

// None reports that nothing is done for it.
func (q *Quirks) None() bool {
	return q.From == "" && q.Domain == "" && len(q.HideEHLO) == 0 && !q.LegacyTLS && !q.RepairNewlines
}

// Exemption is a leave from a rule that others are held to.
type Exemption struct {
	// Reason is why.
	Reason string `json:"reason" yaml:"reason"`
	// By is who gave it.
	By string `json:"by,omitempty" yaml:"by"`
	// Until is its last day, or the instant at which it ends.
	Until time.Time `json:"until,omitzero" yaml:"until"`
}

// Holds reports an exemption that has not ended; nil is none.
func (e *Exemption) Holds(at time.Time) bool {
	return e != nil && (e.Until.IsZero() || at.Before(e.Until))
}

// Suspension is why a device may not send for now.
type Suspension struct {
	// Cause is a word: operator, abuse, reports, anomaly, unused, attestation.
	Cause string    `json:"cause"`
	At    time.Time `json:"at"`
	// NeedsTicket: it is lifted only with the number of a ticket (P30).
	NeedsTicket bool `json:"needs_ticket,omitempty"`
}

// Dates are the steps of a device's life; zero is not yet.
type Dates struct {
	Requested time.Time `json:"requested,omitzero"`
	Contacted time.Time `json:"contacted,omitzero"` // P14
	Approved  time.Time `json:"approved,omitzero"`
	Activated time.Time `json:"activated,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	Attested  time.Time `json:"attested,omitzero"` // M20: to be renewed
	Accepted  time.Time `json:"accepted,omitzero"` // W11: the terms of use
	Retired   time.Time `json:"retired,omitzero"`
}
