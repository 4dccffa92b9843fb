package wire_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/services/ingress/wire"
)

// accepted is a Conn without go-smtp behind it: the test plays go-smtp.
func accepted(t *testing.T) (*wire.Conn, *client, *wire.Listener) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := wire.NewListener(socket, wire.Config{})
	t.Cleanup(func() { l.Close() })
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return far.(*wire.Conn), newClient(t, near), l
}

// However small the reader's pieces, go-smtp gets the same lines, and a session
// the same content.
func TestTinyReads(t *testing.T) {
	for _, direct := range []bool{false, true} {
		conn, c, _ := accepted(t)
		in := bufio.NewReaderSize(iotest.OneByteReader(conn), 16)
		answer := func(want, reply string) {
			t.Helper()
			if line, err := in.ReadString('\n'); err != nil || line != want+"\r\n" {
				t.Fatalf("read %q, %v, want %q", line, err, want)
			}
			io.WriteString(conn, reply+"\r\n")
		}
		c.send("ehlo device\r\nmail from: a@B.TEST\r\nrcpt to:<c@d.test>\r\ndata\r\n")
		io.WriteString(conn, "220 relay ESMTP\r\n")
		answer("EHLO device", "250 relay")
		answer("MAIL FROM:<a@b.test>", "250 ok")
		answer("RCPT TO:<c@d.test>", "250 ok")
		answer("DATA", "354 go")
		go func() {
			c.expect("220", "250", "250", "250", "354")
			c.send("Subject: x\r\n\r\n..page\r\n.\r\n")
		}()
		if direct {
			content := iotest.OneByteReader(conn.Content(in))
			if got, err := io.ReadAll(content); err != nil || string(got) != "Subject: x\r\n\r\n.page\r\n" {
				t.Errorf("Content gave %q, %v", got, err)
			}
			if n, err := content.Read(make([]byte, 9)); n != 0 || err != io.EOF {
				t.Errorf("after the end: %d, %v", n, err)
			}
		} else {
			for _, line := range []string{"Subject: x", "", "..page"} {
				if got, err := in.ReadString('\n'); err != nil || got != line+"\r\n" {
					t.Fatalf("read %q, %v, want %q", got, err, line)
				}
			}
		}
		answer(".", "250 done")
		go c.send("QUIT\r\n")
		answer("QUIT", "221 bye")
		if conn.BodySize() != 21 || conn.LongestLine() != 10 {
			t.Errorf("size %d, longest line %d", conn.BodySize(), conn.LongestLine())
		}
		if n, err := conn.Write([]byte("250 late\r\n")); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after the end: %d, %v", n, err)
		}
	}
}

// Content returns the fault of a body again and again, and never its end.
func TestContentFault(t *testing.T) {
	conn, c, _ := accepted(t)
	in := bufio.NewReader(conn)
	c.send("HELO device\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
	io.WriteString(conn, "220 relay\r\n")
	for _, reply := range []string{"250 relay", "250 ok", "250 ok", "354 go"} {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, reply+"\r\n")
	}
	go func() {
		c.expect("220", "250", "250", "250", "354")
		c.send("good\r\nba\nd\r\n.\r\n")
	}()
	content := conn.Content(in)
	got, err := io.ReadAll(content)
	if string(got) != "good\r\nba" || err == nil || err != conn.BodyFault() {
		t.Errorf("read %q, %v; fault %v", got, err, conn.BodyFault())
	}
	if _, again := content.Read(make([]byte, 100)); again != err {
		t.Errorf("second read: %v", again)
	}
	if conn.Content(in) != io.Reader(in) {
		t.Error("Content of a body that was begun is not the given reader")
	}
	if line, err := in.ReadString('\n'); line != ".\r\n" {
		t.Errorf("go-smtp is left with %q, %v", line, err)
	}
}

// What a session leaves unread is discarded before go-smtp sees it, to the last
// octet: it is not stuffed, and could be taken for the end.
func TestContentLeftOver(t *testing.T) {
	for read := range 12 {
		conn, c, _ := accepted(t)
		in := bufio.NewReader(conn)
		c.send("HELO device\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
		io.WriteString(conn, "220 relay\r\n")
		for _, reply := range []string{"250 relay", "250 ok", "250 ok", "354 go"} {
			if _, err := in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, reply+"\r\n")
		}
		go func() {
			c.expect("220", "250", "250", "250", "354")
			c.send("\r\n..\r\n\r\n..\r\nRSET\r\n.\r\n")
		}()
		content := conn.Content(in)
		for range read {
			if _, err := content.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if line, err := in.ReadString('\n'); line != ".\r\n" {
			t.Errorf("after %d octets go-smtp is left with %q, %v", read, line, err)
		}
	}
}

// Counters tell what happened on the socket, over STARTTLS.
func TestCounts(t *testing.T) {
	var conns []*wire.Conn
	b := &backend{prepare: func(c *wire.Conn) { conns = append(conns, c) }}
	s := wired(t, b, wire.Config{TLS: serverTLS(), Auth: true})
	c := s.greeted(t)
	c.envelope()
	c.do("DATA", "354")
	c.do(".", "250")
	c = c.startTLS()
	c.do("EHLO device", "250")
	c.do("AUTH PLAIN AGRldgBiYWQ=", "535")
	c.do("XFOO", "500")
	c.do("MAIL FROM:<a@b.test>", "250")
	c.do("RCPT TO:<refused@b.test>", "550")
	c.do("QUIT", "221", "")
	s.listener.Shutdown(context.Background())
	want := wire.Counts{Messages: 1, Errors: 1, BadRecipients: 1, AuthFailures: 1}
	if got := conns[len(conns)-1].Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Long replies of a session are cut to what a client must be able to read.
func TestLongReply(t *testing.T) {
	conn, c, _ := accepted(t)
	go func() {
		io.WriteString(conn, "220 "+strings.Repeat("x", 1000)+"\r\n")
		conn.Read(make([]byte, 100))
	}()
	if got := c.reply(); len(got) != 510 {
		t.Errorf("%d octets", len(got))
	}
}
