package authz

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// The rules about where mail goes. The facts have a recipient.

func (d *decision) recipients() (Verdict, bool) {
	most := d.rules.Recipients
	if dev := d.device; dev != nil && dev.Limits.Recipients > 0 {
		most = dev.Limits.Recipients
	}
	if most == 0 || d.facts.Recipients < most {
		return pass()
	}
	return later(smtp.Reply{Code: 452, Enhanced: "5.3", Text: fmt.Sprintf("Too many recipients, %d at most.", most)}, "the message has its recipients")
}

// mustAuthenticate wants an exemption of a device that only shows an address
// (P16, P20).
func (d *decision) mustAuthenticate() (Verdict, bool) {
	if d.device == nil || d.identity != "" || d.hosted() || d.device.Exempt.Holds(d.facts.At) {
		return pass()
	}
	return refuse(denied("Log in, or get an exemption: "+show(d.facts.Address)+"."), d.device.Name+" has no exemption")
}

func (d *decision) nat() (Verdict, bool)   { return d.unproven(registry.KindNAT, "many share it") }
func (d *decision) cloud() (Verdict, bool) { return d.unproven(registry.KindCloud, "it changes hands") }

// unproven holds for addresses of which many, or anybody, may have the use
// (P24-P26).
func (d *decision) unproven(kind registry.Kind, why string) (Verdict, bool) {
	if d.identity != "" || !d.kinds.Has(kind) || d.hosted() {
		return pass()
	}
	return refuse(denied("Log in to send from "+show(d.facts.Address)+": "+why+"."), "address in a network of kind "+string(kind))
}

// bulk sends mail for many at once to the service that is made for it.
func (d *decision) bulk() (Verdict, bool) {
	if d.device == nil || !d.device.Bulk() {
		return pass()
	}
	what := string(d.device.Traffic)
	if !d.device.Traffic.Bulk() { // S26
		what = "to " + string(d.device.Application.Audience)
	}
	return refuse(denied("Bulk mail goes through the list service."), d.device.Name+" sends "+what)
}

// limit holds what a device sends over its limits; its mail for the hosted
// domains is spared (P33). One that nobody knows is told to come again.
func (d *decision) limit() (Verdict, bool) {
	if len(d.facts.Over) == 0 || d.device != nil && d.hosted() {
		return pass()
	}
	over := strings.Join(d.facts.Over, ", ")
	if d.device != nil {
		return Verdict{Outcome: Hold, Reason: d.device.Name + " is over " + over}, true
	}
	who := d.identity
	if who == "" {
		who = show(d.facts.Address)
	}
	return later(smtp.Reply{Code: 451, Enhanced: "7.1", Text: "Over the hourly limit: " + own(who) + ". Bulk mail goes through the list service."}, "over "+over)
}

// fcrdns wants the registered name of a device known by its address (P22, P23):
// without it, it reaches hosted domains only.
func (d *decision) fcrdns() (Verdict, bool) {
	f, dev := d.facts, d.device
	if dev == nil || d.identity != "" || dev.Scope == registry.ScopeHosted || d.hosted() || strings.EqualFold(f.Name, dev.Name) || dev.Ranged(f.Address) {
		return pass()
	}
	if f.NameDoubt {
		return later(smtp.Reply{Code: 451, Enhanced: "7.25", Text: "Name of " + show(f.Address) + " cannot be checked now."},
			"the DNS gave no answer for "+show(f.Address))
	}
	name := f.Name
	if name == "" {
		name = "missing"
	}
	return refuse(smtp.Reply{Code: 550, Enhanced: "7.25", Text: "DNS name is not as registered: " + show(f.Address) + "."},
		"forward-confirmed name is "+own(name)+", registered is "+dev.Name)
}

// routing keeps a route from the server of a hosted domain (RFC 5321 §F.2): that
// trusts us, and may follow "x%elsewhere" to where its sender may not send.
func (d *decision) routing() (Verdict, bool) {
	anywhere := d.device != nil && d.device.Scope != registry.ScopeHosted
	if anywhere || d.beyond() || !strings.ContainsAny(d.facts.Recipient.Local, "@%!") {
		return pass()
	}
	return refuse(denied("Recipient must be plain name@domain, without %, ! or @ in the name."), "a route in the local part of the recipient")
}

func (d *decision) registered() (Verdict, bool) {
	if d.device == nil || d.device.Scope == registry.ScopeHosted && d.beyond() {
		return pass()
	}
	return admit("device " + d.device.Name)
}

// postmaster has a mailbox for everybody (RFC 5321 §4.5.1), in a hosted domain:
// what nobody may send elsewhere does not leave this way.
func (d *decision) postmaster() (Verdict, bool) {
	if d.rules.Postmaster == "" || d.beyond() || !same(d.rules.Postmaster, d.facts.Recipient.Address.String()) {
		return pass()
	}
	return admit("mail to the postmaster")
}

func (d *decision) campusToHosted() (Verdict, bool) {
	if d.beyond() || !d.kinds.Has(registry.KindCampus) {
		return pass()
	}
	return admit("campus address to a hosted domain")
}

func (d *decision) scope() (Verdict, bool) {
	if d.device == nil {
		return pass()
	}
	return refuse(denied("May send to our own domains only: "+show(d.facts.Address)+"."), "scope of "+d.device.Name+" is hosted")
}

func (d *decision) notRegistered() (Verdict, bool) {
	if d.identity != "" {
		return refuse(denied("Not registered: "+own(d.identity)+"."), "identity "+d.identity+" belongs to no device")
	}
	text := "Not registered: " + show(d.facts.Address) + "."
	if !d.kinds.Has(registry.KindCampus) { // W35, W36: from outside, registering is not the way
		text += " Log in on port 587."
	}
	return refuse(denied(text), "no device has the address and no rule admits it")
}
