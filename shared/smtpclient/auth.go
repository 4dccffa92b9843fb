package smtpclient

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

// Credential is what a smarthost knows us by.
type Credential struct {
	User     string
	Password string
}

// String hides the password from logs.
func (c Credential) String() string { return c.User + ":***" }

// GoString hides the password from %#v.
func (c Credential) GoString() string { return c.String() }

// AuthError says that we could not authenticate. It speaks about our
// credentials, not about mail: a 535 delays a message and never bounces it.
type AuthError struct {
	Remote string
	Reply  smtp.Reply // of the server, if it refused
	Err    error      // otherwise
}

// Error names the host and the cause, never the credential.
func (e *AuthError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("authenticate to %s: %v", e.Remote, e.Err)
	}
	return fmt.Sprintf("authenticate to %s: %s", e.Remote, e.Reply)
}

// Unwrap returns the cause.
func (e *AuthError) Unwrap() error { return e.Err }

// authenticate presents the credential, if there is one (RFC 4954).
func (s *Session) authenticate() error {
	c := s.cfg.Auth
	if c == nil {
		return nil
	}
	fail := func(text string) error { return &AuthError{Remote: s.remote, Err: errors.New(text)} }
	switch {
	case s.tls == nil && !(s.cfg.AuthInClear && isLoopback(s.raw.RemoteAddr())):
		return fail("the session is not encrypted")
	case c.User == "" || strings.ContainsRune(c.User+c.Password, 0):
		return fail("the credential cannot be sent")
	case slices.Contains(s.ext.Auth, "PLAIN"):
		return s.authPlain(c)
	case slices.Contains(s.ext.Auth, "LOGIN"):
		return s.authLogin(c)
	}
	return fail("neither PLAIN nor LOGIN is offered")
}

// authPlain is SASL PLAIN with an initial response (RFC 4616).
func (s *Session) authPlain(c *Credential) error {
	return s.authStep(2, "AUTH", "PLAIN", encode("\x00"+c.User+"\x00"+c.Password))
}

// authLogin answers two challenges, whose texts nobody standardised.
func (s *Session) authLogin(c *Credential) error {
	if err := s.authStep(3, "AUTH", "LOGIN"); err != nil {
		return err
	}
	if err := s.authStep(3, encode(c.User)); err != nil {
		return err
	}
	return s.authStep(2, encode(c.Password))
}

// authStep sends one line and wants a reply of the class. A refusal loses its
// power to bounce.
func (s *Session) authStep(class int, words ...string) error {
	code, err := s.exchange("AUTH", words...)
	if err != nil {
		return err
	}
	err = s.want(class, code, "AUTH")
	var refused *smtp.Error
	if errors.As(err, &refused) {
		return &AuthError{Remote: s.remote, Reply: refused.Reply}
	}
	return err
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
