// Package authority says who a client of AUTH is.
//
// It consumes a user name and a password, and produces the name by which the
// registry knows the client, with the authority that vouched for it. The
// authorities are the registry itself ([Local]), a Kerberos realm ([Kerberos])
// and a directory ([LDAP]); [Authorities] asks them in order.
//
// Guarantees:
//
//   - A name that has a credential with secrets in the registry is checked
//     there and nowhere else, however it is written: nobody becomes it by an
//     account of the same name outside.
//   - Every other name is asked of Kerberos, and of the directory if Kerberos
//     does not know it. Who cannot be asked is not passed over: otherwise an
//     account that is locked there could be used while it is down.
//   - Neither an empty name nor an empty password is ever passed on: a directory
//     calls the latter a success (RFC 4513 §5.1.2).
//   - A KDC is believed only when it knows the key in our keytab; a directory
//     only over TLS with a certificate that verifies, or on loopback where the
//     configuration says so.
//   - No answer takes longer than 5 s, at most 64 questions are with an
//     authority at once, and one that did not answer five times in a row is not
//     asked for 10 s (then once): a dead server does not hold sessions.
//
// Failures: every error is an *[Error]. Three of its kinds are verdicts about
// the client and look the same to it; [Unavailable] is our own trouble.
//
// Limits: passwords are not cached, so every AUTH is a question. Kerberos is
// spoken over TCP, with the AES encryption types only.
package authority

import (
	"context"
	"errors"

	"github.com/postrider/postrider/shared/authz"
)

// Authority checks passwords.
type Authority interface {
	// Check gives the name of whoever has that user name and password. Neither is
	// empty. Every error is an *Error.
	Check(ctx context.Context, user, password string) (identity string, err error)
}

// Kind is what an error means.
type Kind string

// The kinds of errors.
const (
	Unknown     Kind = "unknown"     // there is no such name
	Wrong       Kind = "wrong"       // the password is not that of the name
	Locked      Kind = "locked"      // the name may not be used now, whatever the password
	Unavailable Kind = "unavailable" // nobody could say
)

// Error is why somebody is not authenticated. Its text is for the evidence and
// the log, not for the client.
type Error struct {
	Kind      Kind
	Authority authz.Authority
	Reason    string

	// down: there was no answer, or none to believe.
	down bool
}

func (e *Error) Error() string {
	return string(e.Authority) + ": " + string(e.Kind) + ": " + e.Reason
}

// isDown reports the errors that a circuit breaker counts. What one user's
// account does to an authority must not keep others from it.
func isDown(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.down
}

// kindOf is the kind of any error; Unavailable where it has none.
func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}
