package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// advise adds to a refusal what is nearly registered, what can be done, and who
// can. Every rule that refuses has a fix; where the registry tells more, the
// advice names the command.
func (a *asking) advise(o *opinion, f *authz.Facts) {
	if cause, ok := (&event.Refusal{Rule: o.Rule}).Cause(); ok {
		o.About, o.Switch = cause.About, cause.Switch
		o.Fix = append(o.Fix, cause.Fix)
	}
	o.Nearest = a.nearest(o, f)
	switch o.Rule {
	case "not-registered":
		a.adviseRegistration(o, f)
	case "blocked":
		a.adviseBlock(o, f)
	case "device-state":
		a.adviseState(o, o.Device)
	case "authentication", "denied-network", "proof", "must-authenticate", "nat", "cloud":
		o.Commands = append(o.Commands, "postrider credential add NAME --device "+nameOr(o.Device, "DEVICE"))
	case "fcrdns":
		a.adviseNames(o, f)
	case "sender-allowed", "header-from":
		a.adviseSenders(o)
	case "sender":
		o.Commands = append(o.Commands, "postrider domain add "+nameOr(f.ReversePath.Domain, "DOMAIN"))
	case event.CauseCredentials:
		a.adviseCredential(o, f)
	}
	o.Who = a.who(o.Device)
}

