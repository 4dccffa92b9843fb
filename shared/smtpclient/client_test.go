package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/shared/smtp"
)

// TestLargeContent: what arrives over a real connection is what was sent.
func TestLargeContent(t *testing.T) {
	content := strings.Repeat(".dot\r\n..\r\nplain line of text\r\n", 50_000) + "end"
	for _, extensions := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		s := &sink{extensions: extensions}
		session, wait := s.connect(t, nil)
		if res, err := session.Send(t.Context(), letter(content, 1)); err != nil || !res.DotSent {
			t.Fatal(res, err)
		}
		wait()
		want := content
		if len(extensions) == 1 {
			stuffed, _ := slowText([]byte(content))
			want = string(stuffed)
		}
		if len(s.contents) != 1 || string(s.contents[0]) != want {
			t.Errorf("%v: content was altered", extensions)
		}
	}
}

// playReplies answers what it is sent with the parts of replies, and then
// reads on in silence.
func playReplies(conn net.Conn, replies string) {
	in := make([]byte, 64<<10)
	for i, part := range strings.Split(replies, "|") {
		if i > 0 {
			if _, err := conn.Read(in); err != nil {
				return
			}
		}
		if _, err := io.WriteString(conn, part); err != nil {
			return
		}
	}
	io.Copy(io.Discard, conn)
}

func TestUnusable(t *testing.T) {
	s := &sink{extensions: []string{"PIPELINING"}}
	session, wait := s.connect(t, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := session.Send(ended, letter("a\r\n", 1)); !errors.Is(err, context.Canceled) || res.Recipients[0].Err == nil {
		t.Error(res, err)
	}
	if !session.Healthy() {
		t.Error("a context that had ended before broke the session")
	}
	if _, err := session.Send(t.Context(), letter("a\r\n", 0)); err == nil {
		t.Error("sent to nobody")
	}
	wait()
	_, err := session.Send(t.Context(), letter("a\r\n", 1))
	var verdict *smtp.Error
	if !errors.Is(err, ErrUnusable) || errors.As(err, &verdict) || session.Healthy() {
		t.Error(err)
	}
	if session.Close() != nil || session.Quit(t.Context()) != nil {
		t.Error("closing twice")
	}
	if len(s.contents) > 0 {
		t.Error("something was sent")
	}
}

// TestOld421: what ended a session is no verdict on the next message.
func TestOld421(t *testing.T) {
	client, server := net.Pipe()
	go playReplies(server, "220 mx\r\n|250 mx\r\n|421 4.3.2 bye\r\n")
	session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Send(t.Context(), letter("a\r\n", 1)); err != nil {
		t.Error(err)
	}
	_, err = session.Send(t.Context(), letter("a\r\n", 1))
	var verdict *smtp.Error
	if !errors.Is(err, ErrUnusable) || errors.As(err, &verdict) {
		t.Error(err)
	}
	server.Close()
}

// TestHealthy: a server that closed or spoke while the session was idle is
// noticed before the next message.
func TestHealthy(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(net.Conn)
	}{
		{"closes", func(c net.Conn) { c.Close() }},
		{"speaks", func(c net.Conn) { io.WriteString(c, "421 4.4.2 idle\r\n") }},
	} {
		client, server := tcpPair(t)
		opened := make(chan struct{})
		acted := make(chan struct{})
		go func() {
			in := bufio.NewReader(server)
			io.WriteString(server, "220 mx\r\n")
			in.ReadString('\n')
			io.WriteString(server, "250 mx\r\n")
			<-opened
			tt.act(server)
			close(acted)
		}()
		session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test"})
		if err != nil {
			t.Fatal(err)
		}
		if !session.Healthy() {
			t.Errorf("%s: not healthy at first", tt.name)
		}
		close(opened)
		<-acted
		for session.Healthy() { // until the kernel has passed it on
			if t.Context().Err() != nil {
				t.Fatalf("%s: not noticed", tt.name)
			}
		}
		session.Close()
		server.Close()
	}
}

