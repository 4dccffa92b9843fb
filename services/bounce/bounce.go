// Package bounce writes the reports about mail that could not be delivered.
//
// Consumes REPORT (durable "bounce"). Produces the report as a new message in
// MAIL with the null reverse-path, so that it takes the same road as any
// other; and the ledger's bounced and expired records, the terminal states of
// the recipients concerned.
//
// Guarantees: one report for each failure. Its QueueID derives from the
// original's, so that a repeat is the same message. The terminal record is
// stored after MAIL acknowledged the report, or says why none is due. A
// message with the null reverse-path never causes a report (RFC 5321 §6.1), so
// reports cannot loop. Reports go only to reverse-paths that passed
// authorization when the message was accepted.
//
// Failures: a content that is gone is reported about without its header; a
// store that does not answer delays.
//
// Standards: RFC 3464, RFC 6522, RFC 3834 (Auto-Submitted), RFC 3463.
package bounce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postrider/postrider/services/bounce/internal/dsn"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

// Service is bounce for a process to run.
var Service = service.Service{Name: "bounce", Run: Run}

// Durable is the name of the consumer of REPORT.
const Durable = "bounce"

const concurrency = 16

// Run writes reports until ctx ends.
func Run(ctx context.Context, env *service.Env) error {
	b := &Bouncer{bus: env.Bus, hostname: env.Config.Relay.Hostname, helpURL: env.Config.Relay.HelpURL, metrics: newMetrics(env.Metrics)}
	return env.Bus.Work(ctx, queue.Source{Stream: queue.StreamReport, Durable: Durable, Concurrency: concurrency, Begun: env.Ready}, service.Grace, b.Handle)
}

// Bouncer writes reports.
type Bouncer struct {
	bus      *queue.Bus
	hostname string
	helpURL  string
	metrics  *metrics
}

// Handle writes the report that one failure asks for.
func (b *Bouncer) Handle(ctx context.Context, m queue.Message) error {
	f, err := event.Decode[event.Failure](m.Data)
	if err != nil {
		return queue.Poison(err)
	}
	r := event.Record{Stage: event.StageBounce, Outcome: outcome(f.Kind), QueueID: f.QueueID, Recipients: f.Recipients, Job: f.ID}
	if r.Reason = notDue(f); r.Reason == "" {
		if r.Report, err = b.submit(ctx, f); err != nil {
			return err
		}
	}
	if err := b.bus.Record(ctx, f.ID, r); err != nil {
		return err
	}
	b.metrics.settled(r)
	return nil
}

func outcome(k event.FailureKind) event.Outcome {
	if k == event.KindExpired {
		return event.Expired
	}
	return event.Bounced
}

// notDue says why a failure causes no report; empty means that one is due.
func notDue(f *event.Failure) string {
	switch {
	case f.Env.ReversePath.IsNull():
		return "null reverse-path"
	case f.Report != "":
		return "the message is a report"
	}
	return ""
}

// submit stores the report in MAIL and returns its QueueID.
func (b *Bouncer) submit(ctx context.Context, f *event.Failure) (mail.QueueID, error) {
	header, err := b.header(ctx, f)
	if err != nil && !errors.Is(err, queue.ErrContentGone) {
		return "", fmt.Errorf("report about %s: %w", f.QueueID, err)
	}
	id := f.ReportID()
	content := dsn.Compose(dsn.Report{
		QueueID: id, Original: f.QueueID, Hostname: b.hostname, HelpURL: b.helpURL, To: f.Env.ReversePath,
		AcceptedAt: f.AcceptedAt, At: f.At, Kind: f.Kind, Recipients: f.Recipients,
		Header: header, Unavailable: err != nil,
	})
	w := b.bus.NewContent(ctx, id)
	defer w.Discard()
	if _, err := w.Write(content); err != nil {
		return "", fmt.Errorf("store report about %s: %w", f.QueueID, err)
	}
	_, err = w.Commit(&event.Accepted{
		At: time.Now().UTC(), Class: mail.ClassReport,
		Env:       mail.Envelope{Recipients: []mail.Recipient{{Address: smtp.ForwardPath{Address: f.Env.ReversePath.Address}}}},
		MessageID: "<" + string(id) + "@" + b.hostname + ">",
		Facts:     authz.Facts{Listener: "bounce", Report: true, At: f.At},
		Device:    f.Device, Owner: f.Owner, ReportOf: f.QueueID, PHI: f.PHI,
	})
	if err != nil {
		return "", fmt.Errorf("store report about %s: %w", f.QueueID, err)
	}
	return id, nil
}

// header is the header section of the original.
func (b *Bouncer) header(ctx context.Context, f *event.Failure) (mail.Header, error) {
	content, err := b.bus.Open(ctx, f.QueueID, f.Content)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	start, err := io.ReadAll(io.LimitReader(content, mail.MaxHeader+16<<10))
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	h, _, err := mail.SplitHeader(start, true)
	return h, err
}
