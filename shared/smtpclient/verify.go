package smtpclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/postrider/postrider/shared/smtp"
)

// Verify asks whether the server would take mail for a recipient: MAIL from the
// null path, RCPT, RSET. The error is nil for yes, and an *smtp.Error is the
// server's reply to RCPT; after any other the session is closed. No mail is sent,
// and the session can be used again.
func (s *Session) Verify(ctx context.Context, to smtp.ForwardPath) error {
	if err := s.begin(ctx); err != nil {
		return s.fail(err)
	}
	err := s.verify(to)
	s.end()
	var verdict *smtp.Error
	if err != nil && (!errors.As(err, &verdict) || verdict.Reply.Code == 421) {
		return s.fail(err)
	}
	if s.broken != nil {
		return s.broken
	}
	return err
}

func (s *Session) verify(to smtp.ForwardPath) error {
	if !to.IsASCII() {
		return fmt.Errorf("%w: the address needs SMTPUTF8", ErrNotAsked)
	}
	if s.dirty {
		if code, err := s.exchange("RSET", "RSET"); err != nil || code/100 != 2 {
			return fmt.Errorf("%w: RSET: %d, %v", ErrNotAsked, code, err) //nolint:errorlint // nothing of it speaks about the recipient
		}
		s.dirty = false
	}
	code, err := s.exchange("MAIL", "MAIL", "FROM:<>")
	if err != nil {
		return err
	}
	if err := s.want(2, code, "MAIL"); err != nil {
		return fmt.Errorf("%w: %s", ErrNotAsked, err.Error())
	}
	s.dirty = true
	code, err = s.exchange("RCPT", "RCPT", "TO:"+to.Bracketed())
	if err != nil {
		return err
	}
	said := s.want(2, code, "RCPT")
	code, err = s.exchange("RSET", "RSET")
	if err == nil && code/100 == 2 {
		s.dirty = false
	}
	return said
}

// ErrNotAsked reports a server that could not be asked about a recipient.
var ErrNotAsked = errors.New("server cannot be asked about the recipient")
