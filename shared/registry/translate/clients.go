package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// The evaluation of smtpd's restrictions for classes of client addresses.

// stage is one list of restrictions.
type stage struct {
	name, access string // access is what a bare table in it looks up
	words        []string
}

// class is what one evaluation is about.
type class struct {
	r      netip.Prefix // the addresses; the zero Prefix: those of no list
	hosted bool         // the recipient's domain is hosted
	auth   bool
}

type verdict int

const (
	dunno verdict = iota
	permit
	reject
)

var stages = []stage{
	{name: "smtpd_client_restrictions", access: "check_client_access"},
	{name: "smtpd_helo_restrictions", access: "check_helo_access"},
	{name: "smtpd_sender_restrictions", access: "check_sender_access"},
	{name: "smtpd_relay_restrictions", access: "check_recipient_access"},
	{name: "smtpd_recipient_restrictions", access: "check_recipient_access"},
	{name: "smtpd_data_restrictions", access: "check_recipient_access"},
	{name: "smtpd_end_of_data_restrictions", access: "check_recipient_access"},
}

// clients makes the spans and their entries.
func (p *postfix) clients() {
	p.mynetworks = p.networkList()
	for _, s := range stages {
		s.words = postfixconf.Fields(p.take(s.name, "evaluated for every address that is named"))
		p.stages = append(p.stages, s)
		p.walk(s, p.at(s.name), s.words, nil)
	}
	for _, s := range p.spans {
		if host, ok := p.options.Names[s.Range.Addr()]; ok && s.Range.IsSingleIP() {
			s.name = strings.ToLower(strings.TrimSuffix(host, "."))
		}
		s.want = p.answer(s.Range)
	}
	p.root()
	p.spans.settle(p.options.Domain, &p.result.Entries)
	p.explain()
}

// answer evaluates one class of addresses.
func (p *postfix) answer(r netip.Prefix) answer {
	return answer{
		hosted: p.accepts(class{r, true, false}), beyond: p.accepts(class{r, false, false}), auth: p.authenticates(r),
	}
}

// authenticates reports that authenticated clients may send from there. Where
// nobody can authenticate, it is whether anything is accepted at all.
func (p *postfix) authenticates(r netip.Prefix) bool {
	if p.get("smtpd_sasl_auth_enable") == "yes" {
		return p.accepts(class{r, false, true})
	}
	return p.accepts(class{r, true, false})
}

// root is the answer to addresses of no list: they have no entry here.
func (p *postfix) root() {
	switch root := p.answer(netip.Prefix{}); {
	case root.beyond:
		p.left(p.at("smtpd_relay_restrictions"), Unnamed, "any address may send to any recipient: this is an open relay", "close it; Postrider admits only those who are registered")
	case root.hosted:
		p.left(p.at("smtpd_relay_restrictions"), Unnamed, "any address may send to the hosted domains, as to a mail exchanger; here only a registered one may, and networks.campus",
			"name the ranges of the institution in networks.campus, and leave mail from outside to the MX")
	}
}

func (p *postfix) accepts(c class) bool {
	for _, s := range p.stages {
		if p.evaluate(s.access, s.words, c, nil) == reject {
			return false
		}
	}
	return true
}

// evaluate follows the restrictions in their order: the first that says yes or
// no decides the list. within are the classes and tables that it stands in: in
// itself, none says anything.
func (p *postfix) evaluate(access string, words []string, c class, within []string) verdict {
	for i := 0; i < len(words); i++ {
		word, argument, used := p.restriction(access, words[i:])
		i += used - 1
		v := dunno
		switch word {
		case "permit":
			v = permit
		case "reject", "defer":
			v = reject
		case "permit_mynetworks":
			v = when(p.mine(c), permit)
		case "permit_sasl_authenticated":
			v = when(c.auth, permit)
		case "permit_auth_destination":
			v = when(c.hosted, permit)
		case "reject_unauth_destination", "defer_unauth_destination":
			v = when(!c.hosted, reject)
		case "check_client_access":
			v = p.lookUp(access, argument, c, within)
		default:
			if inner, ok := p.restrictionClass(word); ok && !slices.Contains(within, word) {
				v = p.evaluate(access, inner, c, append(within[:len(within):len(within)], word))
			}
		}
		if v != dunno {
			return v
		}
	}
	return dunno
}

func when(met bool, v verdict) verdict {
	if met {
		return v
	}
	return dunno
}

// restriction is the next one of a list with its argument, and how many words
// it takes. One that only warns does nothing.
func (p *postfix) restriction(access string, words []string) (word, argument string, used int) {
	word = strings.ToLower(words[0])
	switch {
	case word == "warn_if_reject" && len(words) > 1:
		_, _, n := p.restriction(access, words[1:])
		return word, "", n + 1
	case isReference(words[0]):
		return access, words[0], 1
	case takesArgument(word) && len(words) > 1:
		return word, words[1], 2
	}
	return word, "", 1
}

