package wire_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/smtp"
)

// The tests of this file pin the faults of go-smtp v0.25.1 that wire contains.
// Each holds one dialogue with go-smtp alone, where the fault must show, and
// the same one with wire in front. When go-smtp mends a fault, the first half
// fails, and the code that contains it may go.

// D1: after an error while reading a body, the rest of the body is taken for
// commands.
func TestFaultRestOfBodyIsCommands(t *testing.T) {
	const start = "Subject: scan\r\n\r\nfirst page\r\n"

	t.Run("without wire", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &backend{}
			p, stop := pipedBare(b, func(s *gosmtp.Server) { s.ReadTimeout = time.Minute })
			defer stop()
			c := p.dial(t)
			c.expect("220")
			c.do("EHLO device.campus.test", "250")
			c.envelope()
			c.do("DATA", "354")
			c.send(start)
			c.expect("451") // the time for the body is over
			c.do("RSET", "250")
			c.do("MAIL FROM:<smuggled@b.example>", "250")
			c.do("RCPT TO:<victim@b.example>", "250")
		})
	})
	t.Run("with wire", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &backend{}
			p, _, stop := pipedWire(b, wire.Config{})
			defer stop()
			c := p.dial(t)
			c.expect("220")
			c.do("EHLO device.campus.test", "250")
			c.envelope()
			c.do("DATA", "354")
			c.send(start)
			c.expect("421 4.4.2", "")
			if _, err := c.conn.Write([]byte("RSET\r\n")); err == nil {
				t.Error("the connection is open after a body broke off")
			}
			synctest.Wait()
			if got := b.failures(); len(got) != 1 || len(b.submissions()) != 0 {
				t.Errorf("the session read %v and published %v", got, b.submissions())
			}
		})
	})
}

// D2: a last chunk cut off by the end of the connection is a complete message.
func TestFaultTruncatedChunk(t *testing.T) {
	dialogue := func(t *testing.T, s *server) {
		c := s.greeted(t)
		c.envelope()
		c.send("BDAT 1000 LAST\r\nSubject: scan\r\n\r\nfirst page\r\n")
		c.conn.(interface{ CloseWrite() error }).CloseWrite()
		c.rest()
	}
	t.Run("without wire", func(t *testing.T) {
		b := &backend{}
		dialogue(t, bare(t, b, nil))
		if got := b.submissions(); len(got) != 1 || !strings.HasSuffix(got[0].content, "first page\r\n") {
			t.Errorf("the fault is gone: published %q", got)
		}
	})
	t.Run("with wire", func(t *testing.T) {
		b := &backend{}
		s := wired(t, b, wire.Config{})
		dialogue(t, s)
		s.listener.Shutdown(t.Context()) // until the session has ended
		if got := b.submissions(); len(got) != 0 {
			t.Errorf("published %q", got)
		}
		if got := b.failures(); len(got) != 1 || !errors.Is(got[0], io.ErrUnexpectedEOF) {
			t.Errorf("the session read %v, want an unexpected EOF", got)
		}
	})
}

// D3: after a failed handshake the session goes on in clear.
func TestFaultHandshakeFailureGoesOn(t *testing.T) {
	// A ClientHello that no server understands.
	const hello = "\x16\x03\x01\x00\x04\x01\x00\x00\x00"
	t.Run("without wire", func(t *testing.T) {
		c := bare(t, &backend{}, func(s *gosmtp.Server) { s.TLSConfig = serverTLS() }).greeted(t)
		c.do("STARTTLS", "220")
		c.send(hello)
		alert := make([]byte, 7)
		if _, err := io.ReadFull(c.in, alert); err != nil {
			t.Fatal(err)
		}
		c.expect("550 5.0.0 Handshake error")
		c.envelope() // in clear
	})
	t.Run("with wire", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS()}).greeted(t)
		c.do("STARTTLS", "220")
		c.send(hello)
		after, err := io.ReadAll(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if len(after) != 7 || after[0] != 0x15 {
			t.Errorf("after the handshake failed the server said %q, want an alert alone", after)
		}
	})
}

