package scan

import (
	"slices"
	"strings"
)

// maxReason is the length of a reason in octets, and maxValue that of the body
// of a field; maxFields is how many fields a scanner may add.
const (
	maxReason = 300
	maxValue  = 800
	maxFields = 16
)

// shown is a text of a scanner as it may stand in a record or a field: printable
// ASCII on one line, no longer than most octets.
func shown(s string, most int) string {
	b := make([]byte, 0, min(len(s), most+3))
	for i := 0; i < len(s); i++ {
		if len(b) >= most {
			return string(append(b, "..."...))
		}
		c := s[i]
		switch {
		case c == '\r' || c == '\n' || c == '\t' || c == ' ':
			if len(b) == 0 || b[len(b)-1] == ' ' {
				continue
			}
			c = ' '
		case c < ' ' || c > '~':
			c = '?'
		}
		b = append(b, c)
	}
	return strings.TrimRight(string(b), " ")
}

// meaningful are the fields, in lower case, that say who sent what to whom: a
// scanner says what it found, and no more.
var meaningful = []string{
	"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references",
	"received", "return-path", "mime-version", "dkim-signature", "disposition-notification-to", "errors-to", "auto-submitted",
}

// field is a complete field, or empty for one that a scanner must not add.
func field(name, value string) string {
	lower := strings.ToLower(name)
	if name == "" || len(name) > 64 || slices.Contains(meaningful, lower) || strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "resent-") || strings.HasPrefix(lower, "list-") {
		return ""
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return ""
		}
	}
	value = shown(value, maxValue)
	if value == "" {
		return ""
	}
	return name + ": " + value + "\r\n"
}
