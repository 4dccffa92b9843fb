package mail

import (
	"mime"
	"net/mail"
	"slices"
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
		plain, comments := cutComments(v)
		f.Group = f.Group || hasGroup(plain)
		list, err := parser.ParseList(v)
		if err != nil && len(comments) > 0 { // net/mail wants none before an address
			list, err = parser.ParseList(plain)
		}
		if err != nil {
			f.Unreadable = true
			continue
		}
		for _, a := range list {
			f.Addresses = append(f.Addresses, a.Address)
			f.Disguised = f.Disguised || disguises(a.Name, a.Address) ||
				slices.ContainsFunc(comments, func(c string) bool { return disguises(c, a.Address) })
		}
	}
	return f
}

// cutComments takes the comments out (RFC 5322 §3.2.2), and returns them decoded:
// some programs show them as names. One that never ends stays.
func cutComments(v string) (plain string, comments []string) {
	if strings.IndexByte(v, '(') < 0 {
		return v, nil
	}
	var out strings.Builder
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\' && i+1 < len(v):
			out.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == '(' && !quoted:
			text, length := comment(v[i:])
			if length == 0 {
				return v, comments
			}
			comments = append(comments, text)
			out.WriteByte(' ')
			i += length - 1
			continue
		}
		out.WriteByte(v[i])
	}
	return out.String(), comments
}

// comment reads the one that v begins with: its text without quoted pairs and
// decoded, and its length; 0 if it never ends.
func comment(v string) (text string, length int) {
	var b strings.Builder
	for i, depth := 0, 0; i < len(v); i++ {
		switch v[i] {
		case '\\':
			if i++; i == len(v) {
				return "", 0
			}
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				text = b.String()[1:]
				if decoded, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
					text = decoded
				}
				return text, i + 1
			}
		}
		b.WriteByte(v[i])
	}
	return "", 0
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
