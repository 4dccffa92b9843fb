package world

import (
	"bytes"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/mail"
)

// Submission is what a device sends.
type Submission struct {
	From, Sender string // address of the device; reverse-path, prn@campus.test by default
	To           []string
	Content      string // header and body with CRLF; a short message by default
}

// Message is a content with that subject.
func Message(subject string) string {
	return "From: prn@campus.test\r\nTo: someone@example.test\r\nSubject: " + subject + "\r\n\r\nScanned page.\r\n.leading dot\r\n"
}

// Submit sends a message and returns its id. Any refusal fails the test.
func (w *World) Submit(s Submission) mail.QueueID {
	w.T.Helper()
	id, err := w.TrySubmit(s)
	if err != nil {
		w.T.Fatalf("submit from %s to %v: %v", s.From, s.To, err)
	}
	return id
}

var queuedAs = regexp.MustCompile(`queued as ([0-9A-Z]{16})`)

// TrySubmit sends a message. The error is the first refusal, a
// *textproto.Error.
func (w *World) TrySubmit(s Submission) (mail.QueueID, error) {
	w.T.Helper()
	if s.Sender == "" {
		s.Sender = sender
	}
	if s.Content == "" {
		s.Content = Message("test")
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr(s.From).AsSlice()}}
	conn, err := dialer.DialContext(w.T.Context(), "tcp", w.SMTP)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	c, err := smtp.NewClient(conn, "relay.campus.test")
	if err != nil {
		return "", err
	}
	if err := c.Hello("device.campus.test"); err != nil {
		return "", err
	}
	if err := c.Mail(s.Sender); err != nil {
		return "", err
	}
	for _, to := range s.To {
		if err := c.Rcpt(to); err != nil {
			return "", err
		}
	}
	return data(w.T, c.Text, s.Content)
}

// data sends the content; the client of the standard library hides the final
// reply, which has the id.
func data(t testing.TB, text *textproto.Conn, content string) (mail.QueueID, error) {
	t.Helper()
	if err := text.PrintfLine("DATA"); err != nil {
		return "", err
	}
	if _, _, err := text.ReadResponse(354); err != nil {
		return "", err
	}
	var b bytes.Buffer
	for line := range strings.SplitAfterSeq(content, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	b.WriteString(".\r\n")
	if _, err := text.W.Write(b.Bytes()); err != nil {
		return "", err
	}
	if err := text.W.Flush(); err != nil {
		return "", err
	}
	_, reply, err := text.ReadResponse(250)
	if err != nil {
		return "", err
	}
	m := queuedAs.FindStringSubmatch(reply)
	if m == nil {
		t.Fatalf("final reply %q names no queue id", reply)
	}
	return mail.QueueID(m[1]), nil
}
