package smtpclient

import "strings"

// DSN are the parameters of RFC 3461 that travel with an envelope.
type DSN struct {
	EnvelopeID string         // ENVID, not encoded
	Return     Return         // RET
	Recipients []RecipientDSN // in the order of Message.Recipients; may be shorter
}

// RecipientDSN are the parameters of one recipient.
type RecipientDSN struct {
	Notify Notify // NOTIFY
	// OriginalRecipient is ORCPT with its type, not encoded:
	// "rfc822;scan@campus.test".
	OriginalRecipient string
}

// Return says how much of the content a report returns (RFC 3461 §4.3).
type Return int

// The values of Return; zero leaves it to the reporting server.
const (
	ReturnFull Return = iota + 1
	ReturnHeaders
)

// Notify says when a report is wanted (RFC 3461 §4.1); zero leaves it to the
// reporting server.
type Notify uint8

// The conditions of Notify. NotifyNever excludes the others.
const (
	NotifySuccess Notify = 1 << iota
	NotifyFailure
	NotifyDelay
	NotifyNever
)

// String is the value of NOTIFY.
func (n Notify) String() string {
	if n&NotifyNever != 0 {
		return "NEVER"
	}
	var words []string
	for i, word := range [...]string{"SUCCESS", "FAILURE", "DELAY"} {
		if n&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, ",")
}

func (d *DSN) appendMail(b []byte) []byte {
	switch d.Return {
	case ReturnFull:
		b = append(b, " RET=FULL"...)
	case ReturnHeaders:
		b = append(b, " RET=HDRS"...)
	}
	if d.EnvelopeID != "" {
		b = appendXtext(append(b, " ENVID="...), d.EnvelopeID)
	}
	return b
}

func (r *RecipientDSN) appendRcpt(b []byte) []byte {
	if r.Notify != 0 {
		b = append(append(b, " NOTIFY="...), r.Notify.String()...)
	}
	kind, address, ok := strings.Cut(r.OriginalRecipient, ";")
	if ok && isWord(kind) {
		b = append(append(b, " ORCPT="...), kind...)
		b = appendXtext(append(b, ';'), address)
	}
	return b
}

// appendXtext encodes whatever could end a parameter (RFC 3461 §4).
func appendXtext(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '+', hex[c>>4], hex[c&15])
		}
	}
	return b
}
