package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// The rules about who sends, and as whom.

func (d *decision) sandbox() (Verdict, bool) {
	if !d.rules.Sandbox || !d.facts.Address.Unmap().IsLoopback() {
		return pass()
	}
	return admit("loopback client of a sandbox")
}

func (d *decision) report() (Verdict, bool) {
	if !d.facts.Report {
		return pass()
	}
	return admit("our own report")
}

// blocked applies a block at once and without notice (M9, W44).
func (d *decision) blocked() (Verdict, bool) {
	f := d.facts
	if b, ok := d.reg.BlockedAddress(f.Address); ok && b.Holds(f.At) {
		return refuse(denied("Blocked: "+show(f.Address)+"."), "block of "+b.Subject+", "+b.Reason)
	}
	if !d.reg.BlocksSenders() {
		return pass()
	}
	if !f.ReversePath.IsNull() {
		if v, ok := d.blockedSender(f.ReversePath.Address.String()); ok {
			return v, true
		}
	}
	for _, from := range f.HeaderFrom {
		if v, ok := d.blockedSender(from); ok {
			return v, true
		}
	}
	return pass()
}

func (d *decision) blockedSender(address string) (Verdict, bool) {
	if b, ok := d.reg.BlockedSender(strings.ToLower(address)); ok && b.Holds(d.facts.At) {
		return refuse(denied("Blocked: "+own(address)+"."), "block of "+b.Subject+", "+b.Reason)
	}
	return pass()
}

// helo wants no "&" in the name that the client calls itself (W24).
func (d *decision) helo() (Verdict, bool) {
	if !strings.Contains(d.facts.Helo, "&") {
		return pass()
	}
	return refuse(smtp.Reply{Code: 501, Enhanced: "5.2", Text: `"&" is not allowed in HELO or EHLO.`}, "HELO "+mail.Printable(d.facts.Helo, 64))
}

func (d *decision) authentication() (Verdict, bool) {
	if !d.facts.Submission || d.identity != "" {
		return pass()
	}
	text := "Log in, or use port 25 from a registered address: " + show(d.facts.Address) + "."
	return refuse(smtp.Reply{Code: smtp.ReplyAuthRequired.Code, Enhanced: smtp.ReplyAuthRequired.Enhanced, Text: text}, "submission listener without authentication")
}

// suspendedCredential stops one credential and no other of its device (S39).
func (d *decision) suspendedCredential() (Verdict, bool) {
	if d.credential == nil || !d.credential.Suspended {
		return pass()
	}
	return refuse(denied("Login suspended, ask its owner: "+own(d.identity)+"."), "credential "+d.identity+" is suspended, "+d.credential.Reason)
}

// deniedNetwork holds for registered addresses, too: they cannot be registered
// there (W2, M11, P32).
func (d *decision) deniedNetwork() (Verdict, bool) {
	if d.identity != "" {
		return pass()
	}
	for _, kind := range [...]registry.Kind{registry.KindDeny, registry.KindWorkstations, registry.KindDHCP, registry.KindResidential} {
		if d.kinds.Has(kind) {
			return refuse(denied("Log in to send from "+show(d.facts.Address)+"."), "address in a network of kind "+string(kind))
		}
	}
	return pass()
}

func (d *decision) deviceState() (Verdict, bool) {
	dev := d.device
	if dev == nil || dev.State == registry.StateActive {
		return pass()
	}
	who := d.identity
	if who == "" {
		who = show(d.facts.Address)
	}
	state := string(dev.State)
	if state != string(registry.StateSuspended) && state != string(registry.StateRetired) {
		state = "only " + state
	}
	return refuse(denied("Registration "+state+": "+own(who)+"."), "device "+dev.Name+" is "+string(dev.State))
}

