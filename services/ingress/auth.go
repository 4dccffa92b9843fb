package ingress

import (
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/authority"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtp"
)

// AuthMechanisms are PLAIN and LOGIN; old printers speak only the latter. Both
// are offered on TLS only, which wire sees to.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth begins an authentication exchange (RFC 4954).
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return &exchange{s, true, sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && identity != user { // nobody may act for another
				return s.unauthenticated(user, time.Now(), &authority.Error{Kind: authority.Wrong, Authority: authz.Local, Reason: "acts for another name"})
			}
			return s.authenticate(user, password)
		})}, nil
	case sasl.Login:
		return &exchange{s, false, &loginServer{authenticate: s.authenticate}}, nil
	}
	return nil, s.answer(event.Refusal{Stage: "auth", Rule: event.CauseMechanism, Reason: fmt.Sprintf("AUTH %q", mechanism), Reply: smtp.ReplyAuthMechanism})
}

// exchange gives every error of a mechanism a reply of ours: what is no
// verdict on the credentials is a response that cannot be read (RFC 4954 §4).
type exchange struct {
	session *session
	plain   bool
	sasl.Server
}

// Next takes the client's answer and gives the next prompt. An empty answer to
// PLAIN is an empty name and password (W21).
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if response != nil && len(response) == 0 && e.plain {
		return nil, true, e.session.authenticate("", "")
	}
	challenge, done, err = e.Server.Next(response)
	var said *gosmtp.SMTPError
	if err != nil && !errors.As(err, &said) {
		err = e.session.answer(event.Refusal{Stage: "auth", Rule: event.CauseSyntax, Reason: err.Error(), Reply: smtp.ReplySyntax})
	}
	return challenge, done, err
}

// authenticate asks the authorities about a user name and password.
func (s *session) authenticate(user, password string) error {
	if s.in.rules.Sandbox { // any name and password will do
		s.facts.Identity = "sandbox"
		return nil
	}
	began := time.Now()
	id, err := s.in.authorities.Check(s.in.ctx, user, password)
	if err != nil {
		return s.unauthenticated(user, began, err)
	}
	s.facts.Identity, s.facts.Authority = id.Name, id.Authority
	s.in.metrics.authenticated("ok")
	return nil
}

const (
	// maxIdentity is how much of a claimed user name the evidence keeps, in octets.
	maxIdentity = 256
	// failedAfter is how long an authentication takes that fails: longer than any
	// authority needs, so that nobody learns which names there are.
	failedAfter = 300 * time.Millisecond
)

// unauthenticated answers 535 in the same words, after the same time, whatever
// is wrong with name or password; the reason is in the evidence only.
func (s *session) unauthenticated(user string, began time.Time, err error) error {
	facts := s.facts
	facts.Identity = user[:min(len(user), maxIdentity)]
	var why *authority.Error
	if !errors.As(err, &why) || why.Kind == authority.Unavailable {
		s.in.metrics.authenticated("unavailable")
		return s.answer(event.Refusal{Stage: "auth", Rule: event.CauseTrouble, Reason: err.Error(), Facts: facts, Reply: smtp.ReplyAuthUnavailable})
	}
	s.in.metrics.authenticated("failed")
	late := time.NewTimer(time.Until(began.Add(failedAfter)))
	defer late.Stop()
	select {
	case <-late.C:
	case <-s.in.ctx.Done():
	}
	return s.answer(event.Refusal{Stage: "auth", Rule: event.CauseCredentials, Reason: err.Error(), Facts: facts, Reply: smtp.ReplyAuthFailed})
}

// loginServer is the server side of the LOGIN mechanism, which has no RFC: two
// prompts, two answers.
type loginServer struct {
	authenticate func(user, password string) error
	user         string
	step         int
}

// Next takes the client's answer and gives the next prompt.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch l.step {
	case 0:
		l.step = 1
		if response == nil {
			return []byte("Username:"), false, nil
		}
		fallthrough // an initial response is the user name
	case 1:
		l.step = 2
		l.user = string(response)
		return []byte("Password:"), false, nil
	case 2:
		l.step = 3
		return nil, true, l.authenticate(l.user, string(response))
	}
	return nil, true, errors.New("unexpected response")
}
