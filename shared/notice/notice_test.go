package notice

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/config"
)

var relay = config.Relay{Hostname: "relay.campus.test", HelpURL: "https://help.campus.test"}

func message(subject string, lines ...string) *Message {
	return &Message{
		ID: "01K3ZQ7M2N8RT4XW", Relay: relay, To: []string{"anna@campus.test", "bert@campus.test"}, Subject: subject, Lines: lines,
		At: time.Date(2026, 11, 6, 15, 0, 0, 0, time.UTC),
	}
}

func TestCompose(t *testing.T) {
	got := string(message("Maintenance", "On Sunday.", "").Compose())
	want := strings.Join([]string{
		"Received: by relay.campus.test (Postrider)", "\tid 01K3ZQ7M2N8RT4XW; Fri, 6 Nov 2026 15:00:00 +0000",
		"From: Mail relay <postmaster@relay.campus.test>", "To: anna@campus.test,", "\tbert@campus.test",
		"Subject: Maintenance", "Date: Fri, 6 Nov 2026 15:00:00 +0000", "Message-ID: <01K3ZQ7M2N8RT4XW@relay.campus.test>",
		"Auto-Submitted: auto-generated", "MIME-Version: 1.0", "Content-Type: text/plain; charset=us-ascii", "",
		"On Sunday.", "", "Help:     https://help.campus.test", "Contact:  postmaster@relay.campus.test", "",
	}, "\r\n")
	if got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// Whatever people write arrives as they wrote it, in short lines of printable
// ASCII, and with no field that they chose.
func TestComposeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		subject := rapid.StringMatching(`[ -~äöü€漢]{0,150}`).Draw(t, "subject")
		line := rapid.StringMatching(`([ -~äöü€漢]|\t){0,990}`).Draw(t, "line")
		m := message(subject, line, "")
		raw := m.Compose()
		for l := range strings.SplitSeq(string(raw), "\r\n") {
			if len(l) > 998 || strings.ContainsFunc(l, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }) {
				t.Fatalf("line %q", l)
			}
		}
		got, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if s, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject")); err != nil || strings.TrimSpace(s) != strings.TrimSpace(subject) {
			t.Fatalf("subject %q (%v), want %q", s, err, subject)
		}
		body := got.Body
		if got.Header.Get("Content-Transfer-Encoding") != "" {
			body = quotedprintable.NewReader(body)
		}
		text, err := io.ReadAll(body)
		if first, _, _ := strings.Cut(string(text), "\r\n"); err != nil || first != line || len(got.Header) > 11 {
			t.Fatalf("%q (%v), want %q; %v", first, err, line, got.Header)
		}
	})
}
