package dnsx

import (
	"errors"
	"fmt"
)

// The definite answers. They stay the same however often one asks.
var (
	// ErrNotExist: there is no such name (NXDOMAIN, RFC 2308 §2.1).
	ErrNotExist = errors.New("no such domain name")
	// ErrNoData: the name exists, without records of this type (RFC 2308 §2.2).
	ErrNoData = errors.New("no records of this type")
	// ErrNotConfirmed: the address has names, none of which leads back to it.
	ErrNotConfirmed = errors.New("no name of the address resolves to it")
	// ErrName: this cannot be a domain name.
	ErrName = errors.New("bad domain name")
)

// TemporaryError says that the DNS gave no answer: SERVFAIL, REFUSED, a lame
// or silent server, a broken reply, a CNAME loop. Asking later may help.
type TemporaryError struct {
	// Question is what was asked, for example "MX campus.test".
	Question string
	// Err says what each server did.
	Err error
}

// Error names the question and what each server did.
func (e *TemporaryError) Error() string { return fmt.Sprintf("look up %s: %v", e.Question, e.Err) }

// Unwrap returns the cause.
func (e *TemporaryError) Unwrap() error { return e.Err }

// Temporary is true, for packages that ask by the convention of net.Error.
func (e *TemporaryError) Temporary() bool { return true }

// Temporary reports that asking again later may give another answer. It holds
// for every error but the definite ones, the end of a context included.
func Temporary(err error) bool {
	return err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrNoData) &&
		!errors.Is(err, ErrNotConfirmed) && !errors.Is(err, ErrName)
}
