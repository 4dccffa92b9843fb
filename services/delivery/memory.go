package delivery

import (
	"slices"
	"strconv"
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

// memory is what this process did with its jobs in the last hour: a job that
// comes back because its acknowledgement was lost, or because what followed
// from it could not be stored, is not sent again.
type memory struct {
	mu   sync.Mutex
	jobs map[string]*trace // by name
	// order has every job as often as it was begun, oldest first.
	order []mention
}

// trace is what is known of one job.
type trace struct {
	attempt   int
	partition int
	// delivered is how often the bus had delivered the job when it was first
	// seen in this tenure: more than once, and somebody else had it.
	delivered uint64
	running   bool
	// decided is what followed from the attempt; stored says that all of it is.
	decided *settlement
	stored  bool
	// turned is the message that was given an appointment.
	turned turn
	// judged: it was found out whether an earlier run, of which nothing is
	// known, may have sent the final dot. That holds for the tenure.
	judged bool
	tenure *tenure
	// clean: no dot was sent for this attempt, as far as anybody can know.
	clean bool
	// done are the recipients whose end is stored.
	done []smtp.ForwardPath
	at   time.Time
}

// turn names a message of DELIVER, also when the stream was made anew.
type turn struct {
	seq    uint64
	stored time.Time
}

type mention struct {
	name string
	at   time.Time
}

func newMemory() *memory { return &memory{jobs: map[string]*trace{}} }

// name of a job, also among those that recovery made of the same message.
func name(job *event.Job) string {
	if job.Drive == 0 {
		return job.ID
	}
	return job.ID + "/drive-" + strconv.Itoa(job.Drive)
}

// standing is what to do with a job.
type standing int

const (
	fresh   standing = iota // send it
	known                   // sent: store what followed from it, again
	settled                 // everything is stored: only acknowledge
	running                 // another copy of it is being handled
)

// memo is what the memory says about a job that begins.
type memo struct {
	standing standing
	decided  *settlement
	// judged says that doubt is known: whether an earlier run may have sent the
	// final dot.
	judged, doubt bool
	delivered     uint64
}

// begin says how a job stands. After fresh and known the caller must end it.
func (m *memory) begin(job *event.Job, msg queue.Message, te *tenure) memo {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.jobs[name(job)]
	if t != nil && t.running {
		return memo{standing: running}
	}
	now := time.Now()
	m.forget(now)
	if t == nil || job.Attempt > t.attempt {
		t = m.renew(job, t, now)
		t.tenure, t.delivered = te, msg.Delivered
	}
	if t.tenure != te { // others may have had it since
		t.tenure, t.delivered, t.judged = te, msg.Delivered, false
	}
	switch {
	case job.Attempt < t.attempt, t.stored, t.turned == turnOf(msg) && msg.Seq != 0:
		return memo{standing: settled}
	case t.decided != nil:
		t.running = true
		return memo{standing: known, decided: t.decided}
	}
	t.running = true
	return memo{standing: fresh, judged: t.judged, doubt: !t.clean, delivered: t.delivered}
}

func turnOf(msg queue.Message) turn { return turn{msg.Seq, msg.Stored} }

// renew makes the trace of the next attempt. What was done stays known.
func (m *memory) renew(job *event.Job, old *trace, now time.Time) *trace {
	t := &trace{attempt: job.Attempt, partition: queue.PartitionOf(job.Destination), clean: true, at: now}
	if old != nil {
		t.done = old.done
	}
	m.jobs[name(job)] = t
	m.order = append(m.order, mention{name(job), now})
	return t
}

// forget drops what is too old or too much, but nothing that is under way, nor
// what only this process knows.
func (m *memory) forget(now time.Time) {
	for n := len(m.order); n > 0; n-- {
		first := m.order[0]
		if now.Sub(first.at) < rememberFor && len(m.order) <= rememberMax {
			return
		}
		m.order = m.order[1:]
		t := m.jobs[first.name]
		switch {
		case t == nil || !t.at.Equal(first.at): // mentioned again later
		case t.running, t.decided != nil, !t.clean && !t.stored:
			m.order = append(m.order, first)
		default:
			delete(m.jobs, first.name)
		}
	}
}

// decide notes what follows from an attempt, before any of it is stored.
func (m *memory) decide(job *event.Job, s *settlement) {
	m.with(job, func(t *trace) { t.decided = s })
}

// hold notes that another worker may have the job in hand.
func (m *memory) hold(job *event.Job) {
	m.with(job, func(t *trace) { t.delivered = max(t.delivered, 2) })
}

// judge notes whether an earlier run may have sent the final dot.
func (m *memory) judge(job *event.Job, doubt bool) {
	m.with(job, func(t *trace) { t.judged, t.clean = true, t.clean && !doubt })
}

// turn notes that the message got an appointment. A doubt goes with it.
func (m *memory) turn(job *event.Job, msg queue.Message) {
	m.with(job, func(t *trace) { t.turned, t.clean = turnOf(msg), true })
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
	if t := m.jobs[name(job)]; t != nil {
		change(t)
	}
}

// rest is what only this process knows of the jobs of a partition: what was
// decided and is not stored, and whether a dot may have been sent of which
// nothing was decided.
func (m *memory) rest(partition int) (undone []*settlement, doubt bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.jobs {
		switch {
		case t.partition != partition || t.stored:
		case t.decided != nil:
			undone = append(undone, t.decided)
		case !t.clean:
			doubt = true
		}
	}
	return undone, doubt
}

// outstanding are the recipients for whom this process has stored no end.
func (m *memory) outstanding(job *event.Job) []mail.Recipient {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.jobs[name(job)]
	if t == nil || len(t.done) == 0 {
		return job.Env.Recipients
	}
	return slices.DeleteFunc(slices.Clone(job.Env.Recipients), func(r mail.Recipient) bool { return slices.Contains(t.done, r.Address) })
}
