package queue

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

const subjectDelivery = "ledger.delivery."

// index says in which messages of LEDGER the records of a job lie.
type index struct {
	// known is the last message with records of a job, more the ones before.
	known map[jobKey]uint64
	more  map[jobKey][]uint64
	order []mention // as LEDGER has them
	// since and from are where the index begins: every record stored after
	// since, and from that sequence on, is in it. since is zero when there were
	// none before.
	since time.Time
	from  uint64
}

// jobKey names a job of a message; records that are not of a job are under
// noJob.
type jobKey struct {
	id  [16]byte
	job uint16
}

const noJob = 1<<16 - 1

type mention struct {
	key jobKey
	seq uint64
	at  int64 // nanoseconds
}

func newIndex() index {
	return index{known: map[jobKey]uint64{}, more: map[jobKey][]uint64{}}
}

// add takes over the records of one message of LEDGER, and reports that each
// names its message. The first field of that name is the record's own: no
// text of a stranger holds an unescaped quotation mark.
func (x *index) add(subject string, data []byte, seq uint64, at time.Time) (readable bool) {
	readable = true
	for line := range bytes.Lines(data) {
		id := field(line, `"queue_id":"`)
		if id == nil {
			readable = false
			continue
		}
		key := jobKey{job: noJob}
		copy(key.id[:], id)
		if strings.HasPrefix(subject, subjectDelivery) {
			key.job = jobNumber(field(line, `"job":"`))
		}
		x.mention(mention{key, seq, at.UnixNano()})
	}
	for len(x.order) > SettledMost || len(x.order) > 0 && at.UnixNano()-x.order[0].at > int64(SettledFor) {
		x.forget()
	}
	return readable
}

func (x *index) mention(m mention) {
	before, again := x.known[m.key]
	if before == m.seq {
		return
	}
	if again {
		x.more[m.key] = append(x.more[m.key], before)
	}
	x.known[m.key] = m.seq
	x.order = append(x.order, m)
}

// forget drops the oldest record: what is older than it is not known any more.
func (x *index) forget() {
	m := x.order[0]
	x.order = x.order[1:]
	x.since, x.from = time.Unix(0, m.at), m.seq+1
	if x.known[m.key] == m.seq {
		delete(x.known, m.key)
		return
	}
	rest := slices.DeleteFunc(x.more[m.key], func(seq uint64) bool { return seq == m.seq })
	if x.more[m.key] = rest; len(rest) == 0 {
		delete(x.more, m.key)
	}
}

// of is where records of a job may lie. A job that recovery drove may have
// another number than before.
func (x *index) of(job *event.Job) (seqs []uint64) {
	key := jobKey{}
	copy(key.id[:], job.QueueID)
	look := func(n uint16) {
		key.job = n
		if seq, ok := x.known[key]; ok {
			seqs = append(append(seqs, x.more[key]...), seq)
		}
	}
	look(noJob)
	number := jobNumber([]byte(job.ID))
	if job.Drive == 0 && number != noJob {
		look(number)
		return seqs
	}
	for n := range uint16(maxJobs) {
		look(n)
	}
	return seqs
}

// maxJobs is how many destinations of a message are told apart; there is room
// for as many recipients as a message may have.
const maxJobs = 1 << 12

// jobNumber is the number of a job within its message: "…-0".
func jobNumber(id []byte) uint16 {
	at := bytes.LastIndexByte(id, '-')
	n, err := strconv.ParseUint(string(id[at+1:]), 10, 16)
	if at < 0 || err != nil || n >= maxJobs {
		return noJob
	}
	return uint16(n)
}

// field is the value of a string field in a line of JSON, nil without it.
func field(line []byte, name string) []byte {
	at := bytes.Index(line, []byte(name))
	if at < 0 {
		return nil
	}
	value := line[at+len(name):]
	end := bytes.IndexByte(value, '"')
	if end < 0 {
		return nil
	}
	return value[:end]
}

// Ends is what LEDGER says about the recipients of a message.
type Ends struct {
	// Outcomes are those of the recipients that get no further attempt.
	Outcomes map[smtp.ForwardPath]event.Outcome
	// Failed are the records of failures: their reports may not be asked for yet.
	Failed []*event.Record
	// drives are the highest drives of recipients, all that of the others.
	drives map[smtp.ForwardPath]int
	all    int
}

// Settled reports that a recipient gets nothing under a drive: its end is
// known, or it was driven again since.
func (e *Ends) Settled(rcpt smtp.ForwardPath, drive int) bool {
	if e == nil {
		return false
	}
	_, ended := e.Outcomes[rcpt]
	return ended || drive < max(e.all, e.drives[rcpt])
}

// read takes over the records of a message from one message of LEDGER.
func (e *Ends) read(id mail.QueueID, data []byte) {
	for line := range bytes.Lines(data) {
		if !bytes.Equal(field(line, `"queue_id":"`), []byte(id)) {
			continue
		}
		if r, err := event.Decode[event.Record](line); err == nil {
			e.Add(r)
		}
	}
}

// Add takes over one record of the message.
func (e *Ends) Add(r *event.Record) {
	switch {
	case r.Outcome == event.Driven:
		e.drive(r)
		return
	case r.Outcome == event.Failed:
		e.Failed = append(e.Failed, r)
	case !r.Outcome.Terminal():
		return
	}
	if e.Outcomes == nil {
		e.Outcomes = make(map[smtp.ForwardPath]event.Outcome, len(r.Recipients))
	}
	for _, rcpt := range r.Recipients {
		if had, ok := e.Outcomes[rcpt.Address]; !ok || !had.Terminal() {
			e.Outcomes[rcpt.Address] = r.Outcome
		}
	}
}

// drive takes over who was driven: those whom the record names, or all.
func (e *Ends) drive(r *event.Record) {
	if len(r.Recipients) == 0 {
		e.all = max(e.all, r.Drive)
		return
	}
	if e.drives == nil {
		e.drives = map[smtp.ForwardPath]int{}
	}
	for _, rcpt := range r.Recipients {
		e.drives[rcpt.Address] = max(e.drives[rcpt.Address], r.Drive)
	}
}
