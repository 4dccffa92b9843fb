package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// Data takes the content, stores it, and only then says 250: this is where
// the responsibility changes hands (RFC 5321 §6.1).
func (s *session) Data(content io.Reader) error {
	started := time.Now()
	id := s.in.ids.Next()
	err := s.accept(id, content)
	if err == nil {
		s.messages++
		s.in.metrics.accepted(time.Since(started))
		return reply(smtp.Reply{Code: 250, Enhanced: "0.0", Text: "queued as " + string(id)})
	}
	return s.replyTo(err)
}

// replyTo is the reply for everything that can go wrong with a content.
func (s *session) replyTo(err error) error {
	var refused *smtp.Error
	var denied *deniedError
	switch {
	case errors.As(err, &denied):
		return s.refuse("data", denied.verdict)
	case errors.As(err, &refused):
		s.in.metrics.refused("data", "content")
		s.in.evidence.add(refusalOf("data", "content", s.facts, refused.Reply))
		return reply(refused.Reply)
	case errors.Is(err, queue.ErrFull):
		return s.trouble("data", smtp.ReplyStoreFull, err)
	case errors.Is(err, queue.ErrUnavailable):
		return s.trouble("data", smtp.ReplyStoreDown, err)
	}
	return s.trouble("data", smtp.ReplyLocalError, err)
}

// deniedError is an authorization that changed between RCPT and the end of DATA.
type deniedError struct{ verdict authz.Verdict }

func (e *deniedError) Error() string { return "denied at the end of the content: " + e.verdict.Reason }

// accept reads the content and stores it under id.
func (s *session) accept(id mail.QueueID, content io.Reader) error {
	start, header, body, err := readHeader(content)
	if err != nil {
		return s.contentError(err)
	}
	if header.Hops() >= mail.MaxHops {
		return smtp.Refuse(smtp.ReplyLoop, fmt.Errorf("%d Received fields", header.Hops()))
	}
	if header.LongestField() > mail.MaxField {
		return smtp.Refuse(smtp.ReplyHeaderTooBig, errors.New("one field is over the limit"))
	}
	ctx, cancel := context.WithCancel(s.in.ctx)
	defer cancel()
	w := s.in.bus.NewContent(ctx, id)
	defer w.Discard()
	a := s.event(id, header)
	prefix := s.trace(id, a.At)
	prefix, a.MessageID = complete(prefix, header, id, s.in.cfg.Relay.Hostname, a.At)
	for _, part := range [][]byte{prefix, header, separator, start[body:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	if err := s.copyBody(w, content); err != nil {
		return err
	}
	if fault := s.conn.BodyFault(); fault != nil {
		return s.contentError(fault)
	}
	if err := s.decideAgain(header); err != nil {
		return err
	}
	_, err = w.Commit(a)
	return err
}

// separator ends the header section; where the client sent none it is added.
var separator = []byte("\r\n")

// copyBody streams the rest of the content, telling apart a client that fails
// and a store that does.
func (s *session) copyBody(w io.Writer, content io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := content.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.contentError(err)
		}
	}
}

// contentError prefers what wire found wrong with the body over the error that
// go-smtp made of it.
func (s *session) contentError(err error) error {
	if fault := s.conn.BodyFault(); fault != nil {
		err = fault
	}
	var refused *smtp.Error
	if errors.As(err, &refused) {
		return refused
	}
	return fmt.Errorf("read content: %w", err)
}

// decideAgain asks authorization for every recipient with the header known:
// the registry may have changed since RCPT.
func (s *session) decideAgain(header mail.Header) error {
	s.facts.HeaderFrom, _ = header.FromAddresses() // an unreadable From has no addresses
	reg := s.in.registry()
	for i := range s.env.Recipients {
		s.facts.Recipient = &s.env.Recipients[i].Address
		if v := authz.Decide(s.in.rules, reg, &s.facts); !v.Admitted() {
			return &deniedError{v}
		}
	}
	s.facts.Recipient = nil
	return nil
}

// event is what is known about the message apart from its content.
func (s *session) event(id mail.QueueID, header mail.Header) *event.Accepted {
	reg := s.in.registry()
	facts := s.facts
	facts.Recipient = &s.env.Recipients[0].Address
	v := authz.Decide(s.in.rules, reg, &facts)
	facts.Recipient = nil
	a := &event.Accepted{
		QueueID: id, At: time.Now().UTC(), Class: v.Class, Env: s.env, MessageID: header.Get("Message-ID"),
		Facts: facts, Device: v.Device, Owner: v.Owner, Revision: reg.Revision,
	}
	if name := s.in.cfg.Ledger.TokenHeader; name != "" {
		a.SubmissionID = header.Get(name)
	}
	return a
}

// trace is our Received field.
func (s *session) trace(id mail.QueueID, at time.Time) []byte {
	r := mail.Received{
		Helo: s.conn.Helo(), Address: s.facts.Address, Name: s.facts.Name, By: s.in.cfg.Relay.Hostname,
		Protocol: s.protocol(), TLS: s.facts.TLS, ID: id, At: at,
	}
	if len(s.env.Recipients) == 1 {
		r.For = &s.env.Recipients[0].Address
	}
	return r.Append(make([]byte, 0, 1024))
}

// protocol is the "with" of the trace field (RFC 3848).
func (s *session) protocol() string {
	if !s.conn.Extended() {
		return "SMTP"
	}
	p := "ESMTP"
	if s.facts.TLS != "" {
		p += "S"
	}
	if s.facts.Identity != "" {
		p += "A"
	}
	return p
}