// TestEarlyRefusal: a server that refuses in the middle of the content and
// hangs up is heard.
func TestEarlyRefusal(t *testing.T) {
	client, server := tcpPair(t)
	go func() {
		in := bufio.NewReader(server)
		io.WriteString(server, "220 mx\r\n")
		in.ReadString('\n')
		io.WriteString(server, "250-mx\r\n250 PIPELINING\r\n")
		for range 3 {
			in.ReadString('\n')
		}
		io.WriteString(server, "250 ok\r\n250 ok\r\n354 go\r\n")
		in.ReadString('\n')
		io.WriteString(server, "552 5.3.4 enough\r\n")
		server.Close()
	}()
	session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test"})
	if err != nil {
		t.Fatal(err)
	}
	m := letter(strings.Repeat("a line of text\r\n", 1<<20), 1)
	res, err := session.Send(t.Context(), m)
	var verdict *smtp.Error
	if !errors.As(res.Recipients[0].Err, &verdict) || verdict.Reply.Code != 552 || err != nil || res.DotSent || session.Healthy() {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestPartingReply: of what a server left behind when it hung up in the
// envelope, only 421 is meant for everybody.
func TestPartingReply(t *testing.T) {
	for _, tt := range []struct {
		reply   string
		verdict bool
	}{{"421 4.3.2 bye\r\n", true}, {"550 5.1.1 who\r\n", false}} {
		client, server := net.Pipe()
		go func() {
			io.WriteString(server, "220 mx\r\n")
			bufio.NewReader(server).ReadString('\n')
			io.WriteString(server, "250-mx\r\n250 PIPELINING\r\n")
			io.WriteString(server, tt.reply)
			server.Close()
		}()
		session, err := Start(t.Context(), &deaf{Conn: client, writes: 1}, "mx.test", Config{Hello: "relay.test"})
		if err != nil {
			t.Fatal(err)
		}
		res, _ := session.Send(t.Context(), letter("a\r\n", 2))
		for _, r := range res.Recipients {
			var verdict *smtp.Error
			if errors.As(r.Err, &verdict) != tt.verdict || r.Err == nil {
				t.Errorf("%s: %v", tt.reply, r.Err)
			}
		}
	}
}

// deaf is a connection to a server that takes so many writes and no more.
type deaf struct {
	net.Conn
	writes int
}

func (c *deaf) Write(p []byte) (int, error) {
	if c.writes--; c.writes < 0 {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

// TestSecrets: a credential shows in no error and no log.
func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, offer := range []string{"AUTH PLAIN", "AUTH LOGIN"} {
			client, server := net.Pipe()
			go playReplies(server, "220 mx\r\n|250-mx\r\n250 "+offer+"\r\n")
			_, err := Start(t.Context(), addressed{client}, "mx.test",
				Config{Hello: "relay.test", Auth: &Credential{"relay", "hunter2"}, AuthInClear: true})
			for _, secret := range []string{"hunter2", encode("hunter2"), encode("\x00relay\x00hunter2")} {
				if !errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(err.Error(), secret) {
					t.Errorf("%s: %v", offer, err)
				}
			}
			server.Close()
		}
	})
	for _, c := range []Credential{{"", "x"}, {"relay\x00root", "x"}, {"relay", "x\x00"}} {
		client, server := net.Pipe()
		go playReplies(server, "220 mx\r\n|250-mx\r\n250 AUTH PLAIN\r\n")
		_, err := Start(t.Context(), addressed{client}, "mx.test", Config{Hello: "relay.test", Auth: &c, AuthInClear: true})
		var refused *AuthError
		if !errors.As(err, &refused) || !refused.Reply.IsZero() {
			t.Errorf("%q: %v", c.User, err)
		}
	}
	if c := (Credential{"relay", "hunter2"}); strings.Contains(c.String()+c.GoString(), "hunter2") {
		t.Error(c)
	}
}

// TestAuthInClear: neither without permission nor beyond this machine.
func TestAuthInClear(t *testing.T) {
	for _, tt := range []struct {
		allowed  bool
		loopback bool
	}{{false, true}, {true, false}} {
		client, server := net.Pipe()
		var heard bytes.Buffer
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.WriteString(server, "220 mx\r\n")
			line, _ := bufio.NewReader(server).ReadString('\n')
			heard.WriteString(line)
			io.WriteString(server, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n")
			io.Copy(&heard, server)
		}()
		var conn net.Conn = client
		if tt.loopback {
			conn = addressed{client}
		}
		_, err := Start(t.Context(), conn, "mx.test", Config{Hello: "relay.test", Auth: &Credential{"relay", "x"}, AuthInClear: tt.allowed})
		<-done
		var refused *AuthError
		if !errors.As(err, &refused) || strings.Contains(heard.String(), "AUTH") {
			t.Errorf("%+v: %v, sent %q", tt, err, heard.String())
		}
	}
}