// proof is what a device must show by its registration (X21).
func (d *decision) proof() (Verdict, bool) {
	dev := d.device
	if dev == nil || dev.Proof == "" || dev.Proof == registry.ProofEither {
		return pass()
	}
	if d.identity == "" {
		return refuse(denied("Log in to send from "+show(d.facts.Address)+"."), dev.Name+" must authenticate")
	}
	if dev.Proof == registry.ProofBoth && !d.reg.Sends(dev, d.facts.Address) {
		return refuse(denied("This login is not for use from "+show(d.facts.Address)+"."), dev.Name+" must also send from its own address")
	}
	return pass()
}

// addressLock ties every credential to the addresses of its device (S7).
func (d *decision) addressLock() (Verdict, bool) {
	dev := d.device
	if dev == nil || d.identity == "" || len(dev.Addresses) == 0 || d.reg.Sends(dev, d.facts.Address) {
		return pass()
	}
	return refuse(denied("This login is not for use from "+show(d.facts.Address)+"."), "credential "+d.identity+" from outside the addresses of "+dev.Name)
}

// senderAllowed holds a device to its own addresses (S3, W37). The null path
// stays free: it is that of a device's own reports, and From tells whose.
func (d *decision) senderAllowed() (Verdict, bool) {
	dev, from := d.device, d.facts.ReversePath
	if dev == nil || len(dev.Senders) == 0 || from.IsNull() {
		return pass()
	}
	address := from.Address.String()
	if same(dev.Quirks.From, address) || d.listed(dev.Senders, address) {
		return pass()
	}
	return refuse(smtp.Reply{Code: 550, Enhanced: "7.1", Text: "Sender not allowed: " + own(address) + "."},
		"reverse-path is not among the senders of "+dev.Name)
}

// headerFrom is senderAllowed for the From field (S3, S23).
func (d *decision) headerFrom() (Verdict, bool) {
	dev := d.device
	if dev == nil || len(dev.Senders) == 0 {
		return pass()
	}
	if d.facts.FromFault == FromUnreadable { // whoever reads it may see any address
		return refuse(smtp.Reply{Code: 550, Enhanced: "7.0", Text: "From: field is unreadable."}, "From field cannot be compared with the senders of "+dev.Name)
	}
	for _, from := range d.facts.HeaderFrom {
		if !same(dev.Quirks.From, from) && !d.listed(dev.Senders, from) && !d.listed(dev.HeaderSenders, from) {
			return refuse(smtp.Reply{Code: 550, Enhanced: "7.0", Text: "From: not allowed: " + own(from) + "."},
				"From field is not among the senders of "+dev.Name)
		}
	}
	return pass()
}

// listed reports an address in a list: the local part exact, as only its own
// server may compare it otherwise (RFC 5321 §2.4), the domain in any case. Where
// whole domains may be in it, *@campus.test is any address of that one.
func (d *decision) listed(list []string, address string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		if all, ok := strings.CutPrefix(s, "*@"); ok {
			return d.rules.SenderWildcards && strings.EqualFold(all, address[strings.LastIndexByte(address, '@')+1:])
		}
		return same(s, address)
	})
}

func same(a, b string) bool {
	at, i := strings.LastIndexByte(b, '@'), strings.LastIndexByte(a, '@')
	return i == at && i >= 0 && a[:i] == b[:at] && strings.EqualFold(a[i:], b[at:])
}

// internalDomain keeps a domain for internal owners (W42).
func (d *decision) internalDomain() (Verdict, bool) {
	if d.device == nil {
		return pass()
	}
	owner, ok := d.reg.Owner(d.device.Owner)
	if !ok || !owner.External {
		return pass()
	}
	if v, ok := d.internal(d.facts.ReversePath.Domain); ok {
		return v, true
	}
	for _, from := range d.facts.HeaderFrom {
		if v, ok := d.internal(from[strings.LastIndexByte(from, '@')+1:]); ok {
			return v, true
		}
	}
	return pass()
}

