package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCancel: the end of the context breaks off whatever step is waiting, and
// is named as the cause.
func TestCancel(t *testing.T) {
	cause := errors.New("shutting down")
	for _, tt := range []struct {
		name    string
		replies string // what the server says, and then no more
		unknown bool
	}{
		{"greeting", "", false},
		{"EHLO", "220 mx\r\n", false},
		{"MAIL", "220 mx\r\n|250 PIPELINING\r\n", false},
		{"STARTTLS", "220 mx\r\n|250-mx\r\n250 STARTTLS\r\n", false},
		{"handshake", "220 mx\r\n|250-mx\r\n250 STARTTLS\r\n|220 go\r\n", false},
		{"content", "220 mx\r\n|250-mx\r\n250 PIPELINING\r\n|250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go playReplies(server, tt.replies)
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					synctest.Wait() // everybody waits
					cancel(cause)
				}()
				began := time.Now()
				session, err := Start(ctx, client, "mx.test", Config{Hello: "relay.test"})
				var res Result
				if err == nil {
					res, err = session.Send(ctx, letter("a\r\n", 2))
					if session.Healthy() {
						t.Error("session is healthy")
					}
				}
				var unencrypted *TLSError
				if errors.As(err, &unencrypted) {
					t.Errorf("%v would invite a session in clear", err)
				}
				if !errors.Is(err, cause) || res.Unknown != tt.unknown || time.Since(began) > 0 {
					t.Errorf("%+v, %v", res, err)
				}
				for _, r := range res.Recipients {
					if !errors.Is(r.Err, cause) {
						t.Errorf("recipient: %v", r.Err)
					}
				}
				server.Close()
			})
		})
	}
}

// TestCancelWrite: a server that stops reading holds nobody who was called off.
func TestCancelWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			io.WriteString(server, "220 mx\r\n")
			bufio.NewReader(server).ReadString('\n')
			io.WriteString(server, "250 mx\r\n")
		}()
		session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if _, err := session.Send(ctx, letter("a\r\n", 1)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestCancelBetween: a context that ends between two steps is not outrun by the
// deadline of the next step.
func TestCancelBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go (&sink{extensions: []string{"PIPELINING"}}).serve(server)
		session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m := letter("a\r\n", 1)
		m.BeforeDot = func(context.Context) error {
			cancel()
			synctest.Wait() // the interruption has been
			return nil
		}
		if res, err := session.Send(ctx, m); !errors.Is(err, context.Canceled) || res.DotSent || session.Healthy() {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// TestCancelAfter: a context that ends with the last reply takes the session,
// not the result.
func TestCancelAfter(t *testing.T) {
	s := &sink{extensions: []string{"PIPELINING"}}
	var conn *watched
	session, wait := s.connect(t, func(c net.Conn) net.Conn { conn = &watched{Conn: c}; return conn })
	if !conn.deadline.IsZero() {
		t.Error("an idle session has a deadline")
	}
	if _, err := session.Send(t.Context(), letter("a\r\n", 1)); err != nil || !conn.deadline.IsZero() {
		t.Errorf("%v, deadline %v", err, conn.deadline)
	}
	ctx, cancel := context.WithCancel(t.Context())
	conn.then, conn.on = cancel, "queued"
	res, err := session.Send(ctx, letter("a\r\n", 1))
	if err != nil || res.Recipients[0].Err != nil || res.Unknown || session.Healthy() {
		t.Errorf("%+v, %v", res, err)
	}
	wait()

	client, server := tcpPair(t)
	go (&sink{}).serve(server)
	ctx, cancel = context.WithCancel(t.Context())
	if session, err := Start(ctx, &watched{Conn: client, then: cancel, on: "HELP"}, "mx.test", Config{Hello: "relay.test"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", session, err)
	}
}

// watched is a connection that knows its deadline and acts on a reply.
type watched struct {
	net.Conn
	mu       sync.Mutex
	deadline time.Time
	then     func() // called when on was read
	on       string
}

func (c *watched) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.then != nil && bytes.Contains(p[:n], []byte(c.on)) {
		c.then()
	}
	return n, err
}

func TestContextDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		began := time.Now()
		_, err := Start(ctx, client, "mx.test", Config{Hello: "relay.test"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
