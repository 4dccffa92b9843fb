package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/smtp"
)

// A message of exactly the limit passes, by DATA and by BDAT; one octet more
// does not, and the session goes on.
func TestSizeLimit(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		const limit = 1000
		fits := strings.Repeat("x", limit-2) + "\r\n"
		over := strings.Repeat("x", limit-1) + "\r\n"
		b := &backend{direct: direct}
		c := wired(t, b, wire.Config{MaxSize: limit}).greeted(t)

		c.do(fmt.Sprintf("MAIL FROM:<a@b.test> SIZE=%d", limit+1), "552 5.3.4")
		c.do(fmt.Sprintf("MAIL FROM:<a@b.test> SIZE=%d", limit), "250")
		c.do("RSET", "250")
		for _, tt := range []struct{ body, reply string }{
			{fits, "250"}, {over, "552 5.3.4"}, {".." + fits[1:], "250"}, {".." + over[1:], "552 5.3.4"},
		} {
			c.envelope()
			c.do("DATA", "354")
			c.send(tt.body + ".\r\n")
			c.expect(tt.reply)
		}
		for _, tt := range []struct{ body, reply string }{{fits, "250"}, {over, "552 5.3.4"}, {over[:limit-2], "250"}, {over[:limit-1], "552 5.3.4"}} {
			c.envelope()
			c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(tt.body), tt.body))
			c.expect(tt.reply)
		}
		if got := len(b.submissions()); got != 4 {
			t.Errorf("%d messages, want 4", got)
		}
	})
}

// A body that goes on and on is cut off with the reply.
func TestEndlessBody(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for name, open := range map[string]string{"DATA": "DATA\r\n", "BDAT": "BDAT 1500\r\n" + strings.Repeat("x", 1500) + "BDAT 501\r\n"} {
			t.Run(name, func(t *testing.T) {
				b := &backend{direct: direct}
				s := wired(t, b, wire.Config{MaxSize: 1000})
				c := s.greeted(t)
				c.envelope()
				c.send(open)
				if name == "DATA" {
					c.expect("354")
				} else {
					c.expect("250")
				}
				go func() {
					for {
						if _, err := c.conn.Write([]byte(strings.Repeat("x", 100) + "\r\n")); err != nil {
							return
						}
					}
				}()
				if got := c.reply(); !strings.HasPrefix(got, "552 5.3.4") {
					t.Errorf("got %q", got)
				}
				c.conn.Close()
				s.listener.Shutdown(t.Context()) // until the session has ended
				if got := b.submissions(); len(got) != 0 {
					t.Errorf("published %d messages", len(got))
				}
			})
		}
	})
}

func TestTooManyErrors(t *testing.T) {
	s := wired(t, &backend{}, wire.Config{MaxErrors: 3, MaxBadRecipients: 5})
	t.Run("commands", func(t *testing.T) {
		c := s.greeted(t)
		for range 3 {
			c.do("XFOO", "500")
		}
		c.do("XFOO", "500", "421 4.7.0", "")
	})
	t.Run("recipients", func(t *testing.T) {
		c := s.greeted(t)
		c.do("MAIL FROM:<a@b.test>", "250")
		for range 5 {
			c.do("RCPT TO:<refused@b.test>", "550")
		}
		c.do("RCPT TO:<@>", "501", "421 4.7.0", "")
	})
	t.Run("reset by a message", func(t *testing.T) {
		c := s.greeted(t)
		for range 3 {
			c.do("XFOO", "500")
			c.do("XFOO", "500")
			c.envelope()
			c.do("DATA", "354")
			c.do(".", "250")
		}
	})
	t.Run("behind a refused MAIL", func(t *testing.T) {
		c := s.greeted(t)
		c.send("MAIL FROM:<refused@b.test>\r\n" + strings.Repeat("RCPT TO:<a@b.test>\r\n", 20) + "DATA\r\n")
		for range 1 + 20 + 1 {
			if got := c.reply(); got[0] != '5' {
				t.Fatalf("got %q", got)
			}
		}
		c.do("NOOP", "250")
	})
	t.Run("junk", func(t *testing.T) {
		c := s.greeted(t)
		for range 99 + 3 {
			c.do("NOOP", "250")
		}
		c.do("NOOP", "250", "421 4.7.0", "")
	})
}

func TestConnectionLimits(t *testing.T) {
	var told refusals
	s := wired(t, &backend{}, wire.Config{MaxConnections: 3, MaxConnectionsPerAddress: 2, Refused: told.take})
	first := s.greeted(t)
	s.greeted(t)
	s.dial(t).expect("421 4.7.0 Too many connections from your address", "")

	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	dial := func() *client {
		conn, err := other.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return newClient(t, conn)
	}
	dial().expect("220")
	dial().expect("421 4.3.2", "")

	first.do("QUIT", "221", "")
	for s.listener.Connections() == 3 {
		runtime.Gosched() // until go-smtp closed
	}
	s.dial(t).expect("220")
	if told.kinds() != "connections connections no-mail" {
		t.Errorf("reported %q", told.kinds())
	}
}

// Who was told 221 may connect again at once: his place is free before he
// reads it, though the old connection may still be open.
func TestPlaceIsFreeAtQuit(t *testing.T) {
	s := wired(t, &backend{}, wire.Config{MaxConnectionsPerAddress: 1})
	for range 200 {
		c := s.dial(t)
		c.expect("220")
		c.do("QUIT", "221")
	}
}