func (d *decision) internal(domain string) (Verdict, bool) {
	if h, ok := d.reg.Domain(strings.ToLower(domain)); ok && h.Internal {
		return refuse(denied("Sender domain not allowed: "+own(domain)+"."), "owner "+d.device.Owner+" is external, "+h.Name+" is for internal owners")
	}
	return pass()
}

// sender wants a hosted reverse-path (W23). The null path is exempt.
func (d *decision) sender() (Verdict, bool) {
	from := d.facts.ReversePath
	if from.IsNull() || d.reg.Hosted(from.Domain) {
		return pass()
	}
	return refuse(denied("Sender domain not ours: "+own(from.Domain)+"."), "reverse-path outside the hosted domains")
}

func (d *decision) senderExists() (Verdict, bool) {
	from := d.facts.ReversePath
	if from.IsNull() {
		return pass()
	}
	switch d.facts.Standing {
	case StandingUnknown:
		return refuse(smtp.Reply{Code: 550, Enhanced: "1.8", Text: "Sender has no mailbox: " + own(from.Address.String()) + "."}, "no mailbox behind the reverse-path")
	case StandingDoubt:
		return later(smtp.Reply{Code: 451, Enhanced: "4.3", Text: "Sender cannot be checked now, try again later."}, "nobody could say whether the sender exists")
	}
	return pass()
}

func (d *decision) personalSender() (Verdict, bool) {
	if d.facts.Standing != StandingPersonal {
		return pass()
	}
	return refuse(smtp.Reply{Code: 550, Enhanced: "1.8", Text: "Use a functional sender, not " + own(d.facts.ReversePath.Address.String()) + "."}, "reverse-path is a personal address")
}

// fromField wants a From field that shows whose the message is (P27).
func (d *decision) fromField() (Verdict, bool) {
	if d.facts.FromFault == "" {
		return pass()
	}
	return refuse(smtp.Reply{Code: 550, Enhanced: "6.0", Text: "From: field is " + faults[d.facts.FromFault] + "."}, "From field: "+string(d.facts.FromFault))
}

// faults are the faults as the sender reads them.
var faults = map[Fault]string{
	FromMissing: "missing", FromUnreadable: "unreadable", FromMultiple: "given more than once", FromGroup: "a group",
	FromDisguised: "disguised by its name",
}

func (d *decision) sessionLimit() (Verdict, bool) {
	most := d.rules.SessionRelay
	if d.facts.Submission {
		most = d.rules.SessionSubmission
	}
	if dev := d.device; dev != nil && dev.Limits.Session > 0 {
		most = dev.Limits.Session
	}
	if most == 0 || d.facts.Messages < most {
		return pass()
	}
	return later(smtp.Reply{Code: 421, Enhanced: "7.0", Text: "Too many messages in this session, connect again."}, "the session has sent its messages")
}

func (d *decision) size() (Verdict, bool) {
	most := d.rules.MessageSize
	if dev := d.device; dev != nil && dev.Limits.Size > 0 {
		most = dev.Limits.Size
	}
	if most == 0 || d.facts.Size <= most {
		return pass()
	}
	r := smtp.ReplyTooBig
	r.Text = "Message too big, " + octets(most) + " at most."
	return refuse(r, fmt.Sprintf("%d octets are more than the sender may send, %d", d.facts.Size, most))
}

// content does what scanning wants done (W12, S12).
func (d *decision) content() (Verdict, bool) {
	switch d.facts.Scan {
	case Hold:
		return Verdict{Outcome: Hold, Reason: "scanned: " + d.facts.Scanner}, true
	case Refuse:
		return refuse(smtp.Reply{Code: 550, Enhanced: "7.0", Text: "Content refused by the scanner."}, "scanned: "+d.facts.Scanner)
	case Later:
		return later(smtp.Reply{Code: 451, Enhanced: "7.0", Text: "Content cannot be checked now, try again later."}, "scanned: "+d.facts.Scanner)
	}
	return pass()
}
