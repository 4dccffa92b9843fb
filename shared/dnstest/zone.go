package dnstest

import (
	"fmt"
	"maps"
	"strings"

	"github.com/miekg/dns"
)

const (
	defaultTTL = 300 // seconds, of records without a TTL
	maxChain   = 16  // CNAMEs followed in one answer; a loop ends here
)

// zones is an immutable set of records: by name, then by type.
type zones struct {
	names map[string]map[uint16][]dns.RR
	// inner are the names that exist only because something is below them
	// (RFC 4592 §2.2.2).
	inner map[string]bool
}

// parse reads master-file text. A root SOA is made where none is given.
func parse(text ...string) (*zones, error) {
	z := &zones{names: map[string]map[uint16][]dns.RR{}}
	for _, t := range text {
		p := dns.NewZoneParser(strings.NewReader(unindent(t)), ".", "")
		p.SetDefaultTTL(defaultTTL)
		for {
			if !strings.Contains(t, "$TTL") {
				// Otherwise a record takes the TTL of the one before.
				p.SetDefaultTTL(defaultTTL)
			}
			rr, ok := p.Next()
			if !ok {
				break
			}
			z.add(rr)
		}
		if err := p.Err(); err != nil {
			return nil, fmt.Errorf("read zone: %w", err)
		}
	}
	z.index()
	return z, nil
}

// unindent removes white space before each line: in a Go literal lines are
// indented, and in a master file that would mean "same name as before".
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], " \t")
	}
	return strings.Join(lines, "\n")
}

func (z *zones) add(rr dns.RR) {
	name, rrtype := canonical(rr.Header().Name), rr.Header().Rrtype
	if z.names[name] == nil {
		z.names[name] = map[uint16][]dns.RR{}
	}
	z.names[name][rrtype] = append(z.names[name][rrtype], rr)
}

func (z *zones) index() {
	z.inner = map[string]bool{".": true}
	for name := range z.names {
		for parent, more := parentOf(name); more; parent, more = parentOf(parent) {
			z.inner[parent] = true
		}
	}
}

// merged is z with the record sets of other in place of its own.
func (z *zones) merged(other *zones) *zones {
	out := &zones{names: maps.Clone(z.names)}
	for name, sets := range other.names {
		all := maps.Clone(out.names[name])
		if all == nil {
			all = map[uint16][]dns.RR{}
		}
		maps.Copy(all, sets)
		out.names[name] = all
	}
	out.index()
	return out
}

// without is z without a name.
func (z *zones) without(name string) *zones {
	out := &zones{names: maps.Clone(z.names)}
	delete(out.names, name)
	out.index()
	return out
}

// answer fills m for the question: the CNAME chain, the records, or the SOA
// that makes a negative answer (RFC 1034 §4.3.2, RFC 2308 §2).
func (z *zones) answer(m *dns.Msg, q dns.Question) {
	name := canonical(q.Name)
	for range maxChain {
		sets, exists := z.find(name)
		if !exists {
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{z.soa(name)}
			return
		}
		if records := sets[q.Qtype]; len(records) > 0 {
			m.Answer = append(m.Answer, owned(records, name)...)
			return
		}
		cnames := sets[dns.TypeCNAME]
		if len(cnames) == 0 {
			m.Ns = []dns.RR{z.soa(name)}
			return
		}
		m.Answer = append(m.Answer, owned(cnames[:1], name)...)
		name = canonical(cnames[0].(*dns.CNAME).Target)
	}
}

// find gives the records of a name, of the wildcard that covers it, or none
// for a name that merely exists.
func (z *zones) find(name string) (sets map[uint16][]dns.RR, exists bool) {
	if sets, ok := z.names[name]; ok {
		return sets, true
	}
	if z.inner[name] {
		return nil, true
	}
	for parent, more := parentOf(name); more; parent, more = parentOf(parent) {
		if sets, ok := z.names[wildcardOf(parent)]; ok {
			return sets, true
		}
		// The closest name that exists decides (RFC 4592 §3.3.1).
		if _, ok := z.names[parent]; ok || z.inner[parent] {
			return nil, false
		}
	}
	return nil, false
}

// soa is the SOA of the zone that holds name, else that of the root.
func (z *zones) soa(name string) dns.RR {
	for zone, more := name, true; more; zone, more = parentOf(zone) {
		if soa := z.names[zone][dns.TypeSOA]; len(soa) > 0 {
			return soa[0]
		}
	}
	return &dns.SOA{
		Hdr: header(".", dns.TypeSOA), Ns: "ns.test.", Mbox: "hostmaster.test.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
	}
}

// owned gives copies of the records with the name as it was looked up: a
// wildcard's records take the name of the query.
func owned(records []dns.RR, name string) []dns.RR {
	out := make([]dns.RR, len(records))
	for i, rr := range records {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = name
	}
	return out
}

func wildcardOf(parent string) string {
	if parent == "." {
		return "*."
	}
	return "*." + parent
}

// parentOf takes the first label off. The root has no parent.
func parentOf(name string) (parent string, ok bool) {
	if name == "." {
		return "", false
	}
	next, end := dns.NextLabel(name, 0)
	if end {
		return ".", true
	}
	return name[next:], true
}
