// Package dsn writes delivery status notifications: a multipart/report (RFC
// 6522) of a text for people, a message/delivery-status (RFC 3464) for
// programs, and the header section of the original. It performs no I/O.
//
// What remote servers said is untrusted, and so are the original's addresses
// and header: they are cut to a bound and freed of control characters, so that
// nothing can forge a field or a part. A report is 7-bit throughout and has no
// line over 998 octets; an original header that is not so is returned as
// quoted-printable (RFC 6522 §4).
package dsn

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// maxDiagnostic is the most of a reply that a report repeats, in octets.
const maxDiagnostic = 900

// maxReturned is the most of the original header that is returned, in octets.
const maxReturned = 64 << 10

// Report is one notification.
type Report struct {
	// QueueID is that of the report itself.
	QueueID mail.QueueID
	// Original is the QueueID of the message it is about.
	Original mail.QueueID
	// Hostname is the reporting MTA.
	Hostname string
	// HelpURL, where set, is given to people.
	HelpURL string
	// To is the reverse-path of the original.
	To         smtp.ReversePath
	AcceptedAt time.Time
	At         time.Time
	Kind       event.FailureKind
	Recipients []event.RecipientRecord
	// Header is the original's header section.
	Header mail.Header
	// Unavailable reports that the original's header was not available.
	Unavailable bool
}

// Compose writes the whole message, header section included, with CRLF. The
// same Report gives the same octets.
func Compose(r Report) []byte {
	var b bytes.Buffer
	text, status, header := text(r), status(r), returned(r.Header)
	boundary := "report-" + digest(string(r.QueueID), text, status, string(header))
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }

	field("Received", "by "+r.Hostname+" (Postrider)\r\n\tid "+string(r.QueueID)+"; "+mail.FormatDate(r.At))
	field("From", "Mail Delivery System <mailer-daemon@"+r.Hostname+">")
	field("To", clean(r.To.String(), 320))
	field("Subject", subject(r))
	field("Date", mail.FormatDate(r.At))
	field("Message-ID", "<"+string(r.QueueID)+"@"+r.Hostname+">")
	if id := r.Header.Get("Message-ID"); id != "" && clean(id, 250) == id {
		field("References", id)
	}
	field("Auto-Submitted", "auto-replied")
	field("MIME-Version", "1.0")
	field("Content-Type", "multipart/report; report-type=delivery-status;\r\n\tboundary=\""+boundary+"\"")
	b.WriteString("\r\nThis is a MIME-encapsulated message.\r\n")

	part := func(contentType, description, encoding string) {
		b.WriteString("\r\n--" + boundary + "\r\n")
		field("Content-Description", description)
		field("Content-Type", contentType)
		if encoding != "" {
			field("Content-Transfer-Encoding", encoding)
		}
		b.WriteString("\r\n")
	}
	part("text/plain; charset=us-ascii", "Notification", "")
	b.WriteString(text)
	part("message/delivery-status", "Delivery report", "")
	b.WriteString(status)
	switch {
	case r.Unavailable:
	case plain(header):
		part("text/rfc822-headers", "Undelivered message headers", "")
		b.Write(header)
	default:
		part("text/rfc822-headers", "Undelivered message headers", "quoted-printable")
		encoder := quotedprintable.NewWriter(&b)
		encoder.Write(header) // a bytes.Buffer takes everything
		encoder.Close()
	}
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes()
}

func subject(r Report) string {
	if len(r.Recipients) == 1 {
		return "Undelivered mail: " + clean(r.Recipients[0].Address.String(), 120)
	}
	return fmt.Sprintf("Undelivered mail to %d recipients", len(r.Recipients))
}

// text is the part for people: what happened, to whom, and what to do.
func text(r Report) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("This is the mail system at %s.", r.Hostname)
	line("")
	if r.Kind == event.KindExpired {
		line("Your message could not be delivered in time and will not be tried again.")
	} else {
		line("Your message could not be delivered to the recipients below.")
	}
	line("It was accepted at %s under the id %s.", mail.FormatDate(r.AcceptedAt), r.Original)
	if r.HelpURL != "" {
		line("Help: %s", r.HelpURL)
	}
	for _, rcpt := range r.Recipients {
		line("")
		line("  %s", clean(rcpt.Address.Bracketed(), 320))
		for _, l := range strings.Split(explain(r, rcpt), "\n") {
			line("    %s", l)
		}
	}
	return b.String()
}

