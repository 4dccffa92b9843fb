package service

import (
	"context"
	"errors"
	"io/fs"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
)

// Exit codes of every program of the relay.
const (
	ExitDone         = 0
	ExitError        = 1
	ExitUsage        = 2 // usage or configuration
	ExitNotFound     = 3
	ExitNotPermitted = 4
	ExitConflict     = 5
	ExitUnreachable  = 6
	ExitPartly       = 7
	ExitNo           = 10 // the answer is no
	ExitUnbalanced   = 20
	ExitInterrupted  = 130
)

// ErrUnreachable reports a bus or service that does not answer.
var ErrUnreachable = errors.New("unreachable")

// Exit is an error that says its exit code.
type Exit struct {
	Code int
	Err  error
}

// Error is the text of the cause.
func (e *Exit) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Exit) Unwrap() error { return e.Err }

// ExitCode is the exit code for an error.
func ExitCode(err error) int {
	var exit *Exit
	var problems config.Problems
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &problems), errors.Is(err, ErrNoBus),
		errors.Is(err, queue.ErrNotDurable), errors.Is(err, queue.ErrSyncUnknown), errors.Is(err, queue.ErrTooOld), errors.Is(err, queue.ErrSystemAccess),
		errors.Is(err, natsd.ErrPurpose), errors.Is(err, natsd.ErrUnreadable):
		return ExitUsage
	case errors.Is(err, natsd.ErrInUse):
		return ExitConflict
	case errors.Is(err, ErrUnreachable), errors.Is(err, queue.ErrUnavailable):
		return ExitUnreachable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, fs.ErrPermission): // a file or a port of somebody else
		return ExitNotPermitted
	}
	return ExitError
}
