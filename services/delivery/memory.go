package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// The memory is bounded by age and by number: an acknowledgement that was lost
// brings a job back within minutes, not days.
const (
	rememberFor = time.Hour
	rememberMax = 100_000 // jobs
)

// settlements tells which recipients of a job still await delivery. It is
// asked before anything is sent. An error is our trouble: the job waits.
type settlements interface {
	Outstanding(ctx context.Context, job *event.Job) ([]mail.Recipient, error)
}

// memory is what this process did with its jobs in the last hour: a job that
// comes back because its acknowledgement was lost, or because what followed
// from it could not be stored, is not sent again.
type memory struct {
	mu   sync.Mutex
	jobs map[string]*trace // by Job.ID
	// order has every job as often as it was begun, oldest first.
	order []mention
}

// trace is what is known of one job.
type trace struct {
	drive, attempt int
	running        bool
	// decided is what followed from the attempt; stored says that all of it is.
	decided *settlement
	stored  bool
	// turned is the sequence of the message that was given an appointment.
	turned uint64
	// clean: no dot was sent for this attempt, as far as anybody can know.
	clean bool
	// done are the recipients whose end is stored.
	done []smtp.ForwardPath
	at   time.Time
}

type mention struct {
	id string
	at time.Time
}

func newMemory() *memory { return &memory{jobs: map[string]*trace{}} }

// standing is what to do with a job.
type standing int

const (
	fresh   standing = iota // send it
	known                   // sent: store what followed from it, again
	settled                 // everything is stored: only acknowledge
	running                 // another copy of it is being handled
)

// begin says how a job stands. After fresh and known the caller must end it.
// doubt reports that an earlier run, of which nothing is known, may have sent
// the final dot: the bus delivers a job again when its worker died.
func (m *memory) begin(job *event.Job, msg queue.Message) (s standing, decided *settlement, doubt bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.jobs[job.ID]
	if t != nil && t.running {
		return running, nil, false
	}
	now := time.Now()
	m.forget(now)
	if t == nil || job.Drive > t.drive || job.Drive == t.drive && job.Attempt > t.attempt {
		t = m.renew(job, t, now)
		t.clean = msg.Delivered <= 1
	}
	switch {
	case job.Drive < t.drive, job.Attempt < t.attempt, t.stored, t.turned == msg.Seq && msg.Seq != 0:
		return settled, nil, false
	case t.decided != nil:
		t.running = true
		return known, t.decided, false
	}
	t.running = true
	return fresh, nil, !t.clean
}

// renew makes the trace of the next attempt. What was done stays known.
func (m *memory) renew(job *event.Job, old *trace, now time.Time) *trace {
	t := &trace{drive: job.Drive, attempt: job.Attempt, at: now}
	if old != nil {
		t.done = old.done
	}
	m.jobs[job.ID] = t
	m.order = append(m.order, mention{job.ID, now})
	return t
}

// forget drops what is too old or too much, but nothing that is under way.
func (m *memory) forget(now time.Time) {
	for n := len(m.order); n > 0; n-- {
		first := m.order[0]
		if now.Sub(first.at) < rememberFor && len(m.order) <= rememberMax {
			return
		}
		m.order = m.order[1:]
		t := m.jobs[first.id]
		switch {
		case t == nil || !t.at.Equal(first.at): // mentioned again later
		case t.running:
			m.order = append(m.order, first)
		default:
			delete(m.jobs, first.id)
		}
	}
}

// decide notes what follows from an attempt, before any of it is stored.
func (m *memory) decide(job *event.Job, s *settlement) {
	m.with(job, func(t *trace) { t.decided = s })
}

// turn notes that the message got an appointment.
func (m *memory) turn(job *event.Job, seq uint64) {
	m.with(job, func(t *trace) { t.turned = seq })
}

// store notes that everything that follows is stored.
func (m *memory) store(job *event.Job, s *settlement) {
	m.with(job, func(t *trace) {
		t.stored, t.decided = true, nil
		t.done = append(slices.Clip(t.done), s.done...)
	})
}

// mark notes before an attempt that a dot may be sent, and after it that none
// was.
func (m *memory) mark(job *event.Job, clean bool) {
	m.with(job, func(t *trace) { t.clean = clean })
}

// end ends what begin began.
func (m *memory) end(job *event.Job) {
	m.with(job, func(t *trace) { t.running = false })
}

func (m *memory) with(job *event.Job, change func(*trace)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.jobs[job.ID]; t != nil {
		change(t)
	}
}

// Outstanding are the recipients for whom this process has stored no end.
func (m *memory) Outstanding(_ context.Context, job *event.Job) ([]mail.Recipient, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.jobs[job.ID]
	if t == nil || len(t.done) == 0 {
		return job.Env.Recipients, nil
	}
	var out []mail.Recipient
	for _, r := range job.Env.Recipients {
		if !slices.Contains(t.done, r.Address) {
			out = append(out, r)
		}
	}
	return out, nil
}
