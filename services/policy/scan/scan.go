// Package scan asks content scanners about a message: rspamd over HTTP, and any
// milter.
//
// Consumes a content as a stream, each scanner one of its own; nothing is held
// in memory but a chunk. Produces a [Finding]: what is to become of the message,
// who said so and why, and header fields to put before it.
//
// What scanners say means here:
//
//	no action, accept, continue      Admit
//	add header, rewrite subject      Admit, with fields; the content itself is never changed
//	greylist                         Admit: who has had its 250 does not come again, and is known
//	soft reject, tempfail            Later
//	reject                           Refuse or Hold, as configured
//	quarantine, discard              Hold: nothing is silently discarded
//
// Of several scanners the one that objects most counts.
//
// Failures: a scanner that does not answer in time, answers what cannot be read,
// or answers too much is down; then the configuration says what becomes of the
// message, and the finding says that it was so. A scanner that is down several
// times in a row is left alone for a while. An error of Scan is trouble with the
// content, and says nothing about the message.
//
// Limits: answers of up to 1 MiB; texts and fields are cut to what a record and
// a header bear, and have no control characters.
package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
)

// Finding is what scanners say about a message.
type Finding struct {
	Outcome authz.Outcome
	// Scanner is who said so, and why.
	Scanner string
	// Fields are complete header fields with CRLF to put before the message.
	Fields string
	// Down reports that a scanner did not answer, and that the outcome is what the
	// configuration says for that.
	Down bool
}

// Content opens the content of a message from its beginning.
type Content func(context.Context) (io.ReadCloser, error)

// Scanners are those that are configured.
type Scanners struct {
	all      []*guarded
	timeout  time.Duration
	whenDown authz.Outcome
	slots    chan struct{}
}

// concurrent is how many messages are scanned at a time.
const concurrent = 16

// New makes the scanners that are configured; nil when there is none. hostname
// is that of the relay.
func New(c config.Scan, hostname string) (*Scanners, error) {
	s := &Scanners{timeout: time.Duration(c.Timeout), whenDown: authz.Outcome(c.WhenDown), slots: make(chan struct{}, concurrent)}
	reject := authz.Outcome(c.OnReject)
	if c.Rspamd != "" {
		r, err := newRspamd(c.Rspamd, hostname, reject)
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, guard("rspamd", r))
	}
	if c.Milter != "" {
		m, err := newMilter(c.Milter, hostname, reject)
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, guard("milter", m))
	}
	if len(s.all) == 0 {
		return nil, nil
	}
	return s, nil
}

// Scan asks every scanner about a message.
func (s *Scanners) Scan(ctx context.Context, a *event.Accepted, open Content) (Finding, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Finding{}, fmt.Errorf("scan %s: %w", a.QueueID, ctx.Err())
	}
	var all []Finding
	for _, g := range s.all {
		f, err := s.ask(ctx, g, a, open)
		if err != nil {
			return Finding{}, fmt.Errorf("scan %s: %w", a.QueueID, err)
		}
		all = append(all, f)
	}
	return merge(all), nil
}

// ask asks one scanner. Its error is ours: a scanner's is a finding.
func (s *Scanners) ask(ctx context.Context, g *guarded, a *event.Accepted, open Content) (Finding, error) {
	asking, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	content := &source{open: open}
	f, err := g.breaker.Execute(func() (f Finding, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("answer cannot be read: %v", p)
			}
		}()
		r, err := content.reader(asking)
		if err != nil {
			return f, err
		}
		defer r.Close()
		return g.asked.ask(asking, a, r)
	})
	switch {
	case content.err != nil:
		return f, content.err
	case ctx.Err() != nil: // we stop
		return f, ctx.Err()
	case err != nil:
		return Finding{Outcome: s.whenDown, Down: true, Scanner: shown(fmt.Sprintf("%s does not answer (%v); scan.when_down: %s", g.name, why(err), s.whenDown), maxReason)}, nil
	}
	f.Scanner = shown(g.name+": "+f.Scanner, maxReason)
	return f, nil
}

// why is an error as a record shows it.
func why(err error) string {
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return "and did not several times in a row"
	case errors.Is(err, context.DeadlineExceeded):
		return "not in time"
	}
	return err.Error()
}

// scanner is asked about one message.
type scanner interface {
	ask(ctx context.Context, a *event.Accepted, content io.Reader) (Finding, error)
}

// guarded is a scanner that is left alone for a while when it is down.
type guarded struct {
	name    string
	asked   scanner
	breaker *gobreaker.CircuitBreaker[Finding]
}

const (
	// downAfter is how many failures in a row make a scanner down, and downFor
	// how long it is left alone then.
	downAfter = 5
	downFor   = 15 * time.Second
)

// errOurs marks what is no fault of the scanner.
var errOurs = errors.New("content cannot be read")

func guard(name string, s scanner) *guarded {
	return &guarded{name: name, asked: s, breaker: gobreaker.NewCircuitBreaker[Finding](gobreaker.Settings{
		Name: name, Timeout: downFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= downAfter },
		IsExcluded:  func(err error) bool { return errors.Is(err, errOurs) || errors.Is(err, context.Canceled) },
	})}
}

// source is a content that remembers whether it could be read.
type source struct {
	open Content
	in   io.ReadCloser
	err  error
}

func (s *source) reader(ctx context.Context) (io.ReadCloser, error) {
	in, err := s.open(ctx)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	s.in = in
	return &watched{s, ctx}, nil
}

// failed keeps an error, unless it is that of the time that a scanner has.
func (s *source) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	s.err = err
	return fmt.Errorf("%w: %w", errOurs, err)
}

// watched reads a source.
type watched struct {
	*source
	ctx context.Context
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = w.failed(w.ctx, err)
	}
	return n, err
}

func (w *watched) Close() error { return w.in.Close() }

// merge is the finding of the one who objects most; all are named that do as
// much, and the fields of all are put before a message that goes on.
func merge(all []Finding) Finding {
	out := Finding{Outcome: authz.Admit}
	for _, f := range all {
		if rank(f.Outcome) > rank(out.Outcome) {
			out.Outcome = f.Outcome
		}
	}
	var said []string
	for _, f := range all {
		out.Fields += f.Fields
		if f.Outcome == out.Outcome {
			said = append(said, f.Scanner)
			out.Down = out.Down || f.Down
		}
	}
	out.Scanner = strings.Join(said, "; ")
	return out
}

func rank(o authz.Outcome) int {
	switch o {
	case authz.Later:
		return 1
	case authz.Hold:
		return 2
	case authz.Refuse:
		return 3
	}
	return 0
}
