package delivery

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// settlement is all that follows from one attempt, decided once. Storing it
// twice is storing it once, as every part has an identity made from the job,
// the attempt and the run.
type settlement struct {
	job      *event.Job
	run      string
	records  []keyed
	failures []event.Failure
	// later is the job of the next attempt, due at next; nil when none is.
	later *event.Job
	next  time.Time
	// done are the recipients who need no further attempt.
	done []smtp.ForwardPath
}

// keyed is a record with its identity.
type keyed struct {
	key string
	event.Record
}

// reasonExpired is the reason in records of recipients whose time is over.
const reasonExpired = event.ReasonExpired

// The text of remote replies that is kept: of one reply, and in sum over the
// recipients of a job, in octets. A hostile server must not make events that
// are too large to be stored.
const (
	textMost  = 1024
	textLeast = 64
	textSum   = 128 << 10
)

// conclusion is what conclude needs beside the job.
type conclusion struct {
	now      time.Time
	chance   float64 // in [0, 1)
	run      string  // names this run of the attempt among others
	schedule schedule
	reason   string // about our own trouble, for the ledger
	// soon: the attempt was cut short on our side and is continued at once.
	soon bool
}

// conclude decides what follows from an attempt in which every recipient has
// an end.
func conclude(job *event.Job, endings []ending, c conclusion) *settlement {
	s := &settlement{job: job, run: c.run}
	attempt := job.Attempt + 1
	limit := min(textMost, max(textLeast, textSum/max(1, len(endings))))
	pick := func(f fate) (out []event.RecipientRecord) {
		for i := range endings {
			if endings[i].fate == f {
				out = append(out, endings[i].record(limit))
			}
		}
		return out
	}
	if ok := pick(delivered); len(ok) > 0 {
		s.record(job, c, event.Delivered, ok, "")
		s.finish(ok)
	}
	if bad := pick(failed); len(bad) > 0 {
		s.record(job, c, event.Failed, bad, "")
		s.fail(job, c, event.KindFailed, bad)
	}
	rest := pick(delayed)
	if len(rest) == 0 {
		return s
	}
	deadline := c.schedule.deadline(job.AcceptedAt, job.Class)
	next, again := c.schedule.next(c.now, deadline, attempt, c.chance)
	if !again {
		last := diagnosed(job.Diagnosed, rest)
		s.record(job, c, event.Failed, last, reasonExpired)
		s.fail(job, c, event.KindExpired, last)
		return s
	}
	if c.soon {
		next = c.now.Add(time.Second)
	}
	s.record(job, c, event.Delayed, rest, "")
	s.records[len(s.records)-1].Next = next
	s.delay(job, endings, rest, next)
	return s
}

// identity names the attempt that is made of a job.
func identity(job *event.Job) string { return event.AttemptID(job.ID, job.Attempt+1, job.Drive) }

func (s *settlement) record(job *event.Job, c conclusion, outcome event.Outcome, rcpts []event.RecipientRecord, suffix string) {
	// Another run is another record, also of the same attempt: a second delivery
	// must show in the books, and so must what only that run was told.
	key, reason := identity(job)+"/"+c.run, c.reason
	switch {
	case suffix != "":
		key, reason = key+"/expired", suffix
	case outcome == event.Delivered:
		reason = ""
	}
	s.records = append(s.records, keyed{key, event.Record{
		At: c.now.UTC(), Stage: event.StageDelivery, Outcome: outcome, QueueID: job.QueueID,
		Recipients: rcpts, Job: job.ID, Attempt: job.Attempt + 1, Drive: job.Drive, Reason: reason,
	}})
}

func (s *settlement) finish(rcpts []event.RecipientRecord) {
	for _, r := range rcpts {
		s.done = append(s.done, r.Address)
	}
}

