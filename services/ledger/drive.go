package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// recoverer is the actor in records of what recovery did unasked, and of what
// it wrote again.
const recoverer = "recovery"

// driver carries out the steps of a plan. Each of them may be done twice.
type driver struct {
	*survey
	// actor is who confirmed the plan.
	actor string
	// round is a number that no other round of recovery has: within the
	// duplicate window the bus would take what it lost for what it has.
	round string
}

// do carries out one step.
func (d *driver) do(ctx context.Context, f *fact, s step) error {
	switch s.action {
	case books.ActionEnter:
		return d.enter(ctx, f)
	case books.ActionSettle:
		return d.settle(ctx, f, s.rcpts)
	case books.ActionReport:
		return d.report(ctx, f, s.rcpts)
	case books.ActionHold:
		return d.hold(ctx, f, s.rcpts)
	case books.ActionDrive:
		return d.drive(ctx, f, s.rcpts)
	}
	return nil
}

// drive sends a message through the relay again, for those who wait. The record
// comes first: it voids the jobs of lower drives.
func (d *driver) drive(ctx context.Context, f *fact, rcpts []openRecipient) error {
	a, ref, err := d.accepted(ctx, f)
	if err != nil {
		return err
	}
	n := f.drive + 1
	e := admittedTo(f, a, ref, rcpts)
	e.Drive = n
	r := event.Record{Stage: event.StageLedger, Outcome: event.Driven, QueueID: f.queueID, Drive: n, Actor: d.actor, Reason: "lost from the streams"}
	for _, rcpt := range e.Env.Recipients {
		r.Recipients = append(r.Recipients, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original})
	}
	drive := "drive-" + strconv.Itoa(n)
	if err := d.bus.Record(ctx, drive, r); err != nil {
		return err
	}
	_, err = d.bus.Publish(ctx, queue.AdmittedSubject(e.Class.Lane(), queue.ShardOf(f.queueID)), string(f.queueID)+"/"+drive, event.Encode(&e))
	return err
}

// admittedTo is the event that admits a message to some of its recipients.
func admittedTo(f *fact, a *event.Accepted, ref event.ContentRef, rcpts []openRecipient) event.Admitted {
	e := event.Admitted{
		Schema: event.Schema, QueueID: f.queueID, AcceptedAt: a.At, Class: f.class, Env: a.Env,
		MessageID: a.MessageID, SubmissionID: a.SubmissionID, Content: ref,
		Device: f.device, Owner: f.owner, ReportOf: a.ReportOf, PHI: a.PHI || f.phi, Origin: a.Origin(),
	}
	e.Env.Recipients = slices.DeleteFunc(slices.Clone(a.Env.Recipients), func(r mail.Recipient) bool {
		return !slices.ContainsFunc(rcpts, func(o openRecipient) bool { return o.address == r.Address.String() })
	})
	return e
}

// hold holds a message again that was held. What its record says of the rule and
// the reason is all that is left of them.
func (d *driver) hold(ctx context.Context, f *fact, rcpts []openRecipient) error {
	a, ref, err := d.accepted(ctx, f)
	if err != nil {
		return err
	}
	h := &event.Held{At: a.At, Message: admittedTo(f, a, ref, rcpts)}
	h.Rule, h.Reason, _ = strings.Cut(rcpts[0].decided.reason, ": ")
	// What was admitted when it was released before has the numbers up to there.
	h.Message.First = 2 * len(a.Env.Recipients)
	h.Message.Drive = f.drive // jobs of a lower one are void
	return d.bus.HoldAgain(ctx, h)
}

// accepted reads what was accepted, and says where the content is.
func (d *driver) accepted(ctx context.Context, f *fact) (*event.Accepted, event.ContentRef, error) {
	a, content, err := d.bus.Content(ctx, f.queueID, f.content)
	if err != nil {
		return nil, event.ContentRef{}, err
	}
	content.Close()
	return a, a.Ref(f.content.Stream, f.content.Seq), nil
}

