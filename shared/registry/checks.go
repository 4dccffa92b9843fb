package registry

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/postrider/postrider/shared/smtp"
)

// faults collects what is wrong with an entry.
type faults []Fault

func (f *faults) bad(field, format string, args ...any) {
	*f = append(*f, Fault{Field: field, Text: fmt.Sprintf(format, args...)})
}

// Faults says what is wrong with a credential.
func (c *Credential) Faults() (found []Fault) {
	f := faults(found)
	if !readable(c.Name) || len(c.Name) > maxName {
		f.bad("name", "%q is no name for a credential (example: prn-3)", c.Name)
	}
	return f
}

// Faults says what is wrong with a domain. Its route is for those who know what
// next hops there are.
func (d *Domain) Faults() (found []Fault) {
	f := faults(found)
	switch {
	case strings.HasPrefix(d.Name, ".") || strings.HasPrefix(d.Name, "*"):
		f.bad("name", "%q stands for many domains; hosted domains are exact, name each", d.Name)
	case !IsHost(d.Name):
		f.bad("name", "%q is not a domain name", d.Name)
	}
	return f
}

// Faults says what is wrong with a network.
func (n *Network) Faults() (found []Fault) {
	f := faults(found)
	switch {
	case !n.Range.IsValid():
		f.bad("range", "a network is needed (example: 10.2.0.0/16)")
	case n.Range.Masked() != n.Range:
		f.bad("range", "%s has host bits set; did you mean %s?", n.Range, n.Range.Masked())
	case n.Range.Bits() == 0 && n.Kind == KindCampus:
		f.bad("range", "%q is every address and would make an open relay; name the ranges of the campus", n.Range)
	}
	word(f.bad, "kind", n.Kind, allKinds[:]...)
	return f
}

// Faults says what is wrong with a block.
func (b *Block) Faults() (found []Fault) {
	f := faults(found)
	if p, err := ParseRange(b.Subject); err == nil {
		if p.Bits() == 0 {
			f.bad("subject", "%q is every address; to refuse everybody, stop the listeners", b.Subject)
		}
		return f
	}
	local, domain, ok := cutLast(b.Subject, "@")
	_, err := smtp.ParseAddress(b.Subject)
	switch {
	case strings.ContainsAny(b.Subject, "*%"):
		f.bad("subject", "%q has a wildcard; @domain blocks every sender of a domain", b.Subject)
	case !ok || local == "" && !IsHost(domain) || local != "" && err != nil:
		f.bad("subject", "%q is neither an address (10.2.3.4), nor a range (10.2.3.0/24), nor a sender (user@domain), nor @domain", b.Subject)
	}
	return f
}

// BlockSubject is the one form in which a subject is kept.
func BlockSubject(s string) string {
	if p, err := ParseRange(s); err == nil {
		return Address{Range: p}.String()
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Faults says what is wrong with an owner.
func (o *Owner) Faults() (found []Fault) {
	f := faults(found)
	if !readable(o.Name) || len(o.Name) > maxName {
		f.bad("name", "%q is no name for a unit (example: chem)", o.Name)
	}
	if strings.Contains(o.Name, "@") { // M6
		f.bad("name", "%q is a person; what has devices is a unit", o.Name)
	}
	f.addresses("contacts", o.Contacts)
	return f
}

// Faults says what is wrong with a group.
func (g *Group) Faults() (found []Fault) {
	f := faults(found)
	if !readable(g.Name) || len(g.Name) > maxName {
		f.bad("name", "%q is no name for a group (example: mailrelay.updates)", g.Name)
	}
	f.addresses("members", g.Members)
	return f
}

func (f *faults) addresses(field string, list []string) {
	for i, s := range list {
		switch _, err := smtp.ParseAddress(s); {
		case err != nil:
			f.bad(at(field, i), "%q is not an e-mail address", s)
		case slices.Index(list, s) < i:
			f.bad(at(field, i), "%q is named twice", s)
		}
	}
}

// maxName is the longest name that people give, in octets.
const maxName = 255

// readable reports a name that a person can read and type.
func readable(s string) bool {
	return s != "" && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// IsHost reports a domain name as the registry keeps it: lower-case A-labels
// (RFC 1123 §2.1), of which the last is no number.
func IsHost(s string) bool {
	last := ""
	for last = range strings.SplitSeq(s, ".") {
		if last == "" || len(last) > 63 || last[0] == '-' || last[len(last)-1] == '-' || strings.Trim(last, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(last, "0123456789") != ""
}

// Faults is Check: what every kind of entry has.
func (d *Device) Faults() []Fault { return d.Check() }

// Faults are none: the relay writes it by itself.
func (r *Resolution) Faults() []Fault { return nil }

// Faults are none: the relay writes it by itself.
func (r *Review) Faults() []Fault { return nil }
