package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Config says how a session is opened. It is not changed by this package and
// may be shared by sessions.
type Config struct {
	// Hello is our name for EHLO: a fully qualified domain name or an address
	// literal (RFC 5321 §4.1.4).
	Hello string
	// TLS says how much encryption the session must have.
	TLS TLSPolicy
	// ImplicitTLS starts TLS before the greeting (RFC 8314 §3.3).
	ImplicitTLS bool
	// LMTP speaks LMTP instead of SMTP (RFC 2033).
	LMTP bool
	// TLSConfig is the base of the TLS configuration; nil means the defaults.
	// ServerName is the remote host unless it is set here. A VerifyConnection
	// is asked under every policy; with Encrypt it alone decides, which is how
	// a caller checks TLSA records (RFC 7672).
	TLSConfig *tls.Config
	// Auth is presented after EHLO; nil means no authentication.
	Auth *Credential
	// AuthInClear permits AUTH without TLS, to a loopback address only.
	AuthInClear bool
	// Timeouts bound each step; zero fields have the defaults.
	Timeouts Timeouts
}

// Timeouts bound the steps of a session (RFC 5321 §4.5.3.2). A context that
// ends earlier wins.
type Timeouts struct {
	Greeting time.Duration // for the greeting; 5 min
	Command  time.Duration // for each reply but those below; 5 min
	TLS      time.Duration // for the TLS handshake; 1 min
	Data     time.Duration // for the reply to DATA; 2 min
	Block    time.Duration // for each write of at most 64 KiB; 3 min
	Dot      time.Duration // for each reply after the content; 10 min
	Quit     time.Duration // for the reply to QUIT; 5 s
}

func (t Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Greeting, 5 * time.Minute},
		{&t.Command, 5 * time.Minute},
		{&t.TLS, time.Minute},
		{&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute},
		{&t.Dot, 10 * time.Minute},
		{&t.Quit, 5 * time.Second},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return t
}

var (
	// ErrProtocol is wrapped by errors about a server that does not keep to
	// the protocol: a malformed, oversized, unexpected or unsolicited reply.
	ErrProtocol = errors.New("protocol violation")
	// ErrUnusable is wrapped when a session is used that was closed or failed
	// before. Nothing was sent.
	ErrUnusable = errors.New("session is unusable")
)

// Session is an open session. It is used by one goroutine at a time.
type Session struct {
	*wire
	cfg          Config
	remote       string
	ext          Extensions
	tls          *tls.ConnectionState
	verified     bool
	dirty        bool // the server may have an open transaction: RSET first
	transactions int
}

