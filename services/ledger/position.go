package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
)

// positions finds where the queued recipients of a message are, by address.
// The streams are searched from upstream to downstream and the last place
// counts: who moves meanwhile is met at least once.
func (l *Ledger) positions(ctx context.Context, m *message, open []*recipient) (map[string]books.Position, error) {
	s := &search{bus: l.bus, id: m.queueID, at: map[string]books.Position{}}
	destinations := map[string]bool{}
	for _, r := range open {
		s.at[r.address] = books.Position{Place: books.PlaceNone}
		destinations[r.destination] = true
	}
	if err := s.inMail(ctx, m.content); err != nil {
		return nil, fmt.Errorf("search MAIL: %w", err)
	}
	if err := s.inHeld(ctx); err != nil {
		return nil, fmt.Errorf("search HELD: %w", err)
	}
	if err := s.inAdmitted(ctx); err != nil {
		return nil, fmt.Errorf("search ADMITTED: %w", err)
	}
	if err := s.inDeliver(ctx, destinations); err != nil {
		return nil, fmt.Errorf("search DELIVER: %w", err)
	}
	if s.missing() { // a job may have been held meanwhile
		if err := s.inHeld(ctx); err != nil {
			return nil, fmt.Errorf("search HELD: %w", err)
		}
	}
	if err := s.inReport(ctx); err != nil {
		return nil, fmt.Errorf("search REPORT: %w", err)
	}
	if !s.missing() {
		return s.at, nil
	}
	// A job may be filed under another destination than the domain, or have
	// been deferred while its partition was searched.
	if err := s.inJobs(ctx, ""); err != nil {
		return nil, fmt.Errorf("search DELIVER: %w", err)
	}
	return s.at, nil
}

// search is where the recipients of one message were found so far.
type search struct {
	bus *queue.Bus
	id  mail.QueueID
	at  map[string]books.Position
}

// found notes a place of a recipient that is looked for.
func (s *search) found(a string, p books.Position) {
	if _, wanted := s.at[a]; wanted {
		s.at[a] = p
	}
}

// missing reports recipients that were found nowhere.
func (s *search) missing() bool {
	for _, p := range s.at {
		if p.Place == books.PlaceNone {
			return true
		}
	}
	return false
}

// inMail looks whether policy has let go of the message.
func (s *search) inMail(ctx context.Context, content event.ContentRef) error {
	if content.Stream == "" {
		return nil
	}
	floor, err := ackFloor(ctx, s.bus, content.Stream, policyDurable)
	if err != nil || content.Seq <= floor {
		return err
	}
	for a := range s.at {
		s.found(a, books.Position{Place: books.PlaceMail})
	}
	return nil
}

func (s *search) inHeld(ctx context.Context) error {
	return s.bus.HeldPartsOf(ctx, s.id, func(h *queue.HeldEntry) error {
		p := books.Position{Place: books.PlaceHeld, Rule: h.Rule, Reason: h.Reason, Decision: h.Decision}
		for i := range h.Message.Env.Recipients {
			s.found(h.Message.Env.Recipients[i].Address.String(), p)
		}
		return nil
	})
}

func (s *search) inAdmitted(ctx context.Context) error {
	return unsignedMail(ctx, s.bus, func(a *event.Admitted, err error) error {
		if err != nil || a.QueueID != s.id {
			return nil
		}
		for i := range a.Env.Recipients {
			s.found(a.Env.Recipients[i].Address.String(), books.Position{Place: books.PlaceAdmitted})
		}
		return nil
	})
}

// inDeliver looks through the deferred jobs of the destinations and the ready
// ones of their partitions. A job may become ready while it is looked for: the
// ready ones come last.
func (s *search) inDeliver(ctx context.Context, destinations map[string]bool) error {
	partitions := map[int]bool{}
	var filters []string
	for d := range destinations {
		filters = append(filters, queue.LaterSubject(d, "*"))
		partitions[queue.PartitionOf(d)] = true
	}
	for p := range partitions {
		for _, lane := range admittedLanes {
			filters = append(filters, queue.ReadySubject(lane, p))
		}
	}
	for _, filter := range filters {
		if err := s.inJobs(ctx, filter); err != nil {
			return err
		}
	}
	return nil
}

// inJobs looks through the jobs whose subjects the filter matches.
func (s *search) inJobs(ctx context.Context, filter string) error {
	return s.bus.ListJobsOf(ctx, filter, func(e queue.JobEntry) error {
		if e.Job == nil || e.Job.QueueID != s.id {
			return nil
		}
		p := books.Position{Place: books.PlaceReady, Job: e.Job.ID, Next: e.Next, Attempt: e.Job.Attempt, LastReply: e.Job.LastReply}
		if e.Deferred() {
			p.Place = books.PlaceLater
		}
		for i := range e.Job.Env.Recipients {
			s.found(e.Job.Env.Recipients[i].Address.String(), p)
		}
		return nil
	})
}

func (s *search) inReport(ctx context.Context) error {
	return s.bus.List(ctx, queue.StreamReport, "", 0, func(m *jetstream.RawStreamMsg) error {
		f, err := event.Decode[event.Failure](m.Data)
		if err != nil || f.QueueID != s.id {
			return nil
		}
		for i := range f.Recipients {
			s.found(f.Recipients[i].Address.String(), books.Position{Place: books.PlaceReport})
		}
		return nil
	})
}

// traceArriving looks for a QueueID in MAIL that policy has not entered: a
// message is traced from its 250 on.
func (l *Ledger) traceArriving(ctx context.Context, t *books.Trace, text string) (*books.Trace, error) {
	id, err := mail.ParseQueueID(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", books.ErrNotFound, text)
	}
	stream := queue.MailStream(queue.ShardOf(id))
	ref := event.ContentRef{Stream: stream}
	err = unacknowledgedMail(ctx, l.bus, stream, func(at mail.QueueID, seq uint64) error {
		if at == id {
			ref.Seq = seq
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("search MAIL: %w", err)
	}
	if ref.Seq == 0 {
		return nil, fmt.Errorf("%w: %s", books.ErrNotFound, text)
	}
	a, content, err := l.bus.Content(ctx, id, ref)
	if errors.Is(err, queue.ErrContentGone) {
		return nil, fmt.Errorf("%w: %s", books.ErrNotFound, text)
	}
	if err != nil {
		return nil, fmt.Errorf("read MAIL: %w", err)
	}
	content.Close()
	return arriving(t, a), nil
}

// arriving is the trace of a message that is only in MAIL.
func arriving(t *books.Trace, a *event.Accepted) *books.Trace {
	m := &message{
		queueID: a.QueueID, messageID: a.MessageID, submissionID: a.SubmissionID, sender: a.Env.ReversePath.String(),
		device: a.Device, owner: a.Owner, acceptedAt: a.At,
	}
	t.Messages = []books.Message{{
		QueueID: a.QueueID, MessageID: a.MessageID, SubmissionID: a.SubmissionID, Sender: m.sender, Device: a.Device, Owner: a.Owner,
		Class: a.Class, Size: a.Size, AcceptedAt: optional(a.At), ReportOf: a.ReportOf,
		States: map[string]int{books.StateQueued: len(a.Env.Recipients)},
	}}
	for i := range a.Env.Recipients {
		r := &recipient{address: a.Env.Recipients[i].Address.String()}
		t.Recipients = append(t.Recipients, books.Recipient{Row: rowOf(m, r), Position: &books.Position{Place: books.PlaceMail}})
	}
	return t
}
