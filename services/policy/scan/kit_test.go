package scan

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

const header = "From: prn@campus.test\r\nTo: anna@campus.test\r\nSubject: a\r\n folded\r\nDate: Mon, 02 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@campus.test>\r\n\r\n"

func path(t testing.TB, s string) smtp.ForwardPath {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return smtp.ForwardPath{Address: a}
}

// letter is a message with a content.
func letter(t testing.TB, content string) (*event.Accepted, Content) {
	a := &event.Accepted{
		QueueID: "0123456789ABCDEF", Size: int64(len(content)),
		Facts: authz.Facts{Listener: "devices", Address: netip.MustParseAddr("10.2.3.4"), Name: "prn.campus.test", Helo: "prn\r\nX: y", Identity: "prn-1"},
	}
	a.Env.ReversePath = smtp.ReversePath(path(t, "prn@campus.test"))
	for _, to := range []string{"anna@campus.test", "bert@campus.test"} {
		a.Env.Recipients = append(a.Env.Recipients, mail.Recipient{Address: path(t, to)})
	}
	return a, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
}

// scanners are those of a configuration.
func scanners(t testing.TB, c config.Scan) *Scanners {
	t.Helper()
	if c.OnReject == "" {
		c.OnReject = "hold"
	}
	if c.WhenDown == "" {
		c.WhenDown = "admit"
	}
	if c.Timeout == 0 {
		c.Timeout = config.Duration(30 * time.Second)
	}
	s, err := New(c, "relay.campus.test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scanned is what a scanner says of a content.
func scanned(t testing.TB, s *Scanners, content string) Finding {
	t.Helper()
	a, open := letter(t, content)
	f, err := s.Scan(t.Context(), a, open)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Scanner) > 2*maxReason+100 || strings.ContainsAny(f.Scanner, "\r\n\x00") {
		t.Errorf("a text that no record bears: %q", f.Scanner)
	}
	return f
}
