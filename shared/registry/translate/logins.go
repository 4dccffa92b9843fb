package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
	"github.com/postrider/postrider/shared/smtp"
)

// logins makes a credential and a device of every login that smtpd_sender_login_maps
// names, with the senders that are its own. The credential has no secret yet.
func (p *postfix) logins() {
	senders := map[string][]string{}
	lines := map[string][]*line{}
	p.taken["smtpd_sender_login_maps"] = "credentials and their senders; its lines have rows of their own"
	for _, word := range postfixconf.Fields(p.get("smtpd_sender_login_maps")) {
		t, ok := p.reference(p.at("smtpd_sender_login_maps"), word, Everybody)
		if !ok {
			continue
		}
		for _, l := range t.lines {
			if l.said {
				continue
			}
			l.said = true
			p.loginLine(t, l, senders, lines)
		}
	}
	names := make([]string, 0, len(senders))
	for login := range senders {
		names = append(names, login)
	}
	slices.Sort(names)
	used := map[string]bool{}
	for _, login := range names {
		p.login(login, senders[login], lines[login], used)
	}
	if enforced := strings.Contains(p.get("smtpd_sender_restrictions")+p.get("smtpd_recipient_restrictions")+p.get("smtpd_relay_restrictions"), "sender_login_mismatch"); !enforced && len(names) > 0 {
		p.left(p.at("smtpd_sender_login_maps"), "", "no restriction holds a login to its senders there; here each is held to them", "take the senders out of a device that needs more")
	}
}

func (p *postfix) loginLine(t *table, l *line, senders map[string][]string, lines map[string][]*line) {
	if t.reference.Kind != postfixconf.Indexed {
		p.left(l.place(), Everybody, "a pattern of senders; a registration names each (at most 10)", "name the senders: senders of the device")
		return
	}
	if _, err := smtp.ParseAddress(l.Key); err != nil {
		for _, login := range postfixconf.Fields(l.Value) {
			p.left(l.place(), login, "it stands for many senders; a registration names each (at most 10)", "name the senders: senders of the device")
		}
		return
	}
	for _, login := range postfixconf.Fields(l.Value) {
		senders[login] = append(senders[login], l.Key)
		lines[login] = append(lines[login], l)
	}
}

func (p *postfix) login(login string, senders []string, lines []*line, used map[string]bool) {
	name := "login-" + label(login) + "." + p.options.Domain
	if used[name] || label(login) == "" {
		for _, l := range lines {
			p.left(l.place(), login, "the name "+name+" is that of another login", "register it by hand: postrider credential add")
		}
		return
	}
	used[name] = true
	if len(senders) > registry.MaxSenders {
		for _, l := range lines[registry.MaxSenders:] {
			p.left(l.place(), login, fmt.Sprintf("%s has more than %d senders", login, registry.MaxSenders), "make a second device with a credential of its own for the others")
		}
		senders, lines = senders[:registry.MaxSenders], lines[:registry.MaxSenders]
	}
	p.result.Entries.Devices = append(p.result.Entries.Devices, &registry.Device{
		Name: name, Proof: registry.ProofCredential, Senders: senders, Scope: registry.ScopeAnywhere, Class: "default", State: registry.StateActive,
	})
	p.result.Entries.Credentials = append(p.result.Entries.Credentials, &registry.Credential{Name: login, Device: name})
	for _, l := range lines {
		p.translated(l.place(), "a sender of device "+name+", credential "+login)
	}
	p.left(lines[0].place(), login, "the password of "+login+" is not in these files, or in a form that is not taken over", "give it a new one: postrider credential rotate "+login+"; or set auth.ldap or auth.kerberos")
}