// D4: the quotes of a local part are removed; written out, what was quoted
// becomes syntax.
func TestFaultQuotesRemoved(t *testing.T) {
	const path = `"a@c.example> NOTIFY=NEVER "@b.example`
	for name, s := range map[string]func(*testing.T, *backend) *server{
		"without wire": func(t *testing.T, b *backend) *server { return bare(t, b, nil) },
		"with wire":    func(t *testing.T, b *backend) *server { return wired(t, b, wire.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := &backend{}
			c := s(t, b).greeted(t)
			c.do("MAIL FROM:<scan@campus.test>", "250")
			c.do("RCPT TO:<"+path+">", "250")
			c.do("DATA", "354")
			c.do("x\r\n.", "250")
			got := b.submissions()[0].to[0]
			if got != `a@c.example> NOTIFY=NEVER @b.example` {
				t.Fatalf("the fault is gone: session got %q", got)
			}
			// Contained by the rule that a session uses smtp.Unquoted, which is
			// possible because wire lets only paths of one reading pass.
			whole, err := smtp.Unquoted(got)
			if err != nil || whole.String() != path {
				t.Errorf("smtp.Unquoted gives %q, %v, want %q", whole, err, path)
			}
		})
	}
}

// D5: what is no address is accepted.
func TestFaultBadPaths(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ path, reply string }{
		{"a@b@c.example", "501 5.1.3"},
		{"a@b.example,c@d.example", "501 5.1.3"},
		{"a@b.example;c@d.example", "501 5.1.3"},
		{"a\x00b@c.example", "501 5.5.2"},
		{"a\rb@c.example", "501 5.5.2"},
		{"j\xfcrgen@c.example", "553 5.6.7"},
		{"j\xc3\xbcrgen@c.example", "553 5.6.7"},
		{long + "@c.example", "501 5.1.3"},
		{"a@" + long + ".example", "501 5.1.3"},
	} {
		t.Run("without wire", func(t *testing.T) {
			c := bare(t, &backend{}, nil).greeted(t)
			c.do("MAIL FROM:<scan@campus.test>", "250")
			c.do("RCPT TO:<"+tt.path+">", "250")
		})
		t.Run("with wire", func(t *testing.T) {
			c := wired(t, &backend{}, wire.Config{}).greeted(t)
			c.do("MAIL FROM:<scan@campus.test>", "250")
			c.do("RCPT TO:<"+tt.path+">", tt.reply)
		})
	}
}

