package translate

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// The domains for which Postfix accepts mail are hosted.

// domains makes an entry of every domain that is served.
func (p *postfix) domains() {
	local := map[string]bool{}
	for _, list := range []string{"mydestination", "relay_domains", "virtual_alias_domains", "virtual_mailbox_domains"} {
		p.taken[list] = "hosted domains; its elements have rows of their own"
		for _, e := range p.elements(list, Everybody) {
			for _, d := range p.domainsOf(e) {
				p.domain(list, e.not, d)
				local[d.name] = local[d.name] || list != "relay_domains"
			}
		}
	}
	for name := range p.hosted {
		p.result.Hints.Hosted = append(p.result.Hints.Hosted, name)
	}
	slices.Sort(p.result.Hints.Hosted)
	for _, name := range p.result.Hints.Hosted {
		p.result.Entries.Domains = append(p.result.Entries.Domains, &registry.Domain{Name: name})
	}
	p.localDomains(local)
}

// localDomains are domains whose mail Postfix delivers itself.
func (p *postfix) localDomains(local map[string]bool) {
	for _, name := range p.result.Hints.Hosted {
		if local[name] {
			p.left(p.at("mydestination"), name, name+" has its mailboxes there, or is rewritten there, and unknown ones are refused; Postrider only relays", "say which host takes its mail: a route for "+name+", or its MX")
		}
	}
}

type namedDomain struct {
	at   place
	name string
	line *line
}

// domainsOf are the domains of one element of a list.
func (p *postfix) domainsOf(e element) (out []namedDomain) {
	if e.file == nil {
		return []namedDomain{{e.at, strings.ToLower(e.word), nil}}
	}
	if e.file.reference.Kind != postfixconf.Indexed {
		p.left(e.at, Everybody, "patterns of domains; here each domain is named", "name them: postrider domain add")
		for _, l := range e.file.lines {
			l.said = true
			p.left(l.place(), Everybody, "a pattern of domains; here each domain is named", "name them: postrider domain add")
		}
		return nil
	}
	p.translated(e.at, "its keys have rows of their own")
	for _, l := range e.file.lines {
		// A table of addresses (virtual) has a key for the domain itself.
		if l.Fault == "" && !strings.Contains(l.Key, "@") && !l.said {
			out = append(out, namedDomain{l.place(), l.Key, l})
		}
	}
	return out
}

func (p *postfix) domain(list string, not bool, d namedDomain) {
	if d.line != nil {
		d.line.said = true
	}
	parents := list == "relay_domains" && p.parentMatches("relay_domains")
	switch {
	case not:
		p.left(d.at, d.name, "an exception from a list; here a domain is hosted or not", "see that it is not hosted: postrider domain ls")
	case strings.HasPrefix(d.name, "."):
		p.left(d.at, d.name, "it stands for all subdomains; hosted domains are exact", "name each: postrider domain add")
	case d.name == "localhost" || strings.HasPrefix(d.name, "localhost."):
		p.meaningless(d.at, "the machine itself: no mail comes for it from a device")
	case !fqdn.MatchString(d.name):
		p.left(d.at, d.name, "this is no domain", "see what it was meant to be")
	default:
		p.hosted[d.name] = true
		p.translated(d.at, "domain "+d.name)
		if parents {
			p.left(d.at, "."+d.name, "its subdomains are accepted there, too; hosted domains are exact", "name those that are in use: postrider domain add")
		}
	}
}