// report asks again for the reports about recipients who failed.
func (d *driver) report(ctx context.Context, f *fact, rcpts []openRecipient) error {
	var asked []place
	for i := range rcpts {
		at := rcpts[i].failed
		if slices.Contains(asked, at) { // one record, one report
			continue
		}
		asked = append(asked, at)
		failure, err := d.failure(ctx, f, at)
		if err == nil {
			err = d.reportAgain(ctx, failure)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// failure is what was asked for when the record of a failure was written.
func (d *driver) failure(ctx context.Context, f *fact, at place) (*event.Failure, error) {
	accepted, err := d.acceptedRecord(ctx, f)
	if err != nil {
		return nil, err
	}
	r, err := d.recordAt(ctx, at)
	if err != nil {
		return nil, err
	}
	return failureOf(f, accepted, r), nil
}

// failureOf is the failure that a record tells of, under the identity it had.
func failureOf(f *fact, accepted, r *event.Record) *event.Failure {
	m := accepted.Message
	out := &event.Failure{
		Schema: event.Schema, Kind: event.KindFailed, ID: event.AttemptID(r.Job, r.Attempt, r.Drive), QueueID: f.queueID,
		AcceptedAt: m.AcceptedAt, At: r.At, Env: mail.Envelope{ReversePath: m.ReversePath}, MessageID: m.MessageID, Content: f.content,
		Recipients: r.Recipients, Device: m.Device, Owner: m.Owner, Report: m.ReportOf, PHI: m.PHI,
	}
	if r.Stage == event.StagePolicy {
		out.ID = string(f.queueID) + "-policy"
	}
	if r.Reason == event.ReasonExpired {
		out.Kind = event.KindExpired
	}
	for _, rcpt := range r.Recipients {
		out.Env.Recipients = append(out.Env.Recipients, mail.Recipient{Address: rcpt.Address, Original: rcpt.Original})
	}
	return out
}

// reportAgain asks for a report. Where it is in MAIL already, only the record
// is missing that says so.
func (d *driver) reportAgain(ctx context.Context, f *event.Failure) error {
	id := f.ReportID()
	known, err := scanValues[int](d.li.conn.QueryContext(ctx, `SELECT 1 FROM messages WHERE queue_id = ? AND accepted_seq <> 0
		UNION ALL SELECT 1 FROM temp.listed_mail WHERE queue_id = ?`, string(id), string(id)))
	if err != nil {
		return fmt.Errorf("look for report %s: %w", id, err)
	}
	if len(known) == 0 {
		_, err := d.bus.Publish(ctx, queue.ReportSubject(f.Kind), "recovery-"+d.round+"/"+string(f.Kind)+"/"+f.ID, event.Encode(f))
		return err
	}
	r := event.Record{
		Stage: event.StageLedger, Outcome: event.Bounced, QueueID: f.QueueID, Recipients: f.Recipients, Job: f.ID,
		Report: id, Actor: d.actor, Reason: "the report was written, and its record was not",
	}
	if f.Kind == event.KindExpired {
		r.Outcome = event.Expired
	}
	return d.bus.Record(ctx, f.ID, r)
}

// enter writes the accepted record again, as far as MAIL tells.
func (d *driver) enter(ctx context.Context, f *fact) error {
	a, ref, err := d.accepted(ctx, f)
	if err != nil {
		return err
	}
	r := event.Record{
		At: a.At, Stage: event.StageLedger, Outcome: event.Entered, QueueID: a.QueueID, Actor: d.actor,
		Message: &event.MessageRecord{
			AcceptedAt: a.At, MessageID: a.MessageID, SubmissionID: a.SubmissionID, ReversePath: a.Env.ReversePath,
			Size: a.Size, Class: f.class, Device: f.device, Owner: f.owner, Facts: a.Facts,
			Verdict:  authz.Verdict{Outcome: authz.Admit, Rule: recoverer, Reason: "the record of the decision was lost"},
			Revision: a.Revision, Content: ref, ReportOf: a.ReportOf, Quirks: a.Quirks, PHI: a.PHI,
		},
	}
	for _, rcpt := range a.Env.Recipients {
		r.Recipients = append(r.Recipients, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original})
	}
	return d.bus.Record(ctx, recoverer, r)
}

// settle writes the ends of recipients again that an earlier index knows.
func (d *driver) settle(ctx context.Context, f *fact, rcpts []openRecipient) error {
	for i := range rcpts {
		r, err := settledRecord(f.queueID, &rcpts[i].known)
		if err == nil {
			err = d.bus.Record(ctx, rcpts[i].address, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settledRecord is the end of a recipient as an earlier index tells it.
func settledRecord(id mail.QueueID, known *recipient) (event.Record, error) {
	rr := event.RecipientRecord{RemoteMTA: known.last.remoteMTA, PossibleDuplicate: known.possibleDup}
	if err := rr.Address.UnmarshalText([]byte(known.address)); err != nil {
		return event.Record{}, fmt.Errorf("settle %s: %w", id, err)
	}
	code, text, _ := strings.Cut(known.last.diagnostic, " ")
	if n, err := strconv.Atoi(code); err == nil {
		rr.Reply = smtp.ParseReply(n, []string{text})
	}
	return event.Record{
		At: known.settledAt, Stage: event.StageLedger, Outcome: event.Outcome(books.States[known.state]), QueueID: id,
		Recipients: []event.RecipientRecord{rr}, Attempt: known.attempts, Actor: recoverer,
		Reason: strings.TrimSpace("an earlier index of LEDGER tells so; " + strings.TrimSpace(known.decided.actor+" "+known.decided.reason)),
	}, nil
}

// acceptedRecord reads the accepted record of a message.
func (d *driver) acceptedRecord(ctx context.Context, f *fact) (*event.Record, error) {
	return d.find(ctx, f.acceptedSeq, func(_ int, r *event.Record) bool {
		return r.QueueID == f.queueID && r.Outcome == event.Entered && r.Message != nil
	})
}

func (d *driver) recordAt(ctx context.Context, at place) (*event.Record, error) {
	return d.find(ctx, at.seq(), func(line int, _ *event.Record) bool { return line == at.line() })
}

// find finds one of the records in a message of LEDGER.
func (d *driver) find(ctx context.Context, seq uint64, is func(line int, r *event.Record) bool) (*event.Record, error) {
	data, err := d.bus.Read(ctx, queue.StreamLedger, seq)
	if err != nil {
		return nil, err
	}
	line := 0
	for text := range bytes.Lines(data) {
		if r, err := event.Decode[event.Record](text); err == nil && is(line, r) {
			return r, nil
		}
		line++
	}
	return nil, fmt.Errorf("read LEDGER/%d: %w", seq, errNoRecord)
}

// errNoRecord reports that LEDGER has no such record where the index says.
var errNoRecord = errors.New("it has no such record")

// unanswerable reports an error that another try does not mend: what is needed
// is no longer there, or is none.
func unanswerable(err error) bool {
	return errors.Is(err, queue.ErrContentGone) || errors.Is(err, errNoRecord) || errors.Is(err, event.ErrUnreadable)
}

// driveTimeout bounds the steps of one message.
const driveTimeout = time.Minute