// D6: a shutdown says nothing to idle clients, waits for them without end, and
// cannot be forced afterwards.
func TestFaultShutdown(t *testing.T) {
	t.Run("without wire", func(t *testing.T) {
		s := bare(t, &backend{}, nil)
		c := s.greeted(t)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := s.smtp.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the fault is gone: Shutdown returned %v", err)
		}
		if err := s.smtp.Close(); !errors.Is(err, gosmtp.ErrServerClosed) {
			t.Errorf("the fault is gone: Close returned %v", err)
		}
		c.do("NOOP", "250") // still served
	})
	t.Run("with wire", func(t *testing.T) {
		s := wired(t, &backend{}, wire.Config{})
		c := s.greeted(t)
		done := make(chan error)
		go func() { done <- s.listener.Shutdown(context.Background()) }()
		c.expect("421 4.3.2", "")
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// D7: a chunk longer than a line may be, without LF, closes the session when it
// comes with its command.
func TestFaultLongChunk(t *testing.T) {
	content := "Subject: scan\r\n\r\n" + strings.Repeat("x", 100_000)
	dialogue := func(c *client) {
		c.envelope()
		c.send("BDAT 100017 LAST\r\n" + content)
	}
	t.Run("without wire", func(t *testing.T) {
		b := &backend{}
		c := bare(t, b, nil).greeted(t)
		c.t = discardFailures{t}
		dialogue(c)
		c.rest()
		if got := b.submissions(); len(got) != 0 {
			t.Errorf("the fault is gone: %d messages", len(got))
		}
	})
	t.Run("with wire", func(t *testing.T) {
		b := &backend{}
		c := wired(t, b, wire.Config{}).greeted(t)
		dialogue(c)
		c.expect("250")
		if got := b.submissions(); len(got) != 1 || got[0].content != content+"\r\n" {
			t.Errorf("%d messages, or not the content", len(got))
		}
	})
}

// discardFailures keeps a client going whose server misbehaves.
type discardFailures struct{ *testing.T }

func (discardFailures) Fatalf(string, ...any) {}
func (discardFailures) Fatal(...any)          {}

// D8: a body whose last octet before CRLF.CRLF is CR never ends.
func TestFaultCRBeforeEnd(t *testing.T) {
	const body = "Subject: scan\r\n\r\npage\r\r\n.\r\n"
	t.Run("without wire", func(t *testing.T) {
		b := &backend{}
		c := bare(t, b, nil).greeted(t)
		c.envelope()
		c.do("DATA", "354")
		c.send(body)
		c.conn.(interface{ CloseWrite() error }).CloseWrite()
		c.rest()
		if got := b.failures(); len(got) != 1 || !errors.Is(got[0], io.ErrUnexpectedEOF) {
			t.Errorf("the fault is gone: the session read %v, published %q", got, b.submissions())
		}
	})
	t.Run("with wire", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{}).greeted(t)
		c.envelope()
		c.do("DATA", "354")
		c.send(body)
		c.expect("550 5.6.0")
		c.do("NOOP", "250")
	})
	t.Run("with wire and repair", func(t *testing.T) {
		b := &backend{prepare: func(c *wire.Conn) { c.RepairNewlines(true) }}
		c := wired(t, b, wire.Config{}).greeted(t)
		c.envelope()
		c.do("DATA", "354")
		c.send(body)
		c.expect("250")
		if got := b.submissions()[0].content; got != "Subject: scan\r\n\r\npage\r\n" {
			t.Errorf("content %q", got)
		}
	})
}

// D9: a second MAIL is accepted and keeps the recipients of the first.
func TestFaultNestedMail(t *testing.T) {
	t.Run("without wire", func(t *testing.T) {
		c := bare(t, &backend{}, nil).greeted(t)
		c.envelope()
		c.do("MAIL FROM:<other@campus.test>", "250")
		c.do("DATA", "354")
	})
	t.Run("with wire", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{}).greeted(t)
		c.envelope()
		c.do("MAIL FROM:<other@campus.test>", "503 5.5.1")
		c.do("DATA", "354")
	})
}

// D10: every line that begins with STARTTLS is STARTTLS.
func TestFaultStartTLSPrefix(t *testing.T) {
	t.Run("without wire", func(t *testing.T) {
		c := bare(t, &backend{}, func(s *gosmtp.Server) { s.TLSConfig = serverTLS() }).greeted(t)
		c.do("STARTTLSFOO", "220")
	})
	t.Run("with wire", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS()}).greeted(t)
		c.do("STARTTLSFOO", "500 5.5.1")
		c.do("STARTTLS FOO", "501 5.5.4")
		c.do("NOOP", "250")
	})
}

// D11: AUTH is accepted in the middle of a transaction.
func TestFaultAuthInTransaction(t *testing.T) {
	const auth = "AUTH PLAIN AGRldgBzZWNyZXQ="
	t.Run("without wire", func(t *testing.T) {
		c := bare(t, &backend{}, func(s *gosmtp.Server) { s.AllowInsecureAuth = true }).greeted(t)
		c.envelope()
		c.do(auth, "235")
	})
	t.Run("with wire", func(t *testing.T) {
		c := wired(t, &backend{}, wire.Config{TLS: serverTLS(), Auth: true}).greeted(t).startTLS()
		c.do(auth, "503 5.5.1 Say EHLO")
		c.do("EHLO device.campus.test", "250")
		c.envelope()
		c.do(auth, "503 5.5.1")
		c.do("RSET", "250")
		c.do(auth, "235 2.7.0")
		c.do(auth, "503 5.5.1")
	})
}
