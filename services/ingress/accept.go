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

// replyWithin is how long the client waits for our reply to its final dot. It
// covers the last chunk and the message itself, which are stored one after the
// other. It is time in which the process runs.
const replyWithin = 9 * time.Second

// Data takes the content, stores it, and only then says 250: this is where
// the responsibility changes hands (RFC 5321 §6.1).
func (s *session) Data(content io.Reader) error {
	started := time.Now()
	id := s.in.ids.Next()
	err := s.accept(id, s.conn.Content(content))
	if err == nil || errors.Is(err, queue.ErrUnavailable) { // stored, or perhaps
		s.taken.tokens = nil
	}
	if err == nil {
		s.in.metrics.accepted(time.Since(started))
		return reply(smtp.Reply{Code: 250, Enhanced: "0.0", Text: "queued as " + string(id)})
	}
	return s.replyTo(err)
}

// replyTo is the reply for everything that can go wrong with a content.
func (s *session) replyTo(err error) error {
	var refused *smtp.Error
	var denied *deniedError
	var lost *lostError
	switch {
	case errors.As(err, &denied):
		return s.refuse("data", denied.verdict)
	case errors.As(err, &refused):
		return s.answer(event.Refusal{Stage: "data", Rule: event.CauseOf(refused.Reply), Reason: refused.Error(), Reply: refused.Reply})
	case errors.As(err, &lost): // nobody may be there to read it
		return s.answer(event.Refusal{Stage: "data", Rule: event.CauseClientLost, Reason: lost.Error(), Reply: smtp.ReplyLocalError})
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

// lostError is a client that did not finish its content: neither its mail nor
// we are at fault.
type lostError struct{ err error }

func (e *lostError) Error() string { return "read content: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// accept reads the content and stores it under id.
func (s *session) accept(id mail.QueueID, content io.Reader) error {
	start, header, body, err := mail.ReadHeader(content, mail.MaxHeader)
	if errors.Is(err, mail.ErrHeaderTooLarge) {
		err = smtp.Refuse(smtp.ReplyHeaderTooBig, nil)
	}
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
	at := time.Now().UTC()
	written := s.rewrite(header)
	prefix, messageID := complete(s.trace(id, at), header, id, s.in.cfg.Relay.Hostname, at)
	for _, part := range [][]byte{prefix, written, separator, start[body:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	if err := s.copyBody(w, content, start[len(header):cap(start)]); err != nil {
		return err
	}
	if fault := s.conn.BodyFault(); fault != nil {
		return s.contentError(fault)
	}
	defer newHurry(replyWithin, cancel).stop()
	defer s.in.bus.Intake.Begin()() // from here on the client waits for us
	a, err := s.decideAgain(written)
	if err != nil {
		return err
	}
	a.Quirks = append(s.touched(header, written), s.marks(header)...)
	a.At, a.MessageID = at, bounded(messageID)
	switch _, err = w.Commit(a); {
	case err == nil:
		s.in.intake.accepted(a)
	case errors.Is(err, queue.ErrUnavailable):
		s.in.late.add(id)
	}
	return err
}

// separator ends the header section; where the client sent none it is added.
// The last line of the header is complete: wire sees to that.
var separator = []byte("\r\n")

// copyBody streams the rest of the content, telling apart a client that fails
// and a store that does. It goes through buf unless that is small.
func (s *session) copyBody(w io.Writer, content io.Reader, buf []byte) error {
	if len(buf) < 4<<10 {
		buf = make([]byte, 32<<10)
	}
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
	return &lostError{err}
}

// decideAgain asks authorization for every recipient with the header known:
// the registry may have changed since RCPT. It returns the event, with the
// facts and the revision that this last decision rests on.
func (s *session) decideAgain(header mail.Header) (*event.Accepted, error) {
	from := header.From()
	s.facts.HeaderFrom, s.facts.FromFault, s.facts.Size = from.Addresses, authz.FaultOf(from), s.conn.BodySize()
	reg := s.in.registry()
	var sender authz.Verdict
	for i := range s.env.Recipients {
		s.facts.Recipient, s.facts.Recipients = &s.env.Recipients[i].Address, i
		v := s.decide(reg)
		if !v.Passes() {
			return nil, &deniedError{v}
		}
		if i == 0 { // device, owner and class are the same for all
			sender = v
		}
	}
	s.facts.Recipient = nil
	a := &event.Accepted{
		Class: sender.Class, Env: s.env, Facts: s.facts, Device: sender.Device, Owner: sender.Owner, Revision: reg.Revision,
	}
	if d, ok := reg.Device(sender.Device); ok {
		a.PHI = d.PHI
	}
	if name := s.in.cfg.Ledger.TokenHeader; name != "" {
		a.SubmissionID = bounded(header.Get(name))
	}
	return a, nil
}

// maxRecorded is how much of a field body the books keep, in octets: a line of
// a message has no more (RFC 5322 §2.1.1).
const maxRecorded = 998

func bounded(value string) string { return value[:min(len(value), maxRecorded)] }

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