func takesArgument(word string) bool {
	return strings.HasPrefix(word, "check_") || strings.HasPrefix(word, "reject_rbl_") || strings.HasPrefix(word, "reject_rhsbl_") ||
		strings.HasPrefix(word, "permit_dnswl_") || strings.HasPrefix(word, "permit_rhswl_") || word == "sleep" || word == "reject_maps_rbl"
}

func (p *postfix) restrictionClass(word string) ([]string, bool) {
	for _, name := range postfixconf.Fields(p.get("smtpd_restriction_classes")) {
		if name == word {
			return postfixconf.Fields(p.take(word, "a restriction class, evaluated where it is used")), true
		}
	}
	return nil, false
}

// mine reports a class within mynetworks: the first element that matches
// decides.
func (p *postfix) mine(c class) bool {
	for _, e := range p.mynetworks {
		if e.file != nil {
			if l := e.file.first(c.r, true); l != nil {
				l.hits++
				return !e.not
			}
			continue
		}
		if e.r.IsValid() && c.r.IsValid() && covers(e.r, c.r) {
			return !e.not
		}
	}
	return false
}

// explain gives a row to every line that names addresses.
func (p *postfix) explain() {
	for _, e := range p.mynetworks {
		if e.r.IsValid() {
			p.explained(e.at, p.spans[e.r])
		}
	}
	for _, t := range p.tables {
		for _, l := range t.lines {
			r, ok := t.rangeOf(l)
			if s := p.spans[r]; ok && s != nil && !l.said {
				p.explainLine(l, s)
			}
		}
	}
}

func (p *postfix) explainLine(l *line, s *span) {
	l.said = true
	if l.hits == 0 {
		p.meaningless(l.place(), "no client gets as far as this line: what comes before it decides")
		return
	}
	if a := actionOf(l.Value); a.besides != "" {
		p.left(l.place(), s.Range.String(), a.besides+" is nothing that a registration can say", "see what it was for; scan and route what must be")
		return
	}
	p.explained(l.place(), s)
}

func (p *postfix) explained(at place, s *span) {
	p.translated(at, s.became)
	if s.differs != "" {
		p.left(at, s.Range.String(), s.differs, "decide what it should be, and change the entry")
	}
}

// rangeOf is the range of a line that names one.
func (t *table) rangeOf(l *line) (netip.Prefix, bool) {
	switch {
	case l.Structure || l.Fault != "":
		return netip.Prefix{}, false
	case t.reference.Kind == postfixconf.CIDR:
		return l.Range, true
	case t.reference.Kind == postfixconf.Pattern:
		return patternRange(l.Key)
	}
	return postfixconf.ParseKey(l.Key)
}

// networkList is mynetworks with the spans that it names.
func (p *postfix) networkList() []element {
	if !p.main.Set("mynetworks") {
		p.left(p.at("mynetworks"), Everybody, fmt.Sprintf("mynetworks is not set: Postfix takes what mynetworks_style (%s) says about the interfaces of its machine", p.style()),
			"set mynetworks in the copy to what postconf mynetworks says there, and import again")
		return nil
	}
	list := p.elements("mynetworks", Everybody)
	p.taken["mynetworks"] = "its elements have rows of their own"
	for i, e := range list {
		if e.file != nil {
			p.place(e.file)
			p.translated(e.at, "its lines have rows of their own")
			continue
		}
		r, fault := postfixconf.ParseNetwork(e.word)
		if fault != "" {
			p.left(e.at, e.word, fault, "write it as Postfix reads it, and import again")
			continue
		}
		list[i].r = r
		p.spans.of(r)
	}
	return list
}

func (p *postfix) style() string {
	if s := p.get("mynetworks_style"); s != "" {
		return s
	}
	if p.main.Level() < 2 {
		return "subnet"
	}
	return "host"
}

// place makes the spans of a table of addresses.
func (p *postfix) place(t *table) {
	for _, l := range t.lines {
		r, ok := t.rangeOf(l)
		if !ok || t.reference.Kind == postfixconf.Indexed && !r.IsValid() {
			continue
		}
		s := p.spans.of(r)
		if name := nameIn(l.Value); name != "" && s.name == "" && r.IsSingleIP() {
			s.name = name
		}
		if name := nameIn(l.Comment); name != "" && s.name == "" && r.IsSingleIP() {
			s.name = name
		}
		for _, c := range l.Conditions {
			if key, ok := c.Range, c.Range.IsValid(); ok {
				p.spans.of(key)
			}
		}
	}
}
