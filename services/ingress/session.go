package ingress

import (
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
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// session is one SMTP conversation. Its methods are the commands; go-smtp
// calls them one after the other.
type session struct {
	in       *Ingress
	listener *listener
	conn     *wire.Conn
	name     chan clientName // the look-up that began with the session; nil when it is over
	nameBy   time.Time       // until when a decision may wait for it
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
		NameDoubt: true, // until the DNS said something; a name that was not asked for is not a missing one
	}
	if state, ok := c.TLSState(); ok {
		s.facts.TLS = describeTLS(state)
	}
	in.metrics.session(l.Name, s.facts.TLS != "")
	if in.names != nil {
		answer := make(chan clientName, 1)
		s.name, s.nameBy = answer, time.Now().Add(nameWait)
		go func(client netip.Addr) {
			names, err := in.names.ForwardConfirmed(in.ctx, client)
			answer <- clientName{names, err}
		}(s.facts.Address)
	}
	return s
}

// Mail begins a transaction (RFC 5321 §4.1.1.2).
func (s *session) Mail(from string, opts *gosmtp.MailOptions) error {
	if s.open {
		return reply(smtp.ReplyBadSequence)
	}
	if s.messages >= s.limit() {
		return s.answer(event.Refusal{Stage: "mail", Rule: "session-limit", Reply: replyEnough})
	}
	if s.in.ctx.Err() != nil || !s.in.bus.NC.IsConnected() || !s.in.current() {
		return s.trouble("mail", smtp.ReplyStoreDown, errors.New("bus is not connected, or the registry not read since"))
	}
	var path smtp.ReversePath
	if from != "" {
		a, err := smtp.Unquoted(from)
		if err != nil {
			return reply(smtp.ReplyBadReversePath)
		}
		path.Address = a
	}
	size := int64(0)
	if opts != nil {
		size = opts.Size
	}
	if size > int64(s.in.cfg.Limits.MessageSize) {
		return reply(smtp.ReplyTooBig)
	}
	if err := s.in.intake.takes(size); err != nil { // RFC 1870 §6.1
		return s.answer(event.Refusal{Stage: "mail", Rule: ruleFull, Reason: err.Error(), Reply: smtp.ReplyStoreFull})
	}
	s.facts.ReversePath, s.facts.Recipient, s.facts.HeaderFrom = path, nil, nil
	s.facts.Helo, s.facts.At = s.conn.Helo(), time.Now().UTC()
	v := s.decide(s.in.registry())
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
	if v := s.decide(s.in.registry()); !v.Admitted() {
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

// replyEnough ends a session that sent what one session may send.
var replyEnough = smtp.Reply{Code: 421, Enhanced: "4.5", Text: "Too many messages in this session, connect again"}

// nameWait is how long the decisions of a session wait for the client's name,
// in sum: a device with many recipients does not pay for each of them.
const nameWait = 5 * time.Second

// decide asks authorization, and waits for the client's name only where the
// decision hangs on it.
func (s *session) decide(reg *registry.Snapshot) authz.Verdict {
	s.learnName(reg, false)
	v := authz.Decide(s.in.rules, reg, &s.facts)
	if v.Outcome == authz.Later && s.name != nil {
		s.learnName(reg, true)
		v = authz.Decide(s.in.rules, reg, &s.facts)
	}
	return v
}

// learnName takes over what the DNS said, if it said it or may be waited for.
func (s *session) learnName(reg *registry.Snapshot, wait bool) {
	if s.name == nil {
		return
	}
	by := time.Now()
	if wait {
		by = s.nameBy
	}
	late := time.NewTimer(time.Until(by))
	defer late.Stop()
	var n clientName
	select {
	case n = <-s.name:
	default: // what is there counts, also when the time is over
		select {
		case n = <-s.name:
		case <-late.C:
			return
		case <-s.in.ctx.Done():
			return
		}
	}
	s.name = nil
	s.facts.Name, s.facts.NameDoubt = pick(reg, s.facts.Address, n)
}

// pick chooses the registered name among several, else the first.
func pick(reg *registry.Snapshot, client netip.Addr, n clientName) (name string, doubt bool) {
	if d, ok := reg.ByAddress(client); ok {
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
