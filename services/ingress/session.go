package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	standing chan authz.Standing // the question about the sender of this transaction; nil when there is none
	name     chan clientName     // the look-up that began with the session; nil when it is over
	nameBy   time.Time           // until when a decision may wait for it
	facts    authz.Facts
	env      mail.Envelope
	open     bool            // a MAIL was accepted
	quirks   registry.Quirks // of its device, as of MAIL
	taken    taken
	pause    time.Duration // that the last message over a limit met
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
	if strings.Contains(c.Helo(), "&") {
		in.metrics.ampersands.Inc()
	}
	s.treat()
	c.Prepare(s.treat)
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
		return s.answer(event.Refusal{Stage: "mail", Rule: event.CauseSequence, Reply: smtp.ReplyBadSequence})
	}
	if s.in.ctx.Err() != nil || !s.in.bus.NC.IsConnected() || !s.in.current() {
		return s.trouble("mail", smtp.ReplyStoreDown, errors.New("bus is not connected, or the registry not read since"))
	}
	var path smtp.ReversePath
	if from != "" {
		a, err := smtp.Unquoted(from)
		if err != nil {
			return s.answer(event.Refusal{Stage: "mail", Rule: event.CausePath, Reason: fmt.Sprintf("%q: %v", from, err), Reply: smtp.ReplyBadReversePath})
		}
		path.Address = a
	}
	size := int64(0)
	if opts != nil {
		size = opts.Size
	}
	if err := s.in.intake.takes(size); err != nil { // RFC 1870 §6.1
		return s.answer(event.Refusal{Stage: "mail", Rule: ruleFull, Reason: err.Error(), Reply: smtp.ReplyStoreFull})
	}
	path = s.overridden(path)
	s.facts.ReversePath, s.facts.Recipient, s.facts.HeaderFrom, s.facts.FromFault = path, nil, nil, ""
	s.facts.Over = nil
	s.facts.Messages, s.facts.Recipients, s.facts.Size = s.conn.Counts().Messages, 0, size
	s.facts.Helo, s.facts.At = s.conn.Helo(), time.Now().UTC()
	s.askStanding()
	v := s.decide(s.in.registry())
	// A refusal waits for RCPT, where it can say for whom, unless no recipient
	// will do.
	if !v.Passes() && authz.Early(v.Rule) {
		return s.refuse("mail", v)
	}
	s.taken = taken{}
	s.env = mail.Envelope{ReversePath: path, Body8Bit: opts != nil && opts.Body == gosmtp.Body8BitMIME}
	s.open = true
	return nil
}

// Rcpt adds a recipient (RFC 5321 §4.1.1.3), if authorization admits it.
func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	a, err := smtp.Unquoted(to)
	if err != nil {
		return s.answer(event.Refusal{Stage: "rcpt", Rule: event.CausePath, Reason: fmt.Sprintf("%q: %v", to, err), Reply: smtp.ReplyBadForwardPath})
	}
	path := smtp.ForwardPath{Address: a}
	original, _ := s.conn.Completed()
	path, original = s.redirected(path, original)
	reg := s.in.registry()
	s.facts.Recipient, s.facts.Recipients = &path, len(s.env.Recipients)
	if v := s.decide(reg); !v.Passes() {
		return s.refuse("rcpt", v)
	}
	if slices.ContainsFunc(s.env.Recipients, func(r mail.Recipient) bool { return r.Address == path }) {
		return nil // named twice, delivered once
	}
	if err := s.within(reg, path); err != nil {
		return err
	}
	s.env.Recipients = append(s.env.Recipients, mail.Recipient{Address: path, Original: original})
	return nil
}

// Reset ends the transaction (RFC 5321 §4.1.1.5); go-smtp also calls it after
// every message.
func (s *session) Reset() {
	s.giveBack()
	s.env, s.open = mail.Envelope{}, false
}

// Logout ends the session.
func (s *session) Logout() error {
	s.giveBack()
	return nil
}

// nameWait is how long the decisions of a session wait for the client's name,
// in sum: a device with many recipients does not pay for each of them.
const nameWait = 5 * time.Second

// decide asks authorization, and waits for the client's name only where the
// decision hangs on it.
func (s *session) decide(reg *registry.Snapshot) authz.Verdict {
	s.learnName(reg, false)
	s.learnStanding()
	v := authz.Decide(s.in.rules, reg, &s.facts)
	if v.Outcome == authz.Later && s.name != nil {
		s.learnName(reg, true)
		v = authz.Decide(s.in.rules, reg, &s.facts)
	}
	if v.Outcome == authz.Later && s.remember(reg) {
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
	s.facts.NameAsOf = time.Time{}
	s.facts.Name = authz.NameOf(reg, s.facts.Address, n.names)
	s.facts.NameDoubt = s.facts.Name == "" && temporary(n.err)
}

// standingWait is how long a recipient waits for whether the sender exists: as long
// as a callout takes (shared/mailbox).
const standingWait = 9 * time.Second

// askStanding asks about the sender, where a rule wants to know and it is ours to
// ask: of hosted domains only.
func (s *session) askStanding() {
	s.facts.Standing, s.standing = "", nil
	from := s.facts.ReversePath
	if s.in.mailboxes == nil || from.IsNull() || !s.in.registry().Hosted(from.Domain) {
		return
	}
	answer := make(chan authz.Standing, 1)
	s.standing = answer
	go func() {
		ctx, cancel := context.WithTimeout(s.in.ctx, standingWait)
		defer cancel()
		answer <- s.in.mailboxes.Ask(ctx, from.Address.String())
	}()
}

// learnStanding waits for the answer where there is a recipient to decide about.
func (s *session) learnStanding() {
	if s.standing == nil || s.facts.Recipient == nil {
		return
	}
	s.facts.Standing, s.standing = <-s.standing, nil
}

// lastGood is how long the last good answer of the DNS about a device holds while
// there is none (P23).
const lastGood = 72 * time.Hour

// remember takes the last good answer for one that does not come.
func (s *session) remember(reg *registry.Snapshot) bool {
	if !s.facts.NameDoubt {
		return false
	}
	name, at, ok := reg.Confirmed(s.facts.Address, lastGood, time.Now())
	if ok {
		s.facts.Name, s.facts.NameDoubt, s.facts.NameAsOf = name, false, at
	}
	return ok
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
