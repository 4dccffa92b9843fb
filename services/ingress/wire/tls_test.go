package wire_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/smtp"
)

// refusals collects what wire reports.
type refusals struct {
	mu   sync.Mutex
	list []wire.Refusal
}

func (r *refusals) take(refused wire.Refusal) smtp.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, refused)
	return refused.Reply
}

func (r *refusals) kinds() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []string
	for _, refused := range r.list {
		kinds = append(kinds, refused.Kind)
	}
	return strings.Join(kinds, " ")
}

// After STARTTLS nothing of the session before is left, and no second greeting
// is sent.
func TestStartTLS(t *testing.T) {
	events := make(chan string, 100)
	var states []bool
	b := &backend{began: events, prepare: func(c *wire.Conn) {
		_, secure := c.TLSState()
		states = append(states, secure)
	}}
	s := wired(t, b, wire.Config{TLS: serverTLS(), Auth: true})
	c := s.dial(t)
	c.expect("220 relay.campus.test ESMTP")
	if got := c.do("EHLO device.campus.test", "250"); !strings.Contains(got, "STARTTLS") || strings.Contains(got, "AUTH") {
		t.Errorf("EHLO in clear: %q", got)
	}
	c.do("AUTH PLAIN AGRldgBzZWNyZXQ=", "538 5.7.11")
	c.envelope()
	c = c.startTLS()
	c.do("RCPT TO:<office@campus.test>", "503")
	c.do("MAIL FROM:<scan@campus.test>", "503 5.5.1 Say EHLO")
	if got := c.do("EHLO device.campus.test", "250"); strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH PLAIN LOGIN") {
		t.Errorf("EHLO on TLS: %q", got)
	}
	c.do("STARTTLS", "503 5.5.1")
	c.envelope()
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\n.", "250")
	c.do("QUIT", "221", "")

	var got []string
	for len(got) < 7 {
		got = append(got, <-events)
	}
	if order := strings.Join(got, " "); order != "session mail logout session mail data logout" {
		t.Errorf("events %q", order)
	}
	if len(states) != 2 || states[0] || !states[1] {
		t.Errorf("TLSState: %v, want false true", states)
	}
}

// Commands in clear behind STARTTLS are refused and end the session.
func TestStartTLSInjection(t *testing.T) {
	for _, behind := range []string{"RSET\r\nNOOP\r\n", "EHLO commandinjectiontester\r\n", "x"} {
		var told refusals
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), Refused: told.take}).greeted(t)
		c.send("STARTTLS\r\n" + behind)
		c.expect("503 5.5.1", "")
		if told.kinds() != wire.KindInjection {
			t.Errorf("reported %q", told.kinds())
		}
	}
}

func TestStartTLSNotConfigured(t *testing.T) {
	c := wired(t, &backend{}, wire.Config{}).greeted(t)
	c.do("STARTTLS", "502 5.5.1")
}

func TestImplicitTLS(t *testing.T) {
	s := wired(t, &backend{}, wire.Config{TLS: serverTLS(), ImplicitTLS: true})
	raw := s.dial(t)
	secure := tls.Client(raw.conn, &tls.Config{InsecureSkipVerify: true})
	c := newClient(t, secure)
	c.expect("220")
	if got := c.do("EHLO device.campus.test", "250"); strings.Contains(got, "STARTTLS") {
		t.Errorf("EHLO on TLS: %q", got)
	}
	c.envelope()
	c.do("DATA", "354")
	c.do("Subject: x\r\n\r\n.", "250")
	c.do("QUIT", "221", "")
}

// clientHello is what a client of implicit TLS says first.
func clientHello(t *testing.T) string {
	near, far := net.Pipe()
	defer far.Close()
	go tls.Client(near, &tls.Config{InsecureSkipVerify: true}).Handshake()
	hello := make([]byte, 4096)
	n, err := far.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return string(hello[:n])
}

