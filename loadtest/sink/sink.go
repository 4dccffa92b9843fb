// Package sink is the mailbox at the far end of a load test: an SMTP server
// that counts. It is one of the three witnesses (see package journal) and
// therefore shares no code with the product it watches.
//
// It takes mail for every domain. A recipient whose local part starts with
// three digits from 400 to 599 and "+" is answered with that code at RCPT;
// every other is accepted. Each message taken becomes a line in the journal
// before its 250 is sent. A message with the null reverse-path whose content
// is a delivery status notification (RFC 3464 in RFC 6522) becomes one line
// for each recipient it reports about.
//
// Offered: PIPELINING (RFC 2920), 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES,
// SIZE, and STARTTLS (RFC 3207) with a certificate of its own making if asked.
// Not offered, so that the relay has to do the work: DSN, CHUNKING.
//
// A copy that is marked acknowledged was journaled before the 250 was written;
// if the relay dies in that instant it will send the message again. That is
// the one duplicate SMTP permits, and the reason that the check has a budget.
//
// Limits: command lines of 4 KiB, header sections read up to 256 KiB, reports
// up to 1 MiB; content is hashed as it comes and never kept.
package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// Config is what a Sink may be told.
type Config struct {
	// Hostname is used in the greeting.
	Hostname string
	// StartTLS offers STARTTLS with a certificate made at the start.
	StartTLS bool
	// DropAfterDot closes the connection instead of answering the dot of
	// every n-th message; 0 never does.
	DropAfterDot int
	// Delay is waited before the answer to the dot.
	Delay time.Duration
	// Transactions, if set, takes a journal.Transaction after each answer to
	// a dot.
	Transactions Recorder
	// IdleTimeout ends a session in which nothing is read for so long.
	// Default: 5 minutes (RFC 5321 §4.5.3.2.7).
	IdleTimeout time.Duration
}

// Recorder takes journal lines. An error means that they are not kept; the
// message is then refused with 451.
type Recorder interface {
	Append(lines ...any) error
}

// Counts are running totals.
type Counts struct {
	Connections int64 `json:"connections"`
	// Messages have been acknowledged; reports are among them.
	Messages int64 `json:"messages"`
	Reports  int64 `json:"reports"`
	// Dropped were taken and not acknowledged, as DropAfterDot asks.
	Dropped int64 `json:"dropped"`
	// RefusedRecipients were answered with the code in their local part.
	RefusedRecipients int64 `json:"refused_recipients"`
	// Octets of content, acknowledged or not.
	Octets int64 `json:"octets"`
}

// Sink is the server.
type Sink struct {
	config  Config
	journal Recorder
	tls     *tls.Config

	connections, messages, reports, dropped, refused, octets, dots atomic.Int64
}

// New makes a Sink that writes to recorder.
func New(config Config, recorder Recorder) (*Sink, error) {
	if config.Hostname == "" {
		config.Hostname = "sink.test"
	}
	if config.IdleTimeout <= 0 {
		config.IdleTimeout = 5 * time.Minute
	}
	if config.DropAfterDot < 0 {
		return nil, fmt.Errorf("drop after dot: %d is negative", config.DropAfterDot)
	}
	s := &Sink{config: config, journal: recorder}
	if config.StartTLS {
		certificate, err := selfSigned(config.Hostname)
		if err != nil {
			return nil, fmt.Errorf("make certificate: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Run serves connections of the listener until ctx ends. It closes the
// listener, lets each session write the answer it owes, and returns when the
// last one has ended. The error is nil after a stop.
func (s *Sink) Run(ctx context.Context, listener net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	// Ending the inner context on every way out lets the sessions go when
	// Accept fails, too.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept connection: %w", err)
		}
		s.connections.Add(1)
		sessions.Go(func() { s.serve(ctx, conn) })
	}
}

// Counts returns the totals so far.
func (s *Sink) Counts() Counts {
	return Counts{
		Connections:       s.connections.Load(),
		Messages:          s.messages.Load(),
		Reports:           s.reports.Load(),
		Dropped:           s.dropped.Load(),
		RefusedRecipients: s.refused.Load(),
		Octets:            s.octets.Load(),
	}
}

// dropsNext counts one dot and reports whether its answer is to be withheld.
func (s *Sink) dropsNext() bool {
	n := s.dots.Add(1)
	return s.config.DropAfterDot > 0 && n%int64(s.config.DropAfterDot) == 0
}

// timed notes how long the answer to a dot took, after which lines were
// journaled.
func (s *Sink) timed(lines []any, answered time.Time) error {
	if s.config.Transactions == nil {
		return nil
	}
	var t journal.Transaction
	for _, line := range lines {
		arrived := line.(journal.Arrival)
		t.MessageID, t.Dot, t.Answered = arrived.MessageID, arrived.Time, answered
		if arrived.Kind == journal.DSN {
			t.Recipients = append(t.Recipients, arrived.Recipient)
		} else {
			t.Recipients = arrived.Recipients
		}
	}
	return s.config.Transactions.Append(t)
}

// arrivals makes the journal lines for one message.
func arrivals(e envelope, c content, now time.Time, acknowledged bool) []any {
	base := journal.Arrival{
		Kind:         journal.Copy,
		Time:         now,
		Token:        headerField(c.header, "X-Ledger"),
		MessageID:    headerField(c.header, "Message-ID"),
		ReversePath:  e.reversePath,
		Recipients:   e.recipients,
		BodySHA256:   c.bodySHA256,
		Acknowledged: acknowledged,
	}
	if e.reversePath != "" {
		return []any{base}
	}
	report, err := ParseReport(c.kept)
	if err != nil {
		// Null reverse-path but no report: an ordinary copy, which the
		// check will look for among the submissions.
		return []any{base}
	}
	var lines []any
	for _, status := range report {
		line := base
		line.Kind = journal.DSN
		line.Token = Token(status.Recipient)
		line.Recipient, line.Action, line.Status = status.Recipient, status.Action, status.Status
		lines = append(lines, line)
	}
	return lines
}
