package wire_test

import (
	"bytes"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
)

// script is a connection whose client says what it was given, up to the next
// DATA at a time, and then leaves.
type script struct {
	says   []byte
	heard  bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

var data = []byte("DATA\r\n")

func (s *script) Read(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	piece := s.says
	if before, _, ok := bytes.Cut(piece, data); ok {
		piece = piece[:len(before)+len(data)]
	}
	n := copy(p, piece)
	s.says = s.says[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.heard.Write(p) }
func (s *script) Close() error                     { s.once.Do(func() { close(s.closed) }); return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1025} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzConn sends anything. Nothing panics, every reply is well formed, and what
// is published is in lines and was ended by the client.
func FuzzConn(f *testing.F) {
	const open = "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
	for _, seed := range []string{
		open + "DATA\r\nSubject: x\r\n\r\n..a\r\n.\r\nQUIT\r\n",
		open + "DATA\r\na\n.\nMAIL FROM:<x@y>\r\n.\r\nQUIT\r\n",
		open + "BDAT 3\r\nabcBDAT 4 LAST\r\nde\r\nQUIT\r\n",
		open + "BDAT 3\r\nabcRSET\r\n" + open[8:] + "DATA\r\nx\r\r\n.\r\n",
		open + "BDAT 100 LAST\r\nabc",
		"MAIL FROM:<early@b.test>\r\n", "EHLO x\r\nMAIL FROM:<early@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2\r\na\nBDAT 1 LAST\r\nb",
		"GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x10", "HELO\r\nMAIL FROM: a@b\r\n", "AUTH PLAIN\r\n", "STARTTLS\r\nx",
	} {
		for flags := range byte(4) {
			f.Add([]byte(seed), flags)
		}
	}
	f.Fuzz(func(t *testing.T, says []byte, flags byte) {
		b := &backend{direct: flags&1 != 0, prepare: func(c *wire.Conn) { c.RepairNewlines(flags&2 != 0) }}
		cfg := wire.Config{MaxSize: 4096}
		p, server := newPipes(), gosmtp.NewServer(b)
		var panics strings.Builder
		server.ErrorLog = log.New(&panics, "", 0)
		wire.Configure(server, cfg)
		l := wire.NewListener(p, cfg)
		served := make(chan struct{})
		go func() {
			server.Serve(l)
			close(served)
		}()
		conn := &script{says: says, closed: make(chan struct{})}
		p.conns <- conn
		<-conn.closed
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-served
		server.Close()

		if panics.Len() > 0 {
			t.Fatalf("%q: %s", says, panics.String())
		}
		for line := range strings.Lines(conn.heard.String()) {
			if len(line) < 6 || line[0] < '2' || line[0] > '5' || line[3] != ' ' && line[3] != '-' || !strings.HasSuffix(line, "\r\n") ||
				strings.ContainsFunc(line[:len(line)-2], func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q: reply line %q", says, line)
			}
		}
		for _, m := range b.submissions() {
			if strings.ContainsAny(strings.ReplaceAll(m.content, "\r\n", ""), "\r\n\x00") || m.content != "" && !strings.HasSuffix(m.content, "\r\n") {
				t.Fatalf("%q: published %q", says, m.content)
			}
			if !bytes.Contains(says, []byte(".\r\n")) && !bytes.Contains(bytes.ToUpper(says), []byte("LAST")) {
				t.Fatalf("%q: published %q without an end", says, m.content)
			}
		}
	})
}
