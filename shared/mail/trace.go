package mail

import (
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// MaxHops is the number of Received fields from which a message is taken to
// be in a loop (RFC 5321 §6.3 asks for at least 100 as the norm; relays of a
// campus see far shorter chains).
const MaxHops = 50

// Received is what one trace field says (RFC 5321 §4.4).
type Received struct {
	Helo     string     // as the client said it; sanitised when written
	Address  netip.Addr // of the client
	Name     string     // forward-confirmed name, or empty
	By       string     // our host name
	Protocol string     // SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA (RFC 3848)
	TLS      string     // version and cipher suite, for people; empty in clear
	ID       QueueID
	For      *smtp.ForwardPath // only when there is a single recipient
	At       time.Time
}

// Append writes the field, folded, with CRLF.
func (r Received) Append(b []byte) []byte {
	b = append(b, "Received: from "...)
	b = append(b, Printable(r.Helo, 128)...)
	b = append(b, " ("...)
	if r.Name != "" {
		b = append(b, Printable(r.Name, 255)...)
		b = append(b, ' ')
	}
	b = append(b, '[')
	if r.Address.Is6() && !r.Address.Is4In6() {
		b = append(b, "IPv6:"...)
	}
	b = append(b, r.Address.Unmap().WithZone("").String()...)
	b = append(b, "])\r\n"...)
	if r.TLS != "" {
		b = append(b, "\t(using "...)
		b = append(b, r.TLS...)
		b = append(b, ")\r\n"...)
	}
	b = append(b, "\tby "...)
	b = append(b, r.By...)
	b = append(b, " (Postrider) with "...)
	b = append(b, r.Protocol...)
	b = append(b, " id "...)
	b = append(b, r.ID...)
	if r.For != nil && r.For.IsASCII() {
		b = append(b, "\r\n\tfor "...)
		b = append(b, r.For.Bracketed()...)
	}
	b = append(b, ";\r\n\t"...)
	b = append(b, FormatDate(r.At)...)
	return append(b, '\r', '\n')
}

// FormatDate is a date-time as header fields have it (RFC 5322 §3.3).
func FormatDate(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }

// Printable is s made fit for a header field, a log or a terminal: at most
// max octets, and "?" for everything that is not a visible ASCII character or
// could open a comment, a bracket, markup or an entity of it. Empty gives "unknown".
func Printable(s string, max int) string {
	if s == "" {
		return "unknown"
	}
	if len(s) > max {
		s = s[:max]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>"\;&`, r) {
			return '?'
		}
		return r
	}, s)
}
