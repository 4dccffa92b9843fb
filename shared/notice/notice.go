// Package notice writes what the relay itself tells people about their devices,
// and puts it into MAIL: from the null reverse-path, so that nothing is reported
// about it, and on the road of all mail, so that the books prove its arrival.
//
// Produces: messages of package event in MAIL. Every one names the help page and
// the postmaster of the relay (S43, M27), and says that no person wrote it (RFC
// 3834).
//
// Guarantees: the same message gives the same octets and the same QueueID. One
// that is stored again within two minutes is the same message; whether it was
// stored before that the books know.
package notice

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// Message is one notice to contacts.
type Message struct {
	ID      mail.QueueID
	Relay   config.Relay
	To      []string
	Subject string
	// Lines are its text; who helps follows them by itself.
	Lines []string
	At    time.Time
	// Writer is what of the relay writes it, for the record.
	Writer string
	// Device and Owner are those that it is about, if it is one; Submission is the
	// notice that it belongs to.
	Device, Owner, Submission string
}

// Role is the address that answers for the relay.
func Role(r config.Relay) string { return "postmaster@" + r.Hostname }

// Help are the lines that say who helps.
func Help(r config.Relay) []string {
	var lines []string
	if r.HelpURL != "" {
		lines = append(lines, "Help:     "+r.HelpURL)
	}
	return append(lines, "Contact:  "+r.Contact())
}

// Compose writes the whole message with CRLF, in 7 bits.
func (m *Message) Compose() []byte {
	var b bytes.Buffer
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	text := strings.Join(slices.Concat(m.Lines, Help(m.Relay)), "\r\n") + "\r\n"
	field("Received", "by "+m.Relay.Hostname+" (Postrider)\r\n\tid "+string(m.ID)+"; "+mail.FormatDate(m.At))
	field("From", "Mail relay <"+Role(m.Relay)+">")
	field("To", strings.Join(m.To, ",\r\n\t"))
	field("Subject", subject(m.Subject))
	field("Date", mail.FormatDate(m.At))
	field("Message-ID", m.messageID())
	field("Auto-Submitted", "auto-generated") // RFC 3834
	field("MIME-Version", "1.0")
	if plain(text) {
		field("Content-Type", "text/plain; charset=us-ascii")
		b.WriteString("\r\n" + text)
		return b.Bytes()
	}
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	w.Write([]byte(text)) //nolint:errcheck // a buffer takes everything
	w.Close()             //nolint:errcheck
	return b.Bytes()
}

func (m *Message) messageID() string { return "<" + string(m.ID) + "@" + m.Relay.Hostname + ">" }

// Store puts the message into MAIL. Without an address that can be one it stores
// nothing.
func (m *Message) Store(ctx context.Context, bus *queue.Bus) (stored bool, err error) {
	env := mail.Envelope{}
	for _, c := range m.To {
		if a, err := smtp.ParseAddress(c); err == nil {
			env.Recipients = append(env.Recipients, mail.Recipient{Address: smtp.ForwardPath{Address: a}})
		}
	}
	if len(env.Recipients) == 0 {
		return false, nil
	}
	w := bus.NewContent(ctx, m.ID)
	defer w.Discard()
	if _, err := w.Write(m.Compose()); err != nil {
		return false, fmt.Errorf("store notice: %w", err)
	}
	_, err = w.Commit(&event.Accepted{
		At: m.At, Class: mail.ClassReport, Env: env, MessageID: m.messageID(), SubmissionID: m.Submission,
		Facts: authz.Facts{Listener: m.Writer, Report: true, At: m.At}, Device: m.Device, Owner: m.Owner,
	})
	if err != nil {
		return false, fmt.Errorf("store notice: %w", err)
	}
	return true, nil
}

// plain reports a text that needs no encoding: printable ASCII, in lines that
// every reader takes (RFC 5322 §2.1.1).
func plain(text string) bool {
	const most = 900
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > most || strings.ContainsFunc(line, func(r rune) bool { return (r < ' ' && r != '\t') || r > '~' }) {
			return false
		}
	}
	return true
}

// subject encodes what is not ASCII, in words short enough to be folded (RFC
// 2047).
func subject(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
}
