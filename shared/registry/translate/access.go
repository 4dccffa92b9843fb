package translate

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
	"github.com/postrider/postrider/shared/smtp"
)

// The restrictions that look at something else than the client's address.

// senderTable is a table of senders, and whether somebody is admitted before it
// is asked.
type senderTable struct {
	*table
	late bool
}

// known are restrictions with what they mean here. Those with advice may refuse
// what is admitted here.
var known = map[string]struct{ why, do string }{
	"permit": {}, "reject": {}, "defer": {}, "permit_mynetworks": {}, "permit_sasl_authenticated": {}, "permit_auth_destination": {},
	"reject_unauth_destination": {}, "defer_unauth_destination": {}, "check_client_access": {}, "warn_if_reject": {}, "sleep": {},
	"reject_unauth_pipelining": {}, "reject_non_fqdn_recipient": {}, "reject_multi_recipient_bounce": {},
	"reject_unknown_recipient_domain": {"it refuses recipients whose domain the DNS does not know", "nothing: here such mail is accepted, and returned by an NDR"},
	"reject_unlisted_recipient":       {"it refuses unknown recipients of hosted domains", "nothing: here the next hop of the domain refuses them, and the sender gets an NDR"},
	"reject_unverified_recipient":     {"it asks the next hop whether a recipient exists", "nothing: here the next hop refuses them, and the sender gets an NDR"},
	"reject_non_fqdn_sender":          {"it refuses senders without a full domain", "set the sender's domain in the device, or quirks.domain"},
	"reject_unknown_sender_domain":    {"it refuses senders whose domain the DNS does not know", "policy.sender_must_be_hosted holds senders to your own domains"},
	"reject_unlisted_sender":          {"it refuses unknown senders of hosted domains", "see policy.sender_must_exist"},
	"reject_unverified_sender":        {"it asks whether the sender's mailbox exists", "see policy.sender_must_exist"},
	"reject_unknown_client_hostname":  {"it refuses clients without a forward-confirmed name", "see policy.fcrdns"}, "reject_unknown_client": {"it refuses clients without a forward-confirmed name", "see policy.fcrdns"},
	"reject_unknown_reverse_client_hostname": {"it refuses clients without a reverse name", "see policy.fcrdns"},
	"reject_invalid_helo_hostname":           {"it refuses oddities in HELO", "nothing: here they are accepted, and shown harmless"}, "reject_non_fqdn_helo_hostname": {"it refuses short names in HELO", "nothing: here they are accepted, since devices have them"},
	"reject_unknown_helo_hostname": {"it refuses names in HELO that the DNS does not know", "nothing: here they are accepted, since devices have them"},
	"reject_sender_login_mismatch": {"", ""}, "reject_authenticated_sender_login_mismatch": {"", ""}, "reject_known_sender_login_mismatch": {"", ""},
	"reject_unauthenticated_sender_login_mismatch": {"it wants authentication for senders that belong to a login", "name the senders of each device in its registration"},
	"permit_tls_clientcerts":                       {"it admits clients by certificate", "register them by address, or give them credentials"}, "permit_tls_all_clientcerts": {"it admits clients by certificate", "register them by address, or give them credentials"},
	"permit_mx_backup":         {"it makes a backup MX of the server", "leave that to the MX"},
	"permit_inet_interfaces":   {"it admits the machine itself", "register 127.0.0.1 if programs on the relay's machine send by SMTP"},
	"reject_plaintext_session": {"it refuses sessions without TLS", "nothing here wants TLS of a device that does not authenticate"},
	"check_policy_service":     {"it asks another program", "see what it decides: rates and limits are in the registration"},
	"defer_if_permit":          {"it delays everything that is admitted", "suspend what is meant"}, "defer_if_reject": {},
}

// walk opens the tables of a list, makes the spans of those of clients, and tells
// of what is not evaluated.
func (p *postfix) walk(s stage, at place, words, within []string) {
	admitted := false
	for i := 0; i < len(words); i++ {
		word, argument, used := p.restriction(s.access, words[i:])
		here := place{at.file, at.first, at.last, strings.Join(words[i:i+used], " ")}
		i += used - 1
		switch {
		case strings.HasPrefix(word, "check_") && word != "check_policy_service":
			admitted = p.walkTable(s, here, word, argument, admitted, within) || admitted
		default:
			if inner, ok := p.restrictionClass(word); ok {
				if !slices.Contains(within, word) {
					p.walk(s, here, inner, append(within[:len(within):len(within)], word))
				}
				continue
			}
			p.unevaluated(here, word)
			admitted = admitted || strings.HasPrefix(word, "permit")
		}
	}
}

func (p *postfix) unevaluated(at place, word string) {
	k, ok := known[word]
	switch {
	case word == "warn_if_reject":
		p.meaningless(at, "it only warns; here a rule can stand on observe")
	case !ok:
		p.left(at, Everybody, "this restriction is not evaluated here; it is taken as not refusing", "see what it refuses")
	case k.why != "":
		p.left(at, Everybody, k.why+"; it is not evaluated", k.do)
	}
}