// fail asks for a report.
func (s *settlement) fail(job *event.Job, c conclusion, kind event.FailureKind, rcpts []event.RecipientRecord) {
	s.finish(rcpts)
	env := job.Env
	env.Recipients = nil
	for _, r := range rcpts {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: r.Address, Original: r.Original})
	}
	s.failures = append(s.failures, event.Failure{
		Schema: event.Schema, Kind: kind, ID: identity(job), QueueID: job.QueueID, AcceptedAt: job.AcceptedAt,
		At: c.now.UTC(), Env: env, MessageID: job.MessageID, Content: job.Content, Recipients: rcpts,
		Device: job.Device, Owner: job.Owner, Report: job.Report, PHI: job.PHI,
	})
}

// delay makes the job of the next attempt, for those who wait.
func (s *settlement) delay(job *event.Job, endings []ending, rest []event.RecipientRecord, next time.Time) {
	later := *job
	later.Attempt++
	later.Diagnosed = diagnosed(job.Diagnosed, rest)
	later.LastReply = summary(rest[0])
	later.Env.Recipients, later.Doubt = waiting(endings, delayed)
	s.later, s.next = &later, next
}

// waiting are the recipients of one fate, and those of them in doubt.
func waiting(endings []ending, f fate) (rcpts []mail.Recipient, doubt []smtp.ForwardPath) {
	for i := range endings {
		e := &endings[i]
		if e.fate != f {
			continue
		}
		rcpts = append(rcpts, e.Recipient)
		if e.doubt {
			doubt = append(doubt, e.Address)
		}
	}
	return rcpts, doubt
}

// summary is one reply with its origin, short enough for a list.
func summary(r event.RecipientRecord) string {
	s := r.Reply.String()
	if r.RemoteMTA != "" {
		s = r.RemoteMTA + ": " + s
	}
	return clip(s, 256)
}

// diagnosed is the last reply to each waiting recipient. What we conclude
// ourselves does not replace what the destination said: a sender can act on
// "mailbox full", not on "no answer". A doubt is never forgotten.
func diagnosed(before, now []event.RecipientRecord) []event.RecipientRecord {
	out := slices.Clone(now)
	for i, r := range out {
		if r.RemoteMTA != "" {
			continue
		}
		at := slices.IndexFunc(before, func(b event.RecipientRecord) bool { return b.Address == r.Address })
		if at >= 0 && before[at].RemoteMTA != "" {
			out[i] = before[at]
			out[i].PossibleDuplicate = before[at].PossibleDuplicate || r.PossibleDuplicate
		}
	}
	return out
}

// storeTimeout bounds the storing of one settlement: it goes on when the
// service stops, since the mail is already sent.
const storeTimeout = 15 * time.Second

// store writes a settlement: the records, then the events that they announce.
// The job may be acknowledged after it. A crash in between repeats parts.
func store(ctx context.Context, bus *queue.Bus, s *settlement) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	for _, r := range s.records {
		if err := bus.Record(ctx, r.key, r.Record); err != nil {
			return fmt.Errorf("record %s: %w", r.Outcome, err)
		}
	}
	for i := range s.failures {
		f := &s.failures[i]
		if _, err := bus.Publish(ctx, queue.ReportSubject(f.Kind), string(f.Kind)+"/"+f.ID, event.Encode(f)); err != nil {
			return fmt.Errorf("ask for report: %w", err)
		}
	}
	if s.later == nil {
		return nil
	}
	return postpone(ctx, bus, s.later, identity(s.later)+"/"+s.run, s.next)
}

// waitingName is what a job waits under: one that recovery made of the message
// must not take the place of another.
func waitingName(job *event.Job) string {
	if job.Drive == 0 {
		return job.ID
	}
	return job.ID + "~" + strconv.Itoa(job.Drive)
}

// postpone schedules a job.
func postpone(ctx context.Context, bus *queue.Bus, job *event.Job, id string, at time.Time) error {
	target := queue.ReadySubject(job.Class.Lane(), queue.PartitionOf(job.Destination))
	if _, err := bus.PublishLater(ctx, queue.LaterSubject(job.Destination, waitingName(job)), target, id, event.Encode(job), at); err != nil {
		return fmt.Errorf("schedule job: %w", err)
	}
	return nil
}
