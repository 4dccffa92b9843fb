package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postrider/postrider/shared/event"
)

// Bounds of one request of a listing, so that memory does not grow with the
// length of a queue.
const (
	listBatch   = 512
	listBytes   = 4 << 20
	listTimeout = 15 * time.Second
)

// List hands every message of a stream from sequence from on to each, in
// order, without taking it. filter is a subject that may have wildcards; empty
// means all. Messages stored while it reads are included, so that what moves
// within the stream is never missed: it only ever moves to the end. An error
// of each ends the listing and is returned.
func (b *Bus) List(ctx context.Context, stream, filter string, from uint64, each func(*jetstream.RawStreamMsg) error) error {
	if filter == "" {
		filter = ">"
	}
	for from = max(from, 1); ; {
		next, more, err := b.listBatch(ctx, stream, filter, from, each)
		if err != nil {
			return fmt.Errorf("list %s: %w", stream, err)
		}
		if !more {
			return nil
		}
		from = next
	}
}

// listBatch reads one batch and says where the next one begins.
func (b *Bus) listBatch(ctx context.Context, stream, filter string, from uint64, each func(*jetstream.RawStreamMsg) error) (next uint64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	batch, err := jetstreamext.GetBatch(ctx, b.JS, stream, listBatch,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchSubject(filter), jetstreamext.GetBatchMaxBytes(listBytes))
	if err != nil {
		return 0, false, err
	}
	for m, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		if err := each(m); err != nil {
			return 0, false, err
		}
		next = m.Sequence + 1
		pending, err := strconv.ParseUint(m.Header.Get("Nats-Num-Pending"), 10, 64)
		more = err != nil || pending > 0
	}
	// A batch that was cut short ends like one that is complete.
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	if next == 0 {
		return 0, false, errors.New("the server sent an empty batch")
	}
	return next, more, nil
}

// JobEntry is one job as it lies in DELIVER.
type JobEntry struct {
	// Job is nil when it cannot be read; Err says why.
	Job *event.Job
	Err error
	// Subject and Seq are where it lies, Stored since when.
	Subject string
	Seq     uint64
	Stored  time.Time
	// Next is when a deferred job becomes ready, and Target where it then goes.
	// A job that is ready, or with a worker, has neither.
	Next   time.Time
	Target string
}

// Deferred reports a job that waits for its time.
func (e *JobEntry) Deferred() bool { return e.Target != "" }

// Headers of scheduled messages (NATS ADR-51).
const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	headerScheduler      = "Nats-Scheduler"
	headerScheduleNext   = "Nats-Schedule-Next"
)

// ListJobs hands every job of DELIVER, ready and deferred, to each.
func (b *Bus) ListJobs(ctx context.Context, each func(JobEntry) error) error {
	return b.ListJobsOf(ctx, "", each)
}

// ListJobsOf is ListJobs for the subjects that filter matches, such as
// LaterSubject(destination, "*").
func (b *Bus) ListJobsOf(ctx context.Context, filter string, each func(JobEntry) error) error {
	return b.List(ctx, StreamDeliver, filter, 0, func(m *jetstream.RawStreamMsg) error { return each(jobEntry(m)) })
}

func jobEntry(m *jetstream.RawStreamMsg) JobEntry {
	e := JobEntry{Subject: m.Subject, Seq: m.Sequence, Stored: m.Time, Target: m.Header.Get(headerScheduleTarget)}
	e.Job, e.Err = event.Decode[event.Job](m.Data)
	if at, ok := strings.CutPrefix(m.Header.Get(headerSchedule), "@at "); ok {
		if t, err := time.Parse(time.RFC3339, at); err == nil {
			e.Next = t
		}
	}
	return e
}

// ErrMoved reports a job that is no longer where it was listed: its time has
// come, or somebody else was faster.
var ErrMoved = errors.New("job is no longer where it was")

// Expedite makes a deferred job ready now. Storing it there and removing it
// from where it waits is one step in the server, so that it is never in both
// places and never in none. It is ErrMoved when the job no longer waits as
// listed.
func (b *Bus) Expedite(ctx context.Context, e JobEntry) error {
	if !e.Deferred() || e.Job == nil {
		return fmt.Errorf("expedite %s: %w", e.Subject, ErrMoved)
	}
	m := &nats.Msg{Subject: e.Target, Data: event.Encode(e.Job), Header: nats.Header{
		headerScheduler:    []string{e.Subject},
		headerScheduleNext: []string{"purge"},
	}}
	id := "expedite/" + e.Subject + "/" + strconv.FormatUint(e.Seq, 10)
	_, err := b.publish(ctx, m, id, jetstream.WithExpectLastSequenceForSubject(e.Seq, e.Subject))
	if Overtaken(err) {
		return fmt.Errorf("expedite %s: %w", e.Subject, ErrMoved)
	}
	if err != nil {
		return fmt.Errorf("expedite %s: %w", e.Subject, err)
	}
	return nil
}
