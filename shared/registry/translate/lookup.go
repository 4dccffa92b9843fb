package translate

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// Looking up a class of addresses in an access table, and what the table says.

// lookUp is check_client_access.
func (p *postfix) lookUp(access, argument string, c class, within []string) verdict {
	r, ok := postfixconf.ParseReference(argument)
	if !ok {
		return dunno
	}
	l := p.open(r).first(c.r, false)
	if l == nil {
		return dunno
	}
	l.hits++
	a := actionOf(l.Value)
	if a.verdict == dunno && len(a.words) > 0 && !slices.Contains(within, argument) {
		return p.evaluate(access, a.words, c, append(within[:len(within):len(within)], argument))
	}
	return a.verdict
}

// first is the line that decides for a class of addresses: in a table by key
// the longest one, in the others the first one. whole wants whole addresses of
// a table by key.
func (t *table) first(r netip.Prefix, whole bool) *line {
	if t.reference.Kind == postfixconf.Indexed {
		return t.longest(r, whole)
	}
	for _, l := range t.lines {
		if l.Structure || l.Fault != "" {
			continue
		}
		key, ok := l.Range, t.reference.Kind == postfixconf.CIDR
		if !ok {
			if key, ok = patternRange(l.Key); !ok {
				continue
			}
		}
		if matches(key, l.Not, r) && l.reached(r) {
			return l
		}
	}
	return nil
}

// reached reports that the conditions around a line hold.
func (l *line) reached(r netip.Prefix) bool {
	for _, c := range l.Conditions {
		key, ok := c.Range, c.Range.IsValid()
		if !ok {
			if key, ok = patternRange(c.Key); !ok {
				return false
			}
		}
		if !matches(key, c.Not, r) {
			return false
		}
	}
	return true
}

func matches(key netip.Prefix, not bool, r netip.Prefix) bool {
	return (r.IsValid() && covers(key, r)) != not
}

func (t *table) longest(r netip.Prefix, whole bool) *line {
	if !r.IsValid() {
		return nil
	}
	step := 8
	if r.Addr().Is6() {
		step = 16
	}
	for bits := r.Addr().BitLen(); bits > 0; bits -= step {
		if bits > r.Bits() {
			continue
		}
		outer, _ := r.Addr().Prefix(bits)
		if l := t.exact[keyOf(outer)]; l != nil {
			return l
		}
		if whole {
			break
		}
	}
	return nil
}

// keyOf is a network as a table by key has it: whole octets without a dot at
// the end.
func keyOf(r netip.Prefix) string {
	if r.IsSingleIP() {
		return r.Addr().String()
	}
	if r.Addr().Is6() {
		return strings.TrimRight(r.Addr().String(), ":")
	}
	octets := strings.Split(r.Addr().String(), ".")
	return strings.Join(octets[:r.Bits()/8], ".")
}

// simple is a regular expression that is an address or its first octets.
var simple = regexp.MustCompile(`^\^((?:[0-9]{1,3}\\\.){0,3}[0-9]{1,3})(\\\.|\$)$`)

// patternRange is the network that a simple regular expression stands for.
func patternRange(pattern string) (netip.Prefix, bool) {
	m := simple.FindStringSubmatch(pattern)
	if m == nil {
		return netip.Prefix{}, false
	}
	key := strings.ReplaceAll(m[1], `\.`, ".")
	whole := strings.Count(key, ".") == 3
	if whole != (m[2] == "$") {
		return netip.Prefix{}, false
	}
	return postfixconf.ParseKey(key)
}

// action is the right side of an access table.
type action struct {
	verdict verdict
	words   []string // restrictions to follow
	// besides is what it does other than yes and no.
	besides string
}

func actionOf(value string) action {
	word, _, _ := strings.Cut(value, " ")
	switch upper := strings.ToUpper(strings.TrimRight(word, ",")); upper {
	case "OK", "RELAY":
		return action{verdict: permit}
	case "REJECT", "DEFER", "DEFER_IF_PERMIT":
		return action{verdict: reject}
	case "DUNNO", "DEFER_IF_REJECT", "INFO", "WARN":
		return action{}
	case "HOLD", "FILTER", "PREPEND", "REDIRECT", "BCC":
		return action{besides: upper}
	case "DISCARD":
		return action{verdict: permit, besides: upper}
	}
	if strings.Trim(word, "0123456789") == "" {
		if len(word) == 3 && (word[0] == '4' || word[0] == '5') {
			return action{verdict: reject}
		}
		return action{verdict: permit} // as pop-before-smtp writes it
	}
	return action{words: postfixconf.Fields(value)}
}
