package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// session is one SMTP conversation. Its methods are the commands; go-smtp
// calls them one after the other.
type session struct {
	in       *Ingress
	listener *listener
	conn     *wire.Conn
	name     chan clientName // the look-up that began at the connect
	facts    authz.Facts
	env      mail.Envelope
	open     bool // a MAIL was accepted
	messages int
}

// clientName is what the DNS said about the client's address.
type clientName struct {
	names []string
	err   error
}

func (in *Ingress) newSession(l *listener, c *wire.Conn) *session {
	s := &session{in: in, listener: l, conn: c}
	s.facts = authz.Facts{
		Listener: l.Name, Submission: l.Mode != config.ModeRelay, Address: addressOf(c.RemoteAddr()),
	}
	if state, ok := c.TLSState(); ok {
		s.facts.TLS = describeTLS(state)
	}
	in.metrics.session(l.Name, s.facts.TLS != "")
	if in.names != nil {
		s.name = make(chan clientName, 1)
		go func() {
			names, err := in.names.ForwardConfirmed(in.ctx, s.facts.Address)
			s.name <- clientName{names, err}
		}()
	}
	return s
}

// Mail begins a transaction (RFC 5321 §4.1.1.2).
func (s *session) Mail(from string, opts *gosmtp.MailOptions) error {
	if s.open {
		return reply(smtp.ReplyBadSequence)
	}
	if s.messages >= s.limit() {
		return reply(smtp.Reply{Code: 421, Enhanced: "4.5", Text: "Too many messages in this session, connect again"})
	}
	if s.in.ctx.Err() != nil || !s.in.bus.NC.IsConnected() {
		return s.trouble("mail", smtp.ReplyStoreDown, errors.New("bus is not connected"))
	}
	var path smtp.ReversePath
	if from != "" {
		a, err := smtp.Unquoted(from)
		if err != nil {
			return reply(smtp.ReplyBadReversePath)
		}
		path.Address = a
	}
	if opts != nil && opts.Size > int64(s.in.cfg.Limits.MessageSize) {
		return reply(smtp.ReplyTooBig)
	}
	s.facts.ReversePath, s.facts.Recipient, s.facts.HeaderFrom = path, nil, nil
	s.facts.Helo, s.facts.At = s.conn.Helo(), time.Now().UTC()
	s.learnName(false)
	v := authz.Decide(s.in.rules, s.in.registry(), &s.facts)
	// A refusal waits for RCPT, where it can say for whom; only a missing
	// authentication is told at once, since nothing else will do.
	if v.Outcome == authz.Refuse && v.Rule == "authentication" {
		return s.refuse("mail", v)
	}
	s.env = mail.Envelope{ReversePath: path, Body8Bit: opts != nil && opts.Body == gosmtp.Body8BitMIME}
	s.open = true
	return nil
}

// Rcpt adds a recipient (RFC 5321 §4.1.1.3), if authorization admits it.
func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	a, err := smtp.Unquoted(to)
	if err != nil {
		return reply(smtp.ReplyBadForwardPath)
	}
	path := smtp.ForwardPath{Address: a}
	s.facts.Recipient = &path
	s.learnName(s.in.rules.FCrDNS == authz.Enforce)
	if v := authz.Decide(s.in.rules, s.in.registry(), &s.facts); !v.Admitted() {
		return s.refuse("rcpt", v)
	}
	if slices.ContainsFunc(s.env.Recipients, func(r mail.Recipient) bool { return r.Address == path }) {
		return nil // named twice, delivered once
	}
	s.env.Recipients = append(s.env.Recipients, mail.Recipient{Address: path})
	return nil
}

// Reset ends the transaction (RFC 5321 §4.1.1.5); go-smtp also calls it after
// every message.
func (s *session) Reset() {
	s.env, s.open = mail.Envelope{}, false
}

// Logout ends the session.
func (s *session) Logout() error { return nil }

// limit is the number of messages that one session may send (S9).
func (s *session) limit() int {
	if s.facts.Submission {
		return s.in.cfg.Limits.MessagesPerSession.Submission
	}
	return s.in.cfg.Limits.MessagesPerSession.Relay
}

// learnName takes over what the DNS said, and waits for it when it decides.
func (s *session) learnName(wait bool) {
	if s.name == nil {
		return
	}
	ctx := context.Context(s.in.ctx)
	if !wait {
		done, cancel := context.WithCancel(ctx)
		cancel()
		ctx = done
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, nameWait)
		defer cancel()
	}
	select {
	case n := <-s.name:
		s.name = nil
		s.facts.Name, s.facts.NameDoubt = s.pick(n)
	case <-ctx.Done():
		s.facts.NameDoubt = true
	}
}

// pick chooses the registered name among several, else the first.
func (s *session) pick(n clientName) (name string, doubt bool) {
	if d, ok := s.in.registry().ByAddress(s.facts.Address); ok {
		for _, name := range n.names {
			if strings.EqualFold(strings.TrimSuffix(name, "."), d.Name) {
				return d.Name, false
			}
		}
	}
	if len(n.names) > 0 {
		return strings.TrimSuffix(n.names[0], "."), false
	}
	return "", temporary(n.err)
}

// temporary reports an error of the DNS that a later try may not have.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func addressOf(a interface{ String() string }) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// describeTLS is version and cipher suite: "TLS1.3 TLS_AES_128_GCM_SHA256".
func describeTLS(state tls.ConnectionState) string {
	return strings.ReplaceAll(tls.VersionName(state.Version), " ", "") + " " + tls.CipherSuiteName(state.CipherSuite)
}
