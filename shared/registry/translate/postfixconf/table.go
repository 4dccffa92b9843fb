package postfixconf

import (
	"net/netip"
	"strconv"
	"strings"
)

// Kind is how a table is looked up.
type Kind string

// The kinds of tables whose source is a file.
const (
	Indexed Kind = "indexed" // hash, btree, lmdb, texthash, dbm, cdb, sdbm: by key
	CIDR    Kind = "cidr"    // in order, by network
	Pattern Kind = "pattern" // in order, by regular expression
	Other   Kind = ""        // asks another program, or none of these
)

// Reference is "type:name" as a parameter has it.
type Reference struct {
	Type, Name string
	Kind       Kind
}

// ParseReference reads a reference to a table.
func ParseReference(s string) (Reference, bool) {
	for {
		after, ok := strings.CutPrefix(s, "proxy:")
		if !ok {
			break
		}
		s = after
	}
	kind, name, ok := strings.Cut(s, ":")
	if !ok || kind == "" || strings.ContainsAny(kind, "./[@") {
		return Reference{}, false
	}
	r := Reference{Type: kind, Name: name}
	switch kind {
	case "hash", "btree", "lmdb", "texthash", "dbm", "cdb", "sdbm":
		r.Kind = Indexed
	case "cidr":
		r.Kind = CIDR
	case "pcre", "regexp":
		r.Kind = Pattern
	case "inline", "static":
		r.Kind = Indexed
	}
	return r, true
}

// String is the reference as it was written.
func (r Reference) String() string { return r.Type + ":" + r.Name }

// Entry is one line of a table.
type Entry struct {
	Place
	// Key is in lower case in a table by key; the text of the pattern, without
	// slashes and flags, in one of patterns.
	Key, Value string
	// Not inverts a pattern or network. Conditions are the enclosing "if"
	// lines that must hold as well.
	Not        bool
	Conditions []Condition
	// Range is the key of a table of networks.
	Range netip.Prefix
	// Fault says why the line cannot be read.
	Fault string
	// Structure is a line "if" or "endif", which says nothing by itself.
	Structure bool
}

// Condition is an "if" of a table.
type Condition struct {
	Key   string
	Not   bool
	Range netip.Prefix
}

// ReadTable reads the source form of a table.
func ReadTable(kind Kind, file string, text []byte) []Entry {
	var out []Entry
	var open []Condition
	for _, at := range logical(file, text) {
		e := Entry{Place: at}
		switch kind {
		case CIDR, Pattern:
			open = readOrdered(kind, &e, open)
		default:
			e.Key, e.Value = cutSpace(at.Text)
			e.Key = strings.ToLower(strings.Trim(e.Key, `"`))
			if e.Value == "" {
				e.Fault = "this key has no value"
			}
		}
		out = append(out, e)
	}
	return out
}

func cutSpace(s string) (first, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// readOrdered reads a line of a table whose order counts, and gives the open
// conditions behind it.
func readOrdered(kind Kind, e *Entry, open []Condition) []Condition {
	word, rest := cutSpace(e.Text)
	switch strings.ToLower(word) {
	case "endif":
		e.Structure = true
		if len(open) == 0 {
			e.Fault = "there is no if before this endif"
			return open
		}
		return open[:len(open)-1]
	case "if":
		e.Structure = true
		key := Entry{}
		readKey(kind, &key, rest+" x")
		e.Fault = key.Fault
		return append(open[:len(open):len(open)], Condition{key.Key, key.Not, key.Range})
	}
	readKey(kind, e, e.Text)
	e.Conditions = open
	return open
}

// readKey reads "[!]pattern value".
func readKey(kind Kind, e *Entry, text string) {
	for strings.HasPrefix(text, "!") {
		e.Not, text = !e.Not, strings.TrimSpace(text[1:])
	}
	if kind == Pattern {
		readPattern(e, text)
		return
	}
	key, value := cutSpace(text)
	e.Key, e.Value = key, value
	r, err := ParseNetwork(key)
	switch {
	case err != "":
		e.Fault = err
	case value == "":
		e.Fault = "this network has no value"
	default:
		e.Range = r
	}
}

func readPattern(e *Entry, text string) {
	if text == "" {
		e.Fault = "a pattern is needed"
		return
	}
	delimiter := text[0]
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case delimiter:
			e.Key = text[1:i]
			flags, value := cutSpace(text[i+1:])
			e.Value = value
			if strings.Contains(flags, "x") || value == "" {
				e.Fault = "this pattern has no value, or flags that are not known here"
			}
			return
		}
	}
	e.Fault = "this pattern does not end"
}

// ParseNetwork reads an address or network as Postfix writes it: IPv6 may stand
// in brackets. fault says what is wrong with it.
func ParseNetwork(s string) (p netip.Prefix, fault string) {
	text, bits, ranged := strings.Cut(s, "/")
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return p, "this is not an address"
	}
	n := a.BitLen()
	if ranged {
		bits = strings.TrimSuffix(bits, "]")
		if n, err = strconv.Atoi(bits); err != nil || n < 0 || n > a.BitLen() {
			return p, "this is not a network"
		}
	}
	p = netip.PrefixFrom(a, n)
	if p.Masked() != p {
		return p, "this network has host bits set, so that Postfix ignores it; it was meant to be " + p.Masked().String()
	}
	if a.Is4In6() && n >= 96 {
		p = netip.PrefixFrom(a.Unmap(), n-96).Masked()
	}
	return p, ""
}

// ParseKey reads the key of a table by key as an address or its first octets
// (access(5)): "10.2.3.4", "10.2.3", "2001:db8".
func ParseKey(key string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(key); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	if strings.Contains(key, ":") {
		n := strings.Count(key, ":") + 1
		if a, err := netip.ParseAddr(key + "::"); err == nil && n < 8 {
			return netip.PrefixFrom(a, 16*n), true
		}
		return netip.Prefix{}, false
	}
	n := strings.Count(key, ".") + 1
	if n > 3 {
		return netip.Prefix{}, false
	}
	a, err := netip.ParseAddr(key + strings.Repeat(".0", 4-n))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 8*n), true
}