// safeName is what may stand in a command to be copied: others chose it.
var safeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/@-]{0,99}$`)

func nameOr(name, placeholder string) string {
	if !safeName.MatchString(name) {
		return placeholder
	}
	return name
}

func (a *asking) adviseRegistration(o *opinion, f *authz.Facts) {
	if f.Identity != "" {
		o.Commands = append(o.Commands, "postrider credential add "+nameOr(f.Identity, "NAME")+" --device DEVICE")
		return
	}
	if near := a.reg.NearestAddress(f.Address); len(near) > 0 && near[0].Distance == 0 {
		if a.adviseState(o, near[0].Device.Name); len(o.Commands) > 0 {
			return
		}
	}
	name := nameOr(f.Name, "")
	if helo := f.Helo; name == "" && strings.Contains(helo, ".") && !strings.HasPrefix(helo, "[") {
		if _, err := netip.ParseAddr(helo); err != nil {
			name = nameOr(helo, "")
		}
	}
	name = nameOr(strings.ToLower(name), "NAME")
	if f.Address.IsValid() && a.reg.Misplaced(&registry.Device{Addresses: []registry.Address{{Range: netip.PrefixFrom(f.Address, f.Address.BitLen())}}}) != nil {
		o.Commands = append(o.Commands, // its network speaks against the address
			fmt.Sprintf("postrider device request %s --owner OWNER --contact ADDRESS", name),
			"postrider device approve "+name,
			"postrider credential add LOGIN --device "+name)
		return
	}
	o.Commands = append(o.Commands,
		fmt.Sprintf("postrider device request %s --address %s --owner OWNER --contact ADDRESS", name, f.Address),
		"postrider device approve "+name)
}

// adviseState says how a device gets to where it may send. What an approved one
// waits for is for its owner to do.
func (a *asking) adviseState(o *opinion, name string) {
	d, ok := a.reg.Device(name)
	if !ok {
		return
	}
	o.Commands = stateCommands(d)
	if what := (&desk{cfg: a.cfg, snapshot: a.reg}).awaited(d); d.State == registry.StateApproved && len(what) > 0 {
		o.Fix = []string{"it is approved, and active as soon as there is " + strings.Join(what, ", and ")}
		o.Commands = []string{"postrider device show " + d.Name}
	}
}

// stateCommands bring a device to where it may send; none where it may.
func stateCommands(d *registry.Device) []string {
	if d.Origin == registry.OriginFile && d.State != registry.StateActive {
		return []string{"set its state in the configuration file: devices, " + d.Name}
	}
	switch d.State {
	case registry.StateRequested, registry.StateApproved:
		return []string{"postrider device approve " + d.Name}
	case registry.StateSuspended:
		if d.Suspension != nil && d.Suspension.NeedsTicket {
			return []string{"postrider device resume " + d.Name + " --ticket NUMBER"}
		}
		return []string{"postrider device resume " + d.Name}
	case registry.StateRetired:
		again := "postrider device request " + d.Name
		for _, own := range d.Addresses {
			again += " --address " + own.String()
		}
		return []string{again + " --owner " + nameOr(d.Owner, "OWNER") + " --contact ADDRESS", "postrider device approve " + d.Name}
	}
	return nil
}

func (a *asking) adviseBlock(o *opinion, f *authz.Facts) {
	block := func(b *registry.Block, ok bool) {
		if ok && b.Holds(f.At) {
			o.Commands = append(o.Commands, "postrider block rm "+nameOr(b.Subject, "'"+b.Subject+"'"))
		}
	}
	block(a.reg.BlockedAddress(f.Address))
	for _, sender := range append([]string{f.ReversePath.String()}, f.HeaderFrom...) {
		block(a.reg.BlockedSender(strings.ToLower(sender)))
	}
}

// adviseNames names the records that the DNS should have.
func (a *asking) adviseNames(o *opinion, f *authz.Facts) {
	if o.Device == "" || !f.Address.IsValid() {
		return
	}
	kind := "A"
	if f.Address.Is6() {
		kind = "AAAA"
	}
	has := "it has no confirmed name"
	if f.Name != "" {
		has = "it has " + f.Name
	}
	o.Fix = append(o.Fix, fmt.Sprintf("the DNS should have: %s PTR %s, and %s %s %s; %s", f.Address, o.Device, o.Device, kind, f.Address, has))
	if f.Name != "" {
		o.Fix = append(o.Fix, "or, where the device was renamed, register it by its new name")
	}
}

func (a *asking) adviseSenders(o *opinion) {
	if d, ok := a.reg.Device(o.Device); ok {
		list := append(append([]string{}, d.Senders...), d.HeaderSenders...)
		o.Fix = append(o.Fix, "the registration of "+d.Name+" has: "+strings.Join(list, ", "))
	}
}

func (a *asking) adviseCredential(o *opinion, f *authz.Facts) {
	c, ok := a.reg.Credential(f.Identity)
	switch {
	case !ok:
		o.Reason = "no credential is called " + f.Identity
		o.Commands = append(o.Commands, "postrider credential add "+nameOr(f.Identity, "NAME")+" --device DEVICE")
	default:
		o.Reason, o.Device = "the secret is not that of "+c.Name, c.Device
		o.Commands = append(o.Commands, "postrider credential rotate "+nameOr(c.Name, "NAME"))
	}
}

// nearest is what is registered and nearly what was seen.
func (a *asking) nearest(o *opinion, f *authz.Facts) (out []string) {
	switch o.Rule {
	case "not-registered", "authentication", event.CauseCredentials:
	case "sender-allowed", "header-from":
		for _, from := range append([]string{f.ReversePath.String()}, f.HeaderFrom...) {
			for _, n := range a.reg.WithSender(from) {
				out = append(out, from+" is an address of "+describeDevice(n.Device))
			}
		}
		return out
	default:
		if d, ok := a.reg.Device(o.Device); ok {
			out = append(out, describeDevice(d))
		}
		return out
	}
	seen := map[string]bool{}
	near := a.reg.NearestAddress(f.Address)
	for _, n := range near {
		switch seen[n.Device.Name] = true; {
		case n.Distance > 0 && near[0].Distance == 0: // the address itself is registered
		case n.Distance > 0:
			out = append(out, fmt.Sprintf("%s is not registered; %s is %s", f.Address, n.Address, describeDevice(n.Device)))
		case n.Device.State == registry.StateActive && !n.Address.Active():
			out = append(out, fmt.Sprintf("%s is %s in the registration of %s", n.Address, n.Address.State, describeDevice(n.Device)))
		default:
			out = append(out, fmt.Sprintf("%s belongs to %s", n.Address, describeDevice(n.Device)))
		}
	}
	for _, name := range []string{f.Name, f.Helo} {
		for _, n := range a.reg.NearestName(name) {
			if !seen[n.Device.Name] {
				seen[n.Device.Name] = true
				out = append(out, fmt.Sprintf("the name %s is like that of %s", mail.Printable(name, 128), describeDevice(n.Device)))
			}
		}
	}
	return out
}

// describeDevice is a device in a few words.
func describeDevice(d *registry.Device) string {
	words := []string{string(d.State)}
	if d.Owner != "" {
		words = append(words, "owner "+d.Owner)
	}
	if list := addresses(d); list != "" {
		words = append(words, list)
	}
	return d.Name + " (" + strings.Join(words, ", ") + ")"
}

// recipientAt is somebody at a domain, to ask with.
func recipientAt(domain string) *smtp.ForwardPath {
	return &smtp.ForwardPath{Address: smtp.Address{Local: "someone", Domain: domain}}
}