// A client of the wrong kind reads why it cannot work.
func TestTLSMismatch(t *testing.T) {
	t.Run("TLS on the plaintext port", func(t *testing.T) {
		var told refusals
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), Refused: told.take}).dial(t)
		c.expect("220")
		c.send(clientHello(t))
		c.expect("500 5.5.1 TLS here begins with STARTTLS", "")
		if told.kinds() != wire.KindTLSMismatch {
			t.Errorf("reported %q", told.kinds())
		}
	})
	t.Run("plaintext on the TLS port", func(t *testing.T) {
		var told refusals
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), ImplicitTLS: true, Refused: told.take}).dial(t)
		c.do("EHLO device.campus.test", "500 5.5.1 This port expects TLS", "")
		if told.kinds() != wire.KindTLSMismatch {
			t.Errorf("reported %q", told.kinds())
		}
	})
	t.Run("silence on the TLS port", func(t *testing.T) {
		serverTLS() // outside the bubble
		synctest.Test(t, func(t *testing.T) {
			var told refusals
			p, _, stop := pipedWire(&backend{}, wire.Config{TLS: serverTLS(), ImplicitTLS: true, Refused: told.take})
			defer stop()
			p.dial(t).expect("500 5.5.1 This port expects TLS", "")
			if told.kinds() != wire.KindTLSMismatch {
				t.Errorf("reported %q", told.kinds())
			}
		})
	})
	t.Run("a broken handshake", func(t *testing.T) {
		var told refusals
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), ImplicitTLS: true, Refused: told.take}).dial(t)
		c.send("\x16\x03\x01\x00\x04\x01\x00\x00\x00")
		if after, _ := io.ReadAll(c.in); len(after) != 7 {
			t.Errorf("the server said %q, want an alert alone", after)
		}
		if told.kinds() != wire.KindHandshake {
			t.Errorf("reported %q", told.kinds())
		}
	})
}

func TestAuth(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string // sent and wanted in turn
	}{
		{"initial response", []string{"AUTH PLAIN AGRldgBzZWNyZXQ=", "235 2.7.0"}},
		{"challenge", []string{"AUTH PLAIN", "334 ", "AGRldgBzZWNyZXQ=", "235 2.7.0", "NOOP", "250"}},
		{"lower case", []string{"auth plain AGRldgBzZWNyZXQ=", "235 2.7.0"}},
		{"cancelled", []string{"AUTH PLAIN", "334 ", "*", "501", "NOOP", "250"}},
		{"no base64", []string{"AUTH PLAIN", "334 ", "NOOP 1", "501 5.5.2", "NOOP", "250"}},
		{"no base64 at once", []string{"AUTH PLAIN %%%", "501 5.5.2"}},
		{"too many words", []string{"AUTH PLAIN AA== AA==", "501 5.5.2"}},
		{"no mechanism", []string{"AUTH", "501 5.5.2"}},
		{"unknown mechanism", []string{"AUTH CRAM-MD5", "504"}},
		{"12 kB", []string{"AUTH PLAIN " + strings.Repeat("AAAA", 3000), "454"}},
		{"too long", []string{"AUTH PLAIN " + strings.Repeat("AAAA", 4000), "500 5.5.2", "NOOP", "250"}},
		{"too long in the exchange", []string{"AUTH PLAIN", "334 ", strings.Repeat("AAAA", 4000), "501 5.5.2", "NOOP", "250"}},
		{"wrong four times", []string{
			"AUTH PLAIN AGRldgBiYWQ=", "535", "AUTH PLAIN AGRldgBiYWQ=", "535", "AUTH PLAIN AGRldgBiYWQ=", "535",
			"AUTH PLAIN AGRldgBiYWQ=", "535",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), Auth: true}).greeted(t).startTLS()
			c.do("EHLO device.campus.test", "250")
			for i := 0; i < len(tt.lines); i += 2 {
				c.do(tt.lines[i], tt.lines[i+1])
			}
			if tt.name == "wrong four times" {
				c.expect("421 4.7.0", "")
			}
		})
	}
	t.Run("not offered", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS()}).greeted(t).startTLS()
		if got := c.do("EHLO device.campus.test", "250"); strings.Contains(got, "AUTH") {
			t.Errorf("EHLO: %q", got)
		}
		c.do("AUTH PLAIN AGRldgBzZWNyZXQ=", "502")
	})
}
