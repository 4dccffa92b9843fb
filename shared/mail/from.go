package mail

import (
	"net/mail"
	"strings"
)

// From is what the From fields of a message say (RFC 5322 §3.6.2).
type From struct {
	// Fields is how many there are; a message has one.
	Fields int
	// Addresses are those of all of them.
	Addresses []string
	// Unreadable: one of them cannot be read; its addresses are missing.
	Unreadable bool
	// Group: an address list is written as a group (RFC 6854).
	Group bool
	// Disguised: a display name shows an address that is not the one behind it.
	Disguised bool
}

// From reads the From fields.
func (h Header) From() From {
	var f From
	parser := mail.AddressParser{}
	for _, v := range h.All("From") {
		f.Fields++
		f.Group = f.Group || hasGroup(v)
		list, err := parser.ParseList(v)
		if err != nil {
			f.Unreadable = true
			continue
		}
		for _, a := range list {
			f.Addresses = append(f.Addresses, a.Address)
			f.Disguised = f.Disguised || disguises(a.Name, a.Address)
		}
	}
	return f
}

// hasGroup finds the colon of a group outside quotes, comments, domain literals
// and angle brackets, where it may stand for itself.
func hasGroup(v string) bool {
	quoted, depth := false, 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[' || c == '<':
			depth++
		case (c == ')' || c == ']' || c == '>') && depth > 0:
			depth--
		case c == ':' && depth == 0:
			return true
		}
	}
	return false
}

// disguises reports a name in which a word looks like an address, and is another
// one.
func disguises(name, address string) bool {
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune(" \t<>()\"',;:[]", r) }) {
		at := strings.LastIndexByte(word, '@')
		if at > 0 && strings.Contains(word[at:], ".") && !strings.EqualFold(word, address) {
			return true
		}
	}
	return false
}
