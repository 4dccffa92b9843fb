package wire_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/smtp"
)

// patience is how long a test waits before it calls a server hung.
const patience = 20 * time.Second

// message is what a session published.
type message struct {
	from    string
	to      []string
	content string
}

// backend is the double of ingress: it keeps what it accepts. Special local
// parts make it refuse: "refused" at MAIL or RCPT, "later" with 451, "early" at
// DATA before it read the body, "closing" with 421, "panic" at DATA.
type backend struct {
	prepare func(*wire.Conn) // called by NewSession
	direct  bool             // Data reads by Conn.Content
	began   chan string      // if set, told of events: "mail", "data", "logout", "session"
	gate    chan struct{}    // if set, Data waits for it before it publishes

	mu       sync.Mutex
	messages []message
	broken   []error // errors of the body's reader
}

func (b *backend) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	s := &session{backend: b}
	if wired, ok := c.Conn().(*wire.Conn); ok {
		s.wire = wired
		if b.prepare != nil {
			b.prepare(wired)
		}
	}
	b.tell("session")
	return s, nil
}

func (b *backend) tell(event string) {
	if b.began != nil {
		b.began <- event
	}
}

// submissions is what was published so far.
func (b *backend) submissions() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.messages)
}

func (b *backend) failures() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.broken)
}

type session struct {
	backend *backend
	wire    *wire.Conn
	from    string
	to      []string
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error {
	s.backend.tell("logout")
	return nil
}

func (s *session) Mail(from string, _ *gosmtp.MailOptions) error {
	s.backend.tell("mail")
	s.from = from
	return special(from)
}

func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if err := special(to); err != nil {
		return err
	}
	s.to = append(s.to, to)
	return nil
}

func special(address string) error {
	switch local, _, _ := strings.Cut(address, "@"); local {
	case "refused":
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "R7K2-9QF3 Not registered\nsee help\x07 \xe9"}
	case "later":
		return &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "Later"}
	case "closing":
		return &gosmtp.SMTPError{Code: 421, EnhancedCode: gosmtp.EnhancedCode{4, 7, 0}, Message: "Enough for one session"}
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	s.backend.tell("data")
	switch local, _, _ := strings.Cut(s.from, "@"); local {
	case "early":
		return &gosmtp.SMTPError{Code: 554, EnhancedCode: gosmtp.EnhancedCode{5, 6, 0}, Message: "Refused early"}
	case "panic":
		panic("asked for")
	}
	if s.backend.direct {
		r = s.wire.Content(r)
	}
	content, err := io.ReadAll(r)
	if err == nil && s.wire != nil {
		err = s.wire.BodyFault()
	}
	if s.backend.gate != nil {
		<-s.backend.gate
	}
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	if err != nil {
		s.backend.broken = append(s.backend.broken, err)
		reply := smtp.ReplyOf(err, smtp.ReplyLocalError)
		refusal := &gosmtp.SMTPError{Code: reply.Code, Message: reply.Text}
		if _, err := fmt.Sscanf(reply.Status(), "%d.%d.%d", &refusal.EnhancedCode[0], &refusal.EnhancedCode[1], &refusal.EnhancedCode[2]); err != nil {
			panic(err)
		}
		return refusal
	}
	s.backend.messages = append(s.backend.messages, message{s.from, slices.Clone(s.to), string(content)})
	return &gosmtp.SMTPError{Code: 250, EnhancedCode: gosmtp.EnhancedCode{2, 0, 0}, Message: "queued"}
}

func (s *session) AuthMechanisms() []string { return []string{"PLAIN", "LOGIN"} }

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != "PLAIN" {
		return nil, gosmtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "dev" || password != "secret" {
			return gosmtp.ErrAuthFailed
		}
		return nil
	}), nil
}

// eachWay runs a test with a session that reads by go-smtp's reader, and with
// one that reads by Conn.Content.
func eachWay(t *testing.T, test func(t *testing.T, direct bool)) {
	t.Run("by go-smtp", func(t *testing.T) { test(t, false) })
	t.Run("by Content", func(t *testing.T) { test(t, true) })
}

