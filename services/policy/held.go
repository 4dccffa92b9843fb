package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

// What is held stays in HELD until a person, or for what a limit holds its turn
// (turns.go), decides about it (queue.Decide). Policy carries that out: what follows
// is stored, then the message is taken from HELD, then the decision is
// acknowledged. Whatever is cut short is done again, and does no harm then.

// hold holds the recipients that the decision names. The record comes first:
// HELD has nothing that the books do not know.
func (p *Policy) hold(ctx context.Context, a *event.Accepted, e *event.Admitted) error {
	if e.Hold == nil {
		return nil
	}
	h := &event.Held{At: a.At, Rule: e.Hold.Rule, Reason: e.Hold.Reason, Message: *e}
	if h.Rule == ruleLimit {
		h.Pace = p.pace(e.Device, len(e.Hold.Recipients))
	}
	h.Message.Env.Recipients, h.Message.Hold, h.Message.Refused = e.Hold.Recipients, nil, nil
	h.Message.First = len(a.Env.Recipients)
	r := event.Record{At: a.At, Stage: event.StagePolicy, Outcome: event.Kept, QueueID: a.QueueID, Recipients: recipientsOf(h), Reason: because(h)}
	if err := p.bus.Record(ctx, "", r); err != nil {
		return err
	}
	return p.bus.Hold(ctx, h)
}

// because is the rule that wants a message held, and why.
func because(h *event.Held) string {
	if h.Reason == "" {
		return h.Rule
	}
	return h.Rule + ": " + h.Reason
}

func recipientsOf(h *event.Held) (out []event.RecipientRecord) {
	for _, rcpt := range h.Message.Env.Recipients {
		out = append(out, event.RecipientRecord{Address: rcpt.Address, Original: rcpt.Original})
	}
	return out
}

// carryOutDecisions carries out what is decided until ctx ends.
func (p *Policy) carryOutDecisions(ctx context.Context, begun func()) error {
	return p.bus.Work(ctx, queue.Source{
		Stream: queue.StreamHeld, Durable: Durable, Filter: queue.DecisionSubjects, Concurrency: concurrency, Begun: begun,
	}, service.Grace, p.HandleDecision)
}

// HandleDecision carries out one decision about a held message.
func (p *Policy) HandleDecision(ctx context.Context, m queue.Message) error {
	d, err := event.Decode[event.Decision](m.Data)
	if err != nil {
		return queue.Poison(err)
	}
	h, err := p.bus.HeldPart(ctx, d.QueueID, d.Part)
	if errors.Is(err, queue.ErrNotHeld) {
		return nil // carried out before
	}
	if err != nil {
		return err
	}
	switch {
	case h.DecidedSeq < m.Seq: // acknowledged, it would be carried out by nobody
		return queue.Later(time.Second, "the bus does not show the decision yet")
	case h.DecidedSeq > m.Seq:
		return nil // another took its place, and comes as well
	case d.Verb == event.Release:
		err = p.release(ctx, h, d)
	case d.Verb == event.Bounce:
		err = p.bounce(ctx, h, d, event.KindFailed, reviewed)
	case d.Verb == event.Expire:
		err = p.bounce(ctx, h, d, event.KindExpired, outOfTime)
	case d.Verb == event.Drop && d.Final:
		err = p.bus.Record(ctx, "held/"+d.Part, decided(event.Removed, h, d))
	default:
		return nil // it can be undone still, or was
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", d.Verb, d.QueueID, err)
	}
	if err := p.bus.Unhold(ctx, h); err != nil {
		return err
	}
	p.metrics.decisions.WithLabelValues(string(d.Verb)).Inc()
	return nil
}

// decided is the record of a decision. It has the decision's time, so that one
// that is carried out twice stands there once.
func decided(o event.Outcome, h *queue.HeldEntry, d *event.Decision) event.Record {
	return event.Record{
		At: d.At, Stage: event.StageOperator, Outcome: o, QueueID: d.QueueID, Recipients: recipientsOf(&h.Held),
		Actor: d.Actor, Reason: d.Reason,
	}
}

// ruleReleased is the rule of what a person admits.
const ruleReleased = "released"

// release admits a message, or brings a job back to delivery. The record comes
// first, as that of a drive does.
func (p *Policy) release(ctx context.Context, h *queue.HeldEntry, d *event.Decision) error {
	if err := p.bus.Record(ctx, "held/"+d.Part, decided(event.Released, h, d)); err != nil {
		return err
	}
	// The id has the place in HELD: what is held again is released again.
	id := fmt.Sprintf("%s/%s/%s/%d", d.QueueID, ruleReleased, d.Part, h.Seq)
	if h.Job != nil {
		j := *h.Job
		j.Held++
		j.Released = d.At
		_, err := p.bus.Publish(ctx, queue.ReadySubject(j.Class.Lane(), queue.PartitionOf(j.Destination)), id, event.Encode(&j))
		return err
	}
	e := h.Message
	e.Rule = ruleReleased
	if d.Actor != actorPolicy { // what has its turn is held where people want that
		e.Released = d.At
	}
	subject := queue.AdmittedSubject(e.Class.Lane(), queue.ShardOf(e.QueueID))
	_, err := p.bus.Publish(ctx, subject, id, event.Encode(&e))
	return err
}

// reviewed is the reply that the report of a bounced message shows: why is for
// us. outOfTime is that of one that waited until its time was over.
var (
	reviewed  = smtp.Reply{Code: 550, Enhanced: "7.0", Text: "Not accepted after review by the postmaster."}
	outOfTime = smtp.Reply{Code: 550, Enhanced: "4.7", Text: "Waited in vain for its turn: the sender was over its hourly limit for too long."}
)

// bounce asks for a report to the sender.
func (p *Policy) bounce(ctx context.Context, h *queue.HeldEntry, d *event.Decision, kind event.FailureKind, why smtp.Reply) error {
	r := decided(event.Failed, h, d)
	r.Job = string(d.QueueID) + "-held"
	if h.Job != nil {
		r.Job, r.Drive = h.Part()+"-held", h.Job.Drive
	}
	for i := range r.Recipients {
		r.Recipients[i].Reply = why
	}
	if err := p.bus.Record(ctx, "held/"+d.Part, r); err != nil {
		return err
	}
	e := &h.Message
	f := event.Failure{
		Schema: event.Schema, Kind: kind, ID: event.AttemptID(r.Job, r.Attempt, r.Drive), QueueID: d.QueueID,
		AcceptedAt: e.AcceptedAt, At: d.At, Env: e.Env, MessageID: e.MessageID, Content: e.Content,
		Recipients: r.Recipients, Device: e.Device, Owner: e.Owner, Report: e.ReportOf, PHI: e.PHI,
	}
	_, err := p.bus.Publish(ctx, queue.ReportSubject(f.Kind), f.ID, event.Encode(&f))
	return err
}