// walkTable opens one table, and reports that it admits somebody.
func (p *postfix) walkTable(s stage, at place, word, argument string, admitted bool, within []string) (admits bool) {
	t, ok := p.reference(at, argument, Everybody)
	if !ok {
		return false
	}
	if word == "check_sender_access" {
		p.senderTables = append(p.senderTables, senderTable{t, admitted || len(within) > 0})
		return false
	}
	if word != "check_client_access" {
		for _, l := range t.lines {
			if !l.said && actionOf(l.Value).verdict != dunno {
				l.said = true
				p.left(l.place(), concernsOf(t, l), "what "+word+" looks at is no part of a registration", "see whether it is still needed")
			}
		}
		return false
	}
	p.place(t)
	for _, l := range t.lines {
		if l.said {
			continue
		}
		a := actionOf(l.Value)
		admits = admits || a.verdict == permit || len(a.words) > 0
		if r, ok := t.rangeOf(l); ok && r.IsValid() {
			if !slices.Contains(within, argument) {
				p.walk(s, l.place(), a.words, append(within[:len(within):len(within)], argument))
			}
			continue
		}
		p.byName(t, l)
	}
	return admits
}

// concernsOf is whom a line of a table is about.
func concernsOf(t *table, l *line) string {
	if t.reference.Kind == postfixconf.Indexed {
		return l.Key
	}
	return Everybody
}

// byName is a line about the name of a client, or a pattern.
func (p *postfix) byName(t *table, l *line) {
	if actionOf(l.Value).verdict == dunno && len(actionOf(l.Value).words) == 0 {
		p.meaningless(l.place(), "it decides nothing")
		l.said = true
		return
	}
	l.said = true
	if t.reference.Kind == postfixconf.Pattern {
		p.left(l.place(), Everybody, "this pattern is no address and no range", "name the addresses that it means")
		return
	}
	concerns := Everybody
	var found []string
	for a, name := range p.options.Names {
		if strings.EqualFold(name, l.Key) {
			concerns = a.String()
			found = append(found, concerns)
		}
	}
	do := "give its addresses with --hosts FILE, or register it: postrider device request " + l.Key + " --address ADDRESS"
	if len(found) == 1 {
		do = "register it: postrider device request " + l.Key + " --address " + found[0]
	}
	p.left(l.place(), concerns, "it names a client by its DNS name, not by its address", do)
}

// senders makes blocks of the senders that are refused.
func (p *postfix) senders() {
	parents := p.parentMatches("smtpd_access_maps")
	for _, t := range p.senderTables {
		for _, l := range t.lines {
			if !l.said {
				l.said = true
				p.sender(t, l, parents)
			}
		}
	}
}

func (p *postfix) sender(t senderTable, l *line, parents bool) {
	a := actionOf(l.Value)
	concerns := concernsOf(t.table, l)
	switch {
	case a.verdict == dunno && len(a.words) == 0 && a.besides == "":
		p.meaningless(l.place(), "it decides nothing by itself")
		return
	case a.verdict == permit:
		p.left(l.place(), concerns, "a sender's address is what anybody can write: it admits nobody here", "register the clients that send as it")
		return
	case a.verdict == dunno:
		p.left(l.place(), concerns, "it does something else than refuse", "see what it was for")
		return
	case t.reference.Kind != postfixconf.Indexed:
		p.left(l.place(), concerns, "this is a pattern; a block names one sender or one domain", "block what it means: postrider block add")
		return
	case t.late:
		p.left(l.place(), concerns, "it is asked only of clients that nothing before it admits, and a block holds for all", "block the sender if it is meant for all: postrider block add")
		return
	}
	subject, ok := blockOf(l.Key)
	if !ok {
		p.left(l.place(), concerns, "a block names user@domain or a domain", "block what it means: postrider block add")
		return
	}
	if other := t.exception(l); other != "" {
		p.left(l.place(), concerns, other+" is excepted from it, and a block has no exceptions", "block the others one by one")
		return
	}
	p.result.Entries.Blocks = append(p.result.Entries.Blocks, &registry.Block{Subject: subject})
	p.translated(l.place(), "block of "+subject+", of the From field, too")
	if parents && strings.HasPrefix(subject, "@") {
		p.left(l.place(), "."+l.Key, "subdomains are refused there as well", "block each that sends: postrider block add @sub."+l.Key)
	}
}

// blockOf is the subject of a block for a key of an access table.
func blockOf(key string) (string, bool) {
	if strings.HasPrefix(key, ".") || strings.HasSuffix(key, "@") {
		return "", false
	}
	if !strings.Contains(key, "@") {
		return "@" + key, fqdn.MatchString(key)
	}
	_, err := smtp.ParseAddress(key)
	return key, err == nil
}

// exception is a sender within a refused domain that another line does not
// refuse.
func (t senderTable) exception(refused *line) string {
	for _, l := range t.lines {
		inner := strings.HasSuffix(l.Key, "@"+refused.Key) || strings.HasSuffix(l.Key, "."+refused.Key)
		if l != refused && inner && l.Fault == "" && actionOf(l.Value).verdict != reject {
			return l.Key
		}
	}
	return ""
}

// parentMatches reports a list whose domains stand for their subdomains.
func (p *postfix) parentMatches(name string) bool {
	for _, word := range postfixconf.Fields(p.take("parent_domain_matches_subdomains", "evaluated where a domain is named")) {
		if word == name {
			return true
		}
	}
	return false
}