// trickle sends an octet every 20 s until the server closes.
func trickle(c *client) {
	c.busy.Go(func() {
		for {
			if _, err := c.conn.Write([]byte("N")); err != nil {
				return
			}
			time.Sleep(20 * time.Second) // of the bubble
		}
	})
}

// The clock of the bubble runs, nobody waits.
func TestTimeouts(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, tt := range []struct {
			name string
			play func(c *client)
			late time.Duration
		}{
			{"no command", func(*client) {}, 5 * time.Minute},
			{"slow commands", func(c *client) {
				for range 3 {
					time.Sleep(4 * time.Minute)
					c.do("NOOP", "250")
				}
			}, 17 * time.Minute},
			{"a command octet by octet", func(c *client) {
				trickle(c)
			}, 5 * time.Minute},
			{"silent body", func(c *client) {
				c.envelope()
				c.do("DATA", "354")
			}, 3 * time.Minute},
			{"silent chunk", func(c *client) {
				c.envelope()
				c.send("BDAT 10\r\nabc")
			}, 3 * time.Minute},
			{"silence between chunks", func(c *client) {
				c.envelope()
				c.send("BDAT 3\r\nabc")
				c.expect("250")
			}, 5 * time.Minute},
			{"a body octet by octet", func(c *client) {
				c.envelope()
				c.do("DATA", "354")
				trickle(c)
			}, 10*time.Minute + 300*time.Millisecond}, // 30 octets earned 0.3 s
		} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := &backend{direct: direct}
					p, _, stop := pipedWire(b, wire.Config{})
					defer stop()
					c := p.dial(t)
					c.expect("220")
					c.do("EHLO device", "250")
					start := time.Now()
					tt.play(c)
					c.expect("421 4.4.2", "")
					if got := time.Since(start); got < tt.late || got > tt.late+time.Second {
						t.Errorf("after %v, want %v", got, tt.late)
					}
					c.busy.Wait()
					synctest.Wait()
					if got := b.submissions(); len(got) != 0 {
						t.Errorf("published %v", got)
					}
				})
			})
		}
	})
}

// A client that does not read its replies is let go.
func TestClientDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l, stop := pipedWire(&backend{}, wire.Config{})
		defer stop()
		p.dial(t)
		start := time.Now()
		for l.Connections() > 0 || time.Since(start) == 0 {
			time.Sleep(time.Second)
		}
		if got := time.Since(start); got > 61*time.Second {
			t.Errorf("after %v", got)
		}
	})
}

// A shutdown waits for the message that is being sent, with or without TLS, and
// for nothing else.
func TestShutdownBusy(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, secure := range []bool{false, true} {
			b := &backend{direct: direct, gate: make(chan struct{})}
			s := wired(t, b, wire.Config{TLS: serverTLS()})
			busy, open, idle := s.greeted(t), s.greeted(t), s.dial(t)
			idle.expect("220")
			if secure {
				busy, open = busy.startTLS(), open.startTLS()
				busy.do("EHLO device", "250")
				open.do("EHLO device", "250")
			}
			busy.envelope()
			busy.do("DATA", "354")
			busy.send("Subject: x\r\n\r\n")
			open.envelope()

			done := make(chan error)
			go func() { done <- s.listener.Shutdown(context.Background()) }()
			idle.expect("421 4.3.2", "")
			if _, err := net.Dial("tcp", s.address); err == nil {
				t.Error("the port is still open")
			}
			open.do("RSET", "250", "421 4.3.2", "")
			busy.send("page\r\n.\r\nMAIL FROM:<next@b.test>\r\n")
			close(b.gate)
			busy.expect("250", "421 4.3.2", "")
			if err := <-done; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if got := b.submissions(); len(got) != 1 {
				t.Errorf("%d messages", len(got))
			}
		}
	})
}

// When its context ends, a shutdown closes what is open and leaves.
func TestShutdownForced(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		b := &backend{direct: direct}
		s := wired(t, b, wire.Config{})
		c := s.greeted(t)
		c.envelope()
		c.do("DATA", "354")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.listener.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v", err)
		}
		c.expect("")
		if _, err := s.listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if got := b.submissions(); len(got) != 0 {
			t.Errorf("published %v", got)
		}
	})
}

// A pipelined group is answered in one segment, and a message at once.
func TestOneSegment(t *testing.T) {
	s := wired(t, &backend{}, wire.Config{})
	c := s.greeted(t)
	c.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<refused@b.test>\r\nRCPT TO:<c@b.test>\r\nDATA\r\n")
	c.expect("250", "250", "550", "250", "354")
	c.send("Subject: x\r\n\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@b.test>\r\nQUIT\r\n")
	c.expect("250", "250", "250", "221", "")
	var sizes []int
	for _, w := range s.socket.written() {
		sizes = append(sizes, strings.Count(w, "\r\n"))
	}
	// Greeting; EHLO; the group, where one refusal has two lines; the message; the rest.
	if got := fmt.Sprint(sizes); got != "[1 7 6 1 3]" {
		t.Errorf("lines per write: %s", got)
	}
}

// The service may put a reference into refusals.
func TestRefusedHook(t *testing.T) {
	c := wired(t, &backend{}, wire.Config{Refused: func(r wire.Refusal) smtp.Reply {
		r.Reply.Text = "R7K2-9QF3 " + r.Reply.Text
		return r.Reply
	}}).greeted(t)
	c.do("XFOO", "500 5.5.1 R7K2-9QF3 Command not recognized")
}
