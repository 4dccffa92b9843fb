package acceptance

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/timetest"
)

// session is a client that says what it is told to, octet by octet. Whatever
// is refused to it is checked.
type session struct {
	t     testing.TB
	relay *relay
	conn  net.Conn
	in    *bufio.Reader
	from  string
	said  strings.Builder
	quiet bool // refusals are not looked up
}

// answer is a reply: the text of all its lines.
type answer struct {
	code int
	text string
}

// dial connects to a listener from an address of 127.0.0.0/8, and is greeted.
func (r *relay) dial(t testing.TB, listener, from string) *session {
	t.Helper()
	s := &session{t: t, relay: r, from: from}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr(from).AsSlice()}}
	conn, err := d.DialContext(t.Context(), "tcp", listener)
	if err != nil {
		t.Fatal(err)
	}
	s.use(conn)
	if listener == r.submissions {
		s.handshake()
	}
	s.expect("220")
	return s
}

func (s *session) use(conn net.Conn) {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	s.conn, s.in = conn, bufio.NewReader(conn)
}

func (s *session) handshake() {
	s.t.Helper()
	secure := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true}) // the certificate is made by the relay
	if err := secure.HandshakeContext(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.use(secure)
}

func (s *session) close() { s.conn.Close() }

func (s *session) write(text string) {
	s.t.Helper()
	s.said.WriteString(text)
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// ask sends a command line and reads the reply.
func (s *session) ask(line string) answer {
	s.t.Helper()
	s.write(line + "\r\n")
	return s.read()
}

func (s *session) read() answer {
	s.t.Helper()
	var a answer
	for {
		line, err := s.in.ReadString('\n')
		if err != nil || len(line) < 4 {
			s.t.Fatalf("reply %q: %v", line, err)
		}
		if a.code, err = strconv.Atoi(line[:3]); err != nil {
			s.t.Fatalf("reply %q: %v", line, err)
		}
		a.text += strings.TrimRight(line[4:], "\r\n")
		if line[3] != '-' {
			if a.code >= 400 {
				s.refusal(line)
			}
			return a
		}
		a.text += "\n"
	}
}

func (s *session) expect(code string) answer {
	s.t.Helper()
	a := s.read()
	if strconv.Itoa(a.code) != code {
		s.t.Fatalf("got %d %s, want %s", a.code, a.text, code)
	}
	return a
}

// must asks and wants that code.
func (s *session) must(line, code string) answer {
	s.t.Helper()
	a := s.ask(line)
	if strconv.Itoa(a.code) != code {
		s.t.Fatalf("%q: got %d %s, want %s", line, a.code, a.text, code)
	}
	return a
}

func (s *session) startTLS() {
	s.t.Helper()
	s.must("STARTTLS", "220")
	s.handshake()
}

const hello = "EHLO host.client.test"

// login authenticates by PLAIN, on TLS.
func (s *session) login(user, password string) answer {
	s.t.Helper()
	if _, secure := s.conn.(*tls.Conn); !secure {
		s.must(hello, "250")
		s.startTLS()
	}
	s.must(hello, "250")
	s.said.WriteString(user)
	return s.ask("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
}

// await asks with a fresh session each time until something holds.
func (r *relay) await(what string, holds func(*session) bool) {
	r.awaitFrom(alive, what, printer, holds)
}

func (r *relay) awaitFrom(t testing.TB, what, from string, holds func(*session) bool) {
	t.Helper()
	timetest.Await(t, what, func() bool {
		s := r.dial(t, r.SMTP, from)
		defer s.close()
		s.quiet = true
		return holds(s)
	})
}
