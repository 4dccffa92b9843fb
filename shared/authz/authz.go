// Package authz decides who may send what to whom. It is one pure function,
// [Decide], over recorded [Facts], the configured [Rules] and a registry
// Snapshot: no I/O, no clock of its own, no state. Ingress asks it at MAIL, RCPT
// and the end of DATA, policy asks it again with authority, and the commands
// that explain, try out or replay a decision ask the same function.
//
// The rules stand in one table, in the order in which they apply (rules.go): the
// first that refuses or admits decides; what another wants held, or tried again,
// is held or tried again only if none refuses it. Those that an institution may want
// or not have a [Mode]: one that observes is recorded in the verdict and passes
// the question on. What no rule admits is refused.
//
// Guarantees: Decide always answers, and always the same for the same
// arguments. Mail for a domain that is not hosted is admitted only for a
// registered device, for our own reports, and for loopback clients of a
// sandbox. A further restriction never turns a refusal into an admission. A
// fact that could not be found out never refuses: the answer is then [Later]. No
// text of a reply tells more than the sender's own addresses, and none is longer
// than maxText octets.
package authz

import (
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// Outcome is what becomes of the mail.
type Outcome string

// The outcomes of a decision.
const (
	Admit  Outcome = "admit"
	Hold   Outcome = "hold" // accepted, and kept until a person or its turn releases it
	Later  Outcome = "later"
	Refuse Outcome = "refuse"
)

// Verdict is a decision with its reasons.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Reply is set for Later and Refuse. Its text names the sender's own
	// address at most.
	Reply smtp.Reply `json:"reply,omitzero"`
	// Rule is the one that decided.
	Rule string `json:"rule"`
	// Reason is for us: exact.
	Reason string `json:"reason,omitempty"`
	// Observed are rules that would have refused but only observe.
	Observed []string `json:"observed,omitempty"`
	// Device, Owner and Class are of the sender, where it is registered.
	Device string     `json:"device,omitempty"`
	Owner  string     `json:"owner,omitempty"`
	Class  mail.Class `json:"class,omitempty"`
}

// Admitted reports that the mail may pass.
func (v Verdict) Admitted() bool { return v.Outcome == Admit }

// Passes reports that ingress may take it: it is admitted, or will be held.
func (v Verdict) Passes() bool { return v.Outcome == Admit || v.Outcome == Hold }

// Decide applies the rules to the facts. At StageMail there is no recipient:
// only what holds for every recipient is decided, and Admit means "go on".
func Decide(rules *Rules, reg *registry.Snapshot, f *Facts) Verdict {
	d := decision{rules: rules, reg: reg, facts: f}
	d.identify()
	v := d.decide()
	v.Observed = d.observed
	if d.device != nil {
		v.Device, v.Owner, v.Class = d.device.Name, d.device.Owner, d.device.Class
	}
	if v.Class == "" {
		v.Class = mail.ClassDefault
	}
	if f.Report {
		v.Class = mail.ClassReport
	}
	return v
}

// Sender is the device that the facts belong to, nil where nobody is known.
func Sender(rules *Rules, reg *registry.Snapshot, f *Facts) *registry.Device {
	d := decision{rules: rules, reg: reg, facts: f}
	d.identify()
	return d.device
}

// decision is one being made.
type decision struct {
	rules *Rules
	reg   *registry.Snapshot
	facts *Facts
	// identity is that of the facts, unless its credential is no more.
	identity   string
	credential *registry.Credential
	device     *registry.Device
	kinds      registry.Kinds // of the networks that the client's address is in
	observed   []string
}

// identify finds the device that the facts belong to. A local credential that
// was removed meanwhile authenticates nobody; who was vouched for by another
// authority is somebody, and perhaps nobody we know.
func (d *decision) identify() {
	f := d.facts
	if f.Address.IsValid() {
		d.kinds = d.reg.KindsOf(f.Address)
	}
	if f.Identity != "" {
		d.credential, _ = d.reg.Credential(f.Identity)
		if d.credential != nil {
			d.device, _ = d.reg.Device(d.credential.Device)
		}
		if d.credential != nil || d.rules.Sandbox || f.outside() {
			d.identity = f.Identity
			return
		}
	}
	if f.Address.IsValid() {
		d.device, _ = d.reg.ByAddress(f.Address)
	}
}

// decide asks one rule after the other. A refusal or an admission ends that; what
// is to be held, or to come again, is so only if nothing refuses it.
func (d *decision) decide() Verdict {
	var kept Verdict
	for i := range table {
		r := &table[i]
		if r.rcpt && d.facts.Recipient == nil {
			continue
		}
		mode := r.in(d.rules)
		if mode == Off || mode == "" {
			continue
		}
		v, applies := r.find(d)
		if !applies {
			continue
		}
		if mode == Observe && !v.Admitted() {
			d.observed = append(d.observed, r.Name)
			continue
		}
		v.Rule = r.Name
		switch {
		case v.Outcome == Refuse, v.Outcome == Admit && kept.Outcome == "":
			return v
		case v.Outcome == Admit:
			return kept
		case kept.Outcome != Later:
			kept = v
		}
	}
	if kept.Outcome != "" {
		return kept
	}
	return Verdict{Outcome: Admit, Rule: "mail", Reason: "decided at RCPT"}
}

// hosted reports a recipient in a hosted domain.
func (d *decision) hosted() bool { return d.reg.Hosted(d.facts.Recipient.Domain) }

// beyond reports a recipient outside the hosted domains.
func (d *decision) beyond() bool { return !d.hosted() }
