package smtptest

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

var errCancelled = errors.New("authentication cancelled")

// authOffered reports that AUTH is possible now: never in the clear, except on
// an MX without TLS.
func (s *session) authOffered() bool {
	return s.mx.options.User != "" && s.user == "" && (s.tls != nil || s.mx.tls == nil) && s.mx.offers("AUTH")
}

// auth is AUTH PLAIN (RFC 4616) and LOGIN.
func (s *session) auth(argument string) error {
	mechanism, initial, _ := strings.Cut(argument, " ")
	var exchange func(string) (user, password string, err error)
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		exchange = s.authPlain
	case "LOGIN":
		exchange = s.authLogin
	}
	switch {
	case s.user != "" || s.tx != nil || s.helo == "":
		return s.reply(smtp.ReplyBadSequence)
	case !s.extended || !s.authOffered():
		return s.reply(replyNotOffered)
	case exchange == nil:
		return s.reply(replyBadMechanism)
	}
	user, password, err := exchange(initial)
	var bad base64.CorruptInputError
	switch {
	case errors.Is(err, errCancelled) || errors.As(err, &bad):
		return s.reply(replyAborted)
	case err != nil:
		return err
	}
	normal := smtp.ReplyAuthFailed
	if same(user, s.mx.options.User) && same(password, s.mx.options.Password) {
		normal = replyAuthenticated
	}
	r, err := s.give(s.ask(StageAuth, Behaviour{}, ""), normal)
	if err != nil {
		return err
	}
	if r.Positive() {
		s.user = user
	}
	return s.reply(r)
}

func (s *session) authPlain(initial string) (user, password string, err error) {
	text, err := s.challenge(initial, "")
	if err != nil {
		return "", "", err
	}
	parts := strings.Split(text, "\x00")
	if len(parts) != 3 || (parts[0] != "" && parts[0] != parts[1]) {
		return "", "", errCancelled
	}
	return parts[1], parts[2], nil
}

func (s *session) authLogin(initial string) (user, password string, err error) {
	if user, err = s.challenge(initial, "Username:"); err != nil {
		return "", "", err
	}
	password, err = s.challenge("", "Password:")
	return user, password, err
}

// challenge returns the initial response, or asks for one (RFC 4954 §4).
func (s *session) challenge(initial, question string) (string, error) {
	if initial == "=" {
		return "", nil
	}
	if initial == "" {
		if err := s.say(334, base64.StdEncoding.EncodeToString([]byte(question))); err != nil {
			return "", err
		}
		line, err := s.line()
		if err != nil {
			return "", err
		}
		if line == "*" {
			return "", errCancelled
		}
		initial = line
	}
	text, err := base64.StdEncoding.DecodeString(initial)
	return string(text), err
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