func explain(r Report, rcpt event.RecipientRecord) string {
	said := clean(rcpt.Reply.String(), maxDiagnostic)
	switch {
	case rcpt.Reply.IsZero():
		said = "no server of the destination could be reached"
	case rcpt.RemoteMTA != "":
		said = clean(rcpt.RemoteMTA, 320) + " said: " + said
	}
	text := wrap(said, 70)
	if r.Kind == event.KindExpired {
		text = "Delivery time expired. Last try:\n" + text
	}
	if rcpt.PossibleDuplicate {
		text += "\nIt may have arrived all the same: a server took the message and its\nanswer was lost."
	}
	return text
}

// status is the part for programs (RFC 3464 §2).
func status(r Report) string {
	var b strings.Builder
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("Reporting-MTA", "dns; "+r.Hostname)
	field("X-Postrider-Queue-ID", string(r.Original))
	field("Arrival-Date", mail.FormatDate(r.AcceptedAt))
	for _, rcpt := range r.Recipients {
		b.WriteString("\r\n")
		if rcpt.Original != "" && rcpt.Original != rcpt.Address.String() {
			field("Original-Recipient", "rfc822; "+clean(rcpt.Original, 320))
		}
		field("Final-Recipient", "rfc822; "+clean(rcpt.Address.String(), 320))
		field("Action", "failed")
		field("Status", statusCode(r.Kind, rcpt.Reply))
		if host, _, _ := strings.Cut(rcpt.RemoteMTA, " "); host != "" {
			field("Remote-MTA", "dns; "+clean(host, 255))
		}
		if !rcpt.Reply.IsZero() {
			field("Diagnostic-Code", "smtp; "+clean(rcpt.Reply.String(), maxDiagnostic))
		}
		field("Last-Attempt-Date", mail.FormatDate(r.At))
		field("Final-Log-ID", string(r.Original))
	}
	return b.String()
}

// statusCode is the Status field: a failed action has a permanent class. What
// expired has X.4.7 (RFC 3463 §3.5), or X.7.10 where it waited for encryption; the
// last reply is in Diagnostic-Code.
func statusCode(kind event.FailureKind, reply smtp.Reply) string {
	switch {
	case kind == event.KindExpired && reply.Status() == "4.7.10":
		return "5.7.10"
	case kind == event.KindExpired:
		return "5.4.7"
	}
	if reply.Permanent() && wellFormed.MatchString(reply.Status()) {
		return reply.Status()
	}
	return "5.0.0"
}

// wellFormed is a status code of permanent failure (RFC 3463 §2).
var wellFormed = regexp.MustCompile(`^5\.\d{1,3}\.\d{1,3}$`)

// returned is the original header, up to a bound, at a field's end.
func returned(h mail.Header) []byte {
	var out []byte
	for f := range h.Fields() {
		if len(out)+len(f.Raw) > maxReturned {
			return append(out, "X-Postrider-Truncated: yes\r\n"...)
		}
		out = append(out, f.Raw...)
		if !bytes.HasSuffix(out, []byte("\r\n")) {
			out = append(bytes.TrimRight(out, "\r\n"), "\r\n"...)
		}
	}
	return out
}

// plain reports octets that may stand in a part as they are: ASCII without
// controls, in lines that end with CRLF and are not too long (RFC 5322 §2.1.1).
func plain(b []byte) bool {
	for line := range bytes.Lines(b) {
		text, complete := bytes.CutSuffix(line, []byte("\r\n"))
		if !complete || len(text) > 998 {
			return false
		}
		for _, c := range text {
			if c < ' ' && c != '\t' || c >= 0x7f {
				return false
			}
		}
	}
	return true
}

// clean makes text of others fit for one line of a report.
func clean(s string, max int) string {
	s = s[:min(len(s), 4*max+4)] // a character has four octets at most
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "\n", " "))
	if len(s) > max {
		s = s[:max] + "..."
	}
	return s
}

// wrap breaks text at spaces into lines of about width characters.
func wrap(s string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(s) {
		if i > 0 && column+len(word) >= width {
			b.WriteByte('\n')
			column = 0
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// digest goes into the boundary: nothing in a part can contain the digest of
// that part.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		io.WriteString(h, p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