// Start opens a session on conn: greeting, EHLO (HELO for a server that does
// not know it), STARTTLS as the policy asks, EHLO again, AUTH. The remote is
// the name of the host that was dialled: it is checked against the certificate
// and named in errors. On error the connection is closed.
func Start(ctx context.Context, conn net.Conn, remote string, cfg Config) (*Session, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	s := &Session{
		wire:   newWire(conn, cfg.Timeouts.Block),
		cfg:    cfg,
		remote: strings.TrimSuffix(remote, "."),
	}
	if err := s.begin(ctx); err != nil {
		return nil, s.fail(err)
	}
	err := s.open()
	s.end()
	if err == nil {
		err = s.broken
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

func (s *Session) open() error {
	if !isWord(s.cfg.Hello) {
		return fmt.Errorf("say hello: %q is no host name", s.cfg.Hello)
	}
	if s.cfg.ImplicitTLS && s.cfg.TLS == Never {
		return errors.New("open session: implicit TLS contradicts the policy never")
	}
	if s.cfg.ImplicitTLS {
		if err := s.handshake(); err != nil {
			return err
		}
	}
	if err := s.greeting(); err != nil {
		return err
	}
	if err := s.hello(); err != nil {
		return err
	}
	if !s.cfg.ImplicitTLS {
		if err := s.secure(); err != nil {
			return err
		}
	}
	return s.authenticate()
}

func (s *Session) greeting() error {
	code, err := s.read("the connection", s.cfg.Timeouts.Greeting)
	if err != nil {
		return err
	}
	return s.want(2, code, "the connection")
}

// hello introduces us and learns the server's extensions. Only a server that
// does not know EHLO is greeted the old way (RFC 5321 §3.2).
func (s *Session) hello() error {
	verb := "EHLO"
	if s.cfg.LMTP {
		verb = "LHLO"
	}
	s.ext = Extensions{}
	code, err := s.exchange(verb, verb, s.cfg.Hello)
	if err != nil {
		return err
	}
	if code/100 == 5 && !s.cfg.LMTP {
		if code, err = s.exchange("HELO", "HELO", s.cfg.Hello); err != nil {
			return err
		}
		return s.want(2, code, "HELO")
	}
	if err := s.want(2, code, verb); err != nil {
		return err
	}
	s.ext = parseExtensions(s.in.text)
	return nil
}

// exchange sends one command on its own and reads the reply. Errors call it by
// its verb: the rest may be a secret.
func (s *Session) exchange(verb string, words ...string) (code int, err error) {
	line := s.out.AvailableBuffer()
	for i, word := range words {
		if i > 0 {
			line = append(line, ' ')
		}
		line = append(line, word...)
	}
	s.out.Write(append(line, "\r\n"...))
	if err := s.flush(verb); err != nil {
		return 0, err
	}
	return s.read(verb, s.cfg.Timeouts.Command)
}

// flush writes the waiting commands. A server that spoke first is out of step:
// its reply would be taken for the answer to a command it has not seen.
func (s *Session) flush(verb string) error {
	if s.in.in.Buffered() > 0 {
		return fmt.Errorf("send %s to %s: %w: the server spoke before it was asked", verb, s.remote, ErrProtocol)
	}
	if err := s.out.Flush(); err != nil {
		if s.parting(err) == 421 {
			return s.refusal(verb)
		}
		return s.lost(verb, err)
	}
	return nil
}

// parting is the code of the reply that a server left before it hung up on a
// write; 0 if it left none.
func (s *Session) parting(err error) (code int) {
	if s.ctx.Err() != nil || isTimeout(err) {
		return 0
	}
	s.limit(s.cfg.Timeouts.Quit)
	if s.in.read() != nil {
		return 0
	}
	return s.in.code
}

// lost is the error of a failed write.
func (s *Session) lost(verb string, err error) error {
	return fmt.Errorf("send %s to %s: %w", verb, s.remote, s.cause(err))
}

// read reads one reply. A 421 is an error: the server closes, whatever it was
// asked (RFC 5321 §3.8).
func (s *Session) read(verb string, d time.Duration) (code int, err error) {
	s.limit(d)
	if err := s.in.read(); err != nil {
		return 0, fmt.Errorf("read reply of %s to %s: %w", s.remote, verb, s.cause(err))
	}
	if s.in.code == 421 {
		return 421, s.refusal(verb)
	}
	return s.in.code, nil
}

// want turns a reply of another class into an error.
func (s *Session) want(class, code int, verb string) error {
	switch code / 100 {
	case class:
		return nil
	case 4, 5:
		return s.refusal(verb)
	}
	return fmt.Errorf("read reply of %s to %s: %w: unexpected code %d", s.remote, verb, ErrProtocol, code)
}

// refusal is the last reply as a verdict.
func (s *Session) refusal(verb string) *smtp.Error {
	return &smtp.Error{Reply: s.in.reply(), RemoteMTA: s.remote, Err: errors.New("in reply to " + verb)}
}

// Extensions is what the server offered in its last EHLO.
func (s *Session) Extensions() Extensions { return s.ext }

// Remote is the name of the server's host, as given to Start.
func (s *Session) Remote() string { return s.remote }

// TLS is the state of the encryption; nil when the session is in clear.
func (s *Session) TLS() *tls.ConnectionState { return s.tls }

// Verified reports that the server proved who it is: its certificate passed
// the policy Verify, or the VerifyConnection of the configuration.
func (s *Session) Verified() bool { return s.verified }

// Transactions is the number of messages given to Send that reached MAIL, for
// limits such as MAILMAX.
func (s *Session) Transactions() int { return s.transactions }

// Healthy reports that the session can take another message: nothing failed,
// and the server has neither closed nor said anything while it was idle.
func (s *Session) Healthy() bool {
	return s.broken == nil && s.in.in.Buffered() == 0 && quiet(s.raw)
}

// Quit says QUIT where the session still allows it, waits for the reply no
// longer than Timeouts.Quit, and closes (RFC 5321 §4.1.1.10). Its error is of
// interest to a log only.
func (s *Session) Quit(ctx context.Context) error {
	if s.broken != nil {
		return s.Close()
	}
	if err := s.begin(ctx); err != nil {
		s.fail(err)
		return err
	}
	err := s.quit()
	s.end()
	return errors.Join(err, s.Close())
}

func (s *Session) quit() error {
	io.WriteString(s.out, "QUIT\r\n")
	if err := s.flush("QUIT"); err != nil {
		return err
	}
	_, err := s.read("QUIT", s.cfg.Timeouts.Quit)
	return err
}

// Close closes the connection without a word to the server but that of TLS
// (RFC 8446 §6.1). It may be called more than once.
func (s *Session) Close() error { return s.close() }

// isWord reports an argument that cannot break out of its command line.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}
