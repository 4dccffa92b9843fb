package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/postrider/postrider/shared/smtp"
)

// window is how many octets of commands may be under way unanswered. It fits
// every TCP window in use, so that neither side waits for the other to read
// (RFC 2920 §3.1).
const window = 16 << 10

// Send makes one mail transaction. Every recipient has an outcome in the
// Result, whatever happens. The error is nil when each of them is a verdict
// (accepted, or a *smtp.Error); otherwise it is what broke the transaction
// off, and is the Err of those recipients that have no verdict.
func (s *Session) Send(ctx context.Context, m Message) (Result, error) {
	t := &transaction{Session: s, m: &m, used: s.transactions > 0}
	t.res.Recipients = make([]RecipientResult, len(m.Recipients))
	if len(m.Recipients) == 0 {
		return t.res, errors.New("send message: no recipients")
	}
	if err := s.begin(ctx); err != nil {
		err = fmt.Errorf("send message to %s: %w", s.remote, err)
		t.settle(0, err)
		return t.res, err
	}
	err := t.run(ctx)
	s.end()
	return t.res, err
}

// transaction is a Send in progress. A recipient is open as long as it has
// neither an Err nor a Reply: not asked yet, or accepted by RCPT so far.
type transaction struct {
	*Session
	m        *Message
	res      Result
	used     bool   // the session has seen a transaction before
	replies  int    // read in this transaction
	skip     []bool // recipients that are not named to the server; nil: none
	accepted int    // recipients that the server accepted
	waiting  bool   // the server waits for content
	next     int    // the first recipient without a reply after the dot
}

func (t *transaction) run(ctx context.Context) error {
	if !t.check() {
		return nil
	}
	if err := t.envelope(); err != nil {
		return t.abort(err)
	}
	if t.accepted == 0 {
		if t.waiting {
			t.loneDot()
		}
		return nil
	}
	if err := t.content(ctx); err != nil {
		return t.abort(err)
	}
	if err := t.final(); err != nil {
		return t.abort(err)
	}
	return nil
}

// check settles what needs no server, and reports whether anything is left.
func (t *transaction) check() bool {
	if refused := t.m.refusal(&t.ext); refused != nil {
		t.settle(0, refused)
		return false
	}
	left := len(t.m.Recipients)
	for i, path := range t.m.Recipients {
		refused := pathRefusal(path, &t.ext)
		if refused == nil {
			continue
		}
		if t.skip == nil {
			t.skip = make([]bool, len(t.m.Recipients))
		}
		t.skip[i] = true
		t.res.Recipients[i] = RecipientResult{refused.Reply, refused}
		left--
	}
	t.res.Chunked = t.ext.Chunking && t.ext.Pipelining && t.m.Size > 0
	return left > 0
}

// settle gives every open recipient from index on the same end, and reports
// whether there was one. Only verdicts have a reply.
func (t *transaction) settle(from int, err error) (any bool) {
	var reply smtp.Reply
	var verdict *smtp.Error
	if errors.As(err, &verdict) {
		reply = verdict.Reply
	}
	for i := from; i < len(t.res.Recipients); i++ {
		if r := &t.res.Recipients[i]; r.Err == nil {
			*r = RecipientResult{reply, err}
			any = true
		}
	}
	return any
}

// abort closes the session in the middle of the transaction, and settles those
// recipients whom the server owes an answer.
func (t *transaction) abort(err error) error {
	t.res.Stale = t.used && t.replies == 0 && wentAway(err)
	t.fail(err)
	var verdict *smtp.Error
	if !t.settle(t.next, err) || errors.As(err, &verdict) {
		return nil
	}
	t.res.Unknown = t.res.DotSent
	return err
}

// wentAway reports that the server closed, as it may after a time of silence.
func wentAway(err error) bool {
	var refused *smtp.Error
	return errors.As(err, &refused) && refused.Reply.Code == 421 ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
