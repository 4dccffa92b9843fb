// Package authz decides who may send what to whom. It is one pure function,
// [Decide], over recorded Facts, the configured Rules and a registry Snapshot:
// no I/O, no clock of its own, no state. Ingress asks it at MAIL, RCPT and the
// end of DATA, policy asks it again with authority, and the commands that
// explain or try out a decision ask the same function.
//
// Order of the rules, the first that applies decides:
//
//	sandbox          any loopback client to anyone (sandbox only)
//	report           our own reports
//	authentication   a submission listener needs an identity
//	denied-network   no unauthenticated mail from these ranges
//	sender           the reverse-path must be in a hosted domain
//	registered       an active device within its scope
//	fcrdns           a device known by address must have its name confirmed
//	campus-to-hosted a campus address to a hosted domain
//	not-registered   everything else is refused
package authz

import (
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// Mode says what a rule does with what it finds.
type Mode string

// The modes of a rule.
const (
	Off     Mode = "off"
	Observe Mode = "observe" // recorded, not applied
	Enforce Mode = "enforce"
)

// Stage is the command that asks.
type Stage string

// The stages at which ingress asks, and the later ones.
const (
	StageMail   Stage = "mail"
	StageRcpt   Stage = "rcpt"
	StageData   Stage = "data"
	StagePolicy Stage = "policy"
)

// Facts are what a decision rests on, recorded with it.
type Facts struct {
	// Listener is the name of the listener, Submission its mode.
	Listener   string `json:"listener,omitempty"`
	Submission bool   `json:"submission,omitempty"`
	// Address is the client's, Name its forward-confirmed name. NameDoubt says
	// that the DNS gave no answer, so that Name means nothing.
	Address   netip.Addr `json:"address"`
	Name      string     `json:"name,omitempty"`
	NameDoubt bool       `json:"name_doubt,omitempty"`
	Helo      string     `json:"helo,omitempty"`
	// TLS is version and cipher suite; empty in clear.
	TLS string `json:"tls,omitempty"`
	// Identity is the authenticated credential.
	Identity string `json:"identity,omitempty"`
	// Report marks a report of our own bounce service.
	Report      bool              `json:"report,omitempty"`
	ReversePath smtp.ReversePath  `json:"reverse_path"`
	Recipient   *smtp.ForwardPath `json:"recipient,omitempty"`
	// HeaderFrom is every address of the From fields, known at the end of DATA.
	HeaderFrom []string  `json:"header_from,omitempty"`
	At         time.Time `json:"at,omitzero"`
}

// Rules are the configured part of a decision.
type Rules struct {
	Sandbox            bool
	Hosted             map[string]bool // domain in lower case, exact
	Campus, Denied     []netip.Prefix
	HostedFromCampus   Mode
	FCrDNS             Mode
	SenderMustBeHosted Mode
}

// Outcome is what becomes of the mail.
type Outcome string

// The outcomes of a decision.
const (
	Admit  Outcome = "admit"
	Hold   Outcome = "hold"
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

// Decide applies the rules to the facts. At StageMail there is no recipient:
// only what holds for every recipient is decided, and Admit means "go on".
func Decide(rules *Rules, reg *registry.Snapshot, f *Facts) Verdict {
	d := decision{rules: rules, reg: reg, facts: f}
	if _, known := reg.Credential(f.Identity); f.Identity != "" && !known && !rules.Sandbox {
		// A credential that was removed meanwhile authenticates nobody.
		without := *f
		without.Identity = ""
		d.facts = &without
	}
	d.device = d.findDevice()
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

type decision struct {
	rules    *Rules
	reg      *registry.Snapshot
	facts    *Facts
	device   *registry.Device
	observed []string
}

func (d *decision) findDevice() *registry.Device {
	var found *registry.Device
	if d.facts.Identity != "" {
		found, _ = d.reg.ByCredential(d.facts.Identity)
	} else if d.facts.Address.IsValid() {
		found, _ = d.reg.ByAddress(d.facts.Address)
	}
	return found
}

func (d *decision) decide() Verdict {
	f := d.facts
	switch {
	case d.rules.Sandbox && f.Address.Unmap().IsLoopback():
		return admit("sandbox", "loopback client of a sandbox")
	case f.Report:
		return admit("report", "our own report")
	case f.Submission && f.Identity == "":
		return refuse("authentication", smtp.ReplyAuthRequired, "submission listener without authentication")
	case f.Identity == "" && contains(d.rules.Denied, f.Address):
		return refuse("denied-network", denied("No mail is accepted from "+show(f.Address)+"."), "address in networks.deny")
	}
	if v, refused := d.sender(); refused {
		return v
	}
	if f.Recipient == nil {
		return admit("mail", "decided at RCPT")
	}
	return d.recipient()
}

// sender applies sender_must_be_hosted (W23). The null path is exempt.
func (d *decision) sender() (Verdict, bool) {
	from := d.facts.ReversePath
	if from.IsNull() || d.rules.Hosted[from.Domain] {
		return Verdict{}, false
	}
	if !d.applies("sender", d.rules.SenderMustBeHosted) {
		return Verdict{}, false
	}
	return refuse("sender", denied("Sender domain "+from.Domain+" is not hosted here."), "reverse-path outside the hosted domains"), true
}

func (d *decision) recipient() Verdict {
	f := d.facts
	hosted := d.rules.Hosted[f.Recipient.Domain]
	if dev := d.device; dev != nil {
		switch {
		case dev.State != registry.StateActive:
			return refuse("registered", denied("Registration of "+show(f.Address)+" is "+string(dev.State)+"."),
				"device "+dev.Name+" is "+string(dev.State))
		case hosted || dev.Scope != registry.ScopeHosted:
			return d.confirmed(dev, hosted)
		}
	}
	if hosted && d.rules.HostedFromCampus != Off && contains(d.rules.Campus, f.Address) {
		return admit("campus-to-hosted", "campus address to a hosted domain")
	}
	if d.device != nil {
		return refuse("registered", denied("Registered for hosted domains only: "+show(f.Address)+"."), "scope of "+d.device.Name+" is hosted")
	}
	if f.Identity != "" {
		return refuse("not-registered", denied("These credentials are not registered for this recipient."), "credential "+f.Identity+" belongs to no device")
	}
	return refuse("not-registered", denied("Not registered: "+show(f.Address)+"."), "no device has the address and no rule admits it")
}

// confirmed applies FCrDNS (P22, P23) to a device known by its address:
// without the registered name it reaches hosted domains only.
func (d *decision) confirmed(dev *registry.Device, hosted bool) Verdict {
	f := d.facts
	ok := admit("registered", "device "+dev.Name)
	if f.Identity != "" || hosted || strings.EqualFold(f.Name, dev.Name) || d.ranged(dev) {
		return ok
	}
	if !d.applies("fcrdns", d.rules.FCrDNS) {
		return ok
	}
	if f.NameDoubt {
		return Verdict{Outcome: Later, Rule: "fcrdns", Reason: "the DNS gave no answer for " + f.Address.String(),
			Reply: smtp.Reply{Code: 451, Enhanced: "7.25", Text: "Name of " + show(f.Address) + " cannot be checked now."}}
	}
	return refuse("fcrdns", smtp.Reply{Code: 550, Enhanced: "7.25", Text: "DNS name of " + show(f.Address) + " is not the registered one."},
		"forward-confirmed name is "+quote(f.Name)+", registered is "+dev.Name)
}

// ranged reports that the device has the address by a range, not singly.
func (d *decision) ranged(dev *registry.Device) bool {
	for _, p := range dev.Addresses {
		if !p.IsSingleIP() && p.Contains(d.facts.Address.Unmap()) {
			return true
		}
	}
	return false
}

// applies reports that a rule that found something may refuse for it.
func (d *decision) applies(rule string, m Mode) bool {
	if m == Observe {
		d.observed = append(d.observed, rule)
	}
	return m == Enforce
}

func admit(rule, reason string) Verdict { return Verdict{Outcome: Admit, Rule: rule, Reason: reason} }

func refuse(rule string, r smtp.Reply, reason string) Verdict {
	return Verdict{Outcome: Refuse, Rule: rule, Reply: r, Reason: reason}
}

func denied(text string) smtp.Reply { return smtp.Reply{Code: 550, Enhanced: "7.1", Text: text} }

func contains(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func show(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	return a.Unmap().WithZone("").String()
}

func quote(s string) string {
	if s == "" {
		return "missing"
	}
	return s
}
