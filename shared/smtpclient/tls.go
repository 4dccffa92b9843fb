package smtpclient

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/postrider/postrider/shared/smtp"
)

// TLSPolicy says how much encryption a session must have. The zero value is
// Opportunistic.
type TLSPolicy int

const (
	// Opportunistic encrypts where STARTTLS is offered, to whatever
	// certificate, from TLS 1.0 on: anything is better than clear (RFC 7435).
	Opportunistic TLSPolicy = iota
	// Never stays in clear even where STARTTLS is offered.
	Never
	// Encrypt demands TLS 1.2 or later; the certificate is not checked, except
	// by the caller's VerifyConnection.
	Encrypt
	// Verify demands TLS 1.2 or later and a certificate that is valid for the
	// remote host under the roots of the configuration (RFC 6125).
	Verify
)

// String is the policy as a word for logs.
func (p TLSPolicy) String() string {
	switch p {
	case Opportunistic:
		return "opportunistic"
	case Never:
		return "never"
	case Encrypt:
		return "encrypt"
	case Verify:
		return "verify"
	}
	return fmt.Sprintf("TLSPolicy(%d)", int(p))
}

// TLSStage is the point at which TLS could not be had.
type TLSStage string

// The stages of a TLSError.
const (
	StageOffer     TLSStage = "offer"     // STARTTLS was not offered
	StageStartTLS  TLSStage = "STARTTLS"  // the command failed
	StageHandshake TLSStage = "handshake" // negotiation or certificate
)

// ErrInjection is the cause of a TLSError when octets followed the reply to
// STARTTLS in clear: they would have been taken for replies under TLS.
var ErrInjection = errors.New("octets in clear after the reply to STARTTLS")

// TLSError says that a session could not be encrypted as its policy asks. The
// connection is closed; under Opportunistic the caller may connect again with
// Never. It is no verdict on mail.
type TLSError struct {
	Policy TLSPolicy
	Remote string
	Stage  TLSStage
	Reply  smtp.Reply // to STARTTLS, if it was refused
	Err    error      // the cause; of crypto/tls or crypto/x509 in a handshake
}

// Error names the host, the stage and the cause.
func (e *TLSError) Error() string {
	s := fmt.Sprintf("encrypt session with %s (%s): %s", e.Remote, e.Policy, e.Stage)
	if !e.Reply.IsZero() {
		s += ": " + e.Reply.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// Untrusted reports a handshake that failed because the certificate is not
// valid for the host.
func (e *TLSError) Untrusted() bool {
	var bad *tls.CertificateVerificationError
	return errors.As(e.Err, &bad)
}

func (s *Session) tlsError(stage TLSStage, err error) *TLSError {
	return &TLSError{Policy: s.cfg.TLS, Remote: s.remote, Stage: stage, Err: err}
}

// secure starts TLS as the policy asks (RFC 3207).
func (s *Session) secure() error {
	if s.cfg.TLS == Never || s.cfg.TLS == Opportunistic && !s.ext.StartTLS {
		return nil
	}
	if !s.ext.StartTLS {
		s.quit() // out of courtesy: the session is over either way
		return s.tlsError(StageOffer, errors.New("not offered"))
	}
	if err := s.startTLS(); err != nil {
		return err
	}
	return s.hello() // what was offered in clear is forgotten (RFC 3207 §4.2)
}

func (s *Session) startTLS() error {
	code, err := s.exchange("STARTTLS", "STARTTLS")
	var refused *smtp.Error
	switch {
	case s.ctx.Err() != nil || errors.As(err, &refused):
		return err // the end of the context, or 421: not a matter of TLS
	case err != nil:
		return s.tlsError(StageStartTLS, err)
	case code/100 != 2:
		e := s.tlsError(StageStartTLS, nil)
		e.Reply = s.in.reply()
		return e
	case s.in.in.Buffered() > 0:
		return s.tlsError(StageStartTLS, ErrInjection)
	}
	return s.handshake()
}

// handshake puts TLS on the connection.
func (s *Session) handshake() error {
	config := clientTLS(s.cfg.TLSConfig, s.cfg.TLS, s.remote)
	conn := tls.Client(s.raw, config)
	s.limit(s.cfg.Timeouts.TLS)
	if err := conn.Handshake(); err != nil {
		if s.ctx.Err() != nil {
			return fmt.Errorf("encrypt session with %s: %w", s.remote, s.cause(err))
		}
		return s.tlsError(StageHandshake, err)
	}
	s.conn = conn
	s.in.in = bufio.NewReaderSize(conn, readerSize)
	state := conn.ConnectionState()
	s.tls = &state
	s.verified = s.cfg.TLS == Verify || config.VerifyConnection != nil
	return nil
}

// clientTLS completes the caller's configuration for one session.
func clientTLS(base *tls.Config, policy TLSPolicy, remote string) *tls.Config {
	config := &tls.Config{}
	if base != nil {
		config = base.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = remote
	}
	config.InsecureSkipVerify = policy != Verify
	// A message is written at once; small first records help browsers only.
	config.DynamicRecordSizingDisabled = true
	if policy != Opportunistic {
		if config.MinVersion == 0 {
			config.MinVersion = tls.VersionTLS12
		}
		return config
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS10
	}
	if config.CipherSuites == nil {
		config.CipherSuites = anyCipherSuites()
	}
	return config
}

// anyCipherSuites adds to the suites of crypto/tls the AES ones with RSA key
// exchange: without forward secrecy, but not clear.
func anyCipherSuites() []uint16 {
	ids := []uint16{
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	}
	for _, suite := range tls.CipherSuites() {
		ids = append(ids, suite.ID)
	}
	return ids
}