// server is go-smtp on a loopback port, with wire in front of it or without.
type server struct {
	*backend
	smtp     *gosmtp.Server
	listener *wire.Listener // nil without wire
	address  string
	socket   *countingListener
}

// bare starts go-smtp alone.
func bare(t testing.TB, b *backend, adjust func(*gosmtp.Server)) *server {
	t.Helper()
	s := start(t, b)
	if adjust != nil {
		adjust(s.smtp)
	}
	s.serve(t, s.socket)
	return s
}

// wired starts go-smtp behind wire.
func wired(t testing.TB, b *backend, cfg wire.Config) *server {
	t.Helper()
	s := start(t, b)
	if cfg.Hostname == "" {
		cfg.Hostname = "relay.campus.test"
	}
	wire.Configure(s.smtp, cfg)
	s.listener = wire.NewListener(s.socket, cfg)
	s.serve(t, s.listener)
	return s
}

func start(t testing.TB, b *backend) *server {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{backend: b, smtp: gosmtp.NewServer(b), address: socket.Addr().String()}
	s.socket = &countingListener{Listener: socket}
	s.smtp.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func (s *server) serve(t testing.TB, l net.Listener) {
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.smtp.Serve(l)
	}()
	t.Cleanup(func() {
		if s.listener != nil {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.listener.Shutdown(ctx)
		}
		s.smtp.Close()
		<-served
	})
}

// countingListener counts the Write calls on its connections.
type countingListener struct {
	net.Listener
	mu     sync.Mutex
	writes []string
}

type countingConn struct {
	*net.TCPConn
	owner *countingListener
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{c.(*net.TCPConn), l}, nil
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.owner.mu.Lock()
	c.owner.writes = append(c.owner.writes, string(p))
	c.owner.mu.Unlock()
	return c.TCPConn.Write(p)
}

func (l *countingListener) written() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.writes)
}

// client speaks SMTP by the letter.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	busy sync.WaitGroup // goroutines that send for it
}

func (s *server) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return newClient(t, conn)
}

// greeted dials and says EHLO.
func (s *server) greeted(t testing.TB) *client {
	t.Helper()
	c := s.dial(t)
	c.expect("220")
	c.do("EHLO device.campus.test", "250")
	return c
}

func newClient(t testing.TB, conn net.Conn) *client {
	return &client{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("send %.40q: %v", text, err)
	}
}

// reply reads one reply, all its lines; "" when the server closed.
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			if line != "" || lines != nil {
				c.t.Fatalf("reply cut off: %q %q", lines, line)
			}
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				c.t.Fatal("no reply: the server hangs")
			}
			return ""
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			c.t.Fatalf("reply line %q does not end in CRLF", line)
		}
		lines = append(lines, text)
		if len(text) < 4 || text[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// expect reads replies that must begin so; "" is the end of the connection.
func (c *client) expect(prefixes ...string) string {
	c.t.Helper()
	var got string
	for _, want := range prefixes {
		got = c.reply()
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			c.t.Fatalf("got %q, want %q", got, want)
		}
	}
	return got
}

func (c *client) do(command string, want ...string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.expect(want...)
}

// rest reads all further replies up to the end of the connection.
func (c *client) rest() (replies []string) {
	c.t.Helper()
	for r := c.reply(); r != ""; r = c.reply() {
		replies = append(replies, r)
	}
	return replies
}

// envelope opens a transaction.
func (c *client) envelope() {
	c.t.Helper()
	c.do("MAIL FROM:<scan@campus.test>", "250")
	c.do("RCPT TO:<office@campus.test>", "250")
}

// startTLS secures the connection.
func (c *client) startTLS() *client {
	c.t.Helper()
	c.do("STARTTLS", "220")
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, secure)
}

// serverTLS is a TLS configuration with a certificate of the moment.
var serverTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"relay.campus.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})
