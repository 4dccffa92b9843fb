package ingress

import (
	"errors"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// AuthMechanisms are PLAIN and LOGIN; old printers speak only the latter. Both
// are offered on TLS only, which wire sees to.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth begins an authentication exchange (RFC 4954).
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return &exchange{s, sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && identity != user {
				return s.failed(user) // nobody may act for another
			}
			return s.authenticate(user, password)
		})}, nil
	case sasl.Login:
		return &exchange{s, &loginServer{authenticate: s.authenticate}}, nil
	}
	return nil, gosmtp.ErrAuthUnknownMechanism
}

// exchange gives every error of a mechanism a reply of ours: what is no
// verdict on the credentials is a response that cannot be read (RFC 4954 §4).
type exchange struct {
	session *session
	sasl.Server
}

// Next takes the client's answer and gives the next prompt.
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.Server.Next(response)
	var said *gosmtp.SMTPError
	if err != nil && !errors.As(err, &said) {
		err = e.session.answer(event.Refusal{Stage: "auth", Rule: "syntax", Reason: err.Error(), Reply: smtp.ReplySyntax})
	}
	return challenge, done, err
}

// authenticate checks a user name and secret against the registry.
func (s *session) authenticate(user, password string) error {
	if s.in.rules.Sandbox { // any name and password will do
		s.facts.Identity = "sandbox"
		return nil
	}
	select {
	case s.in.secrets <- struct{}{}:
		defer func() { <-s.in.secrets }()
	case <-s.in.ctx.Done():
		return s.answer(event.Refusal{Stage: "auth", Rule: "trouble", Reason: "stopping", Reply: smtp.ReplyAuthUnavailable})
	}
	hash := ""
	if c, ok := s.in.registry().Credential(user); ok {
		hash = c.Hash
	}
	if !registry.CheckSecret(hash, password) {
		return s.failed(user)
	}
	s.facts.Identity = user
	s.in.metrics.authenticated("ok")
	return nil
}

// maxIdentity is how much of a claimed user name the evidence keeps, in octets.
const maxIdentity = 256

// failed answers 535 in the same words for an unknown user and a wrong secret.
func (s *session) failed(user string) error {
	s.in.metrics.authenticated("failed")
	facts := s.facts
	facts.Identity = user[:min(len(user), maxIdentity)]
	return s.answer(event.Refusal{Stage: "auth", Rule: "credentials", Facts: facts, Reply: smtp.ReplyAuthFailed})
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
