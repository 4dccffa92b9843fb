package ledger

import (
	"cmp"
	"hash/fnv"
	"math"
	"strconv"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// state is what the books say of a recipient.
type state int

// The states: queued, then the terminal outcomes. Their numbers are in the
// index file.
const (
	queued state = iota
	delivered
	bounced
	expired
	removed
	discarded
	states // how many there are
)

// stateOf is the state that an outcome ends in; queued for the others.
func stateOf(o event.Outcome) state {
	switch o {
	case event.Delivered:
		return delivered
	case event.Bounced:
		return bounced
	case event.Expired:
		return expired
	case event.Removed:
		return removed
	case event.Discarded:
		return discarded
	}
	return queued
}

// account is what the books know of one message and its recipients.
type account struct {
	message
	recipients map[string]*recipient // by address
}

// message is what the accepted record says of a message. Until that record
// came, only its QueueID is known.
type message struct {
	queueID      mail.QueueID
	first        place  // of the first record about it; also its key in the index
	acceptedSeq  uint64 // of the accepted record; 0 until it came
	acceptedAt   time.Time
	messageID    string
	submissionID string
	sender       string
	device       string
	owner        string
	client       string // address that it came from; empty for none
	byLogin      bool   // its sender had authenticated
	class        mail.Class
	size         int64
	lateAccept   bool
	reportOf     mail.QueueID
	content      event.ContentRef
	drive        int // the highest of its records
	phi          bool
}

// recipient is one recipient of a message.
type recipient struct {
	address     string
	destination string // its domain
	accepted    bool   // named in the accepted record
	state       state
	settledAt   time.Time
	settledKey  int64 // identity of the record that settled it
	attempts    int
	failed      place // of the first record that it failed; 0 for none
	// kept and released are the latest times at which it was held, and was
	// released; 0 for none.
	kept, released int64
	possibleDup    bool
	conflict       bool
	last           saying
	decided        decision
}

// held reports a recipient that waits for a decision.
func (rcpt *recipient) held() bool {
	return rcpt.state == queued && rcpt.failed == 0 && rcpt.kept > rcpt.released
}

// saying is the last thing that was said about a recipient.
type saying struct {
	rank       int64
	remoteMTA  string
	status     string
	diagnostic string
}

// decision is who decided about a recipient and why.
type decision struct {
	rank   int64
	actor  string
	reason string
}

// fold enters one record of LEDGER into the account. It depends on the order
// of records only in this: the first terminal record about a recipient settles
// it. Everything else comes out the same whichever record comes first, and a
// record that is stored twice counts once.
func (a *account) fold(r *event.Record, at place) {
	if a.first == 0 {
		a.queueID, a.first = r.QueueID, at
	}
	if r.Outcome == event.Entered {
		a.enter(r, at.seq())
	}
	a.drive = max(a.drive, r.Drive)
	a.lateAccept = a.lateAccept || r.Outcome == event.Late
	for i := range r.Recipients {
		rr := &r.Recipients[i]
		rcpt := a.recipient(rr)
		if r.Outcome == event.Failed && (rcpt.failed == 0 || at < rcpt.failed) {
			rcpt.failed = at
		}
		switch r.Outcome {
		case event.Kept:
			rcpt.kept = max(rcpt.kept, r.At.UnixNano())
		case event.Released:
			rcpt.released = max(rcpt.released, r.At.UnixNano())
		}
		rcpt.accepted = rcpt.accepted || r.Outcome == event.Entered
		rcpt.attempts = max(rcpt.attempts, r.Attempt)
		rcpt.possibleDup = rcpt.possibleDup || rr.PossibleDuplicate
		switch {
		case r.Outcome.Terminal():
			rcpt.settle(r, rr)
		case r.Outcome == event.Delayed, r.Outcome == event.Failed, r.Outcome == event.Kept, r.Outcome == event.Released:
			rcpt.hear(r, rr, r.At.UnixNano())
		}
	}
}

// enter takes what the accepted record says about the message. Of several, the
// first in LEDGER counts: they come from one message of MAIL.
func (a *account) enter(r *event.Record, seq uint64) {
	if a.acceptedSeq != 0 || r.Message == nil {
		return
	}
	m := r.Message
	a.acceptedSeq, a.acceptedAt = seq, m.AcceptedAt
	a.messageID, a.submissionID, a.sender = m.MessageID, m.SubmissionID, m.ReversePath.String()
	a.device, a.owner, a.class, a.size = m.Device, m.Owner, m.Class, m.Size
	if m.Facts.Address.IsValid() {
		a.client = m.Facts.Address.String()
	}
	a.byLogin = m.Facts.Identity != ""
	a.lateAccept, a.reportOf, a.content, a.phi = a.lateAccept || m.LateAccept, m.ReportOf, m.Content, m.PHI
}

func (a *account) recipient(rr *event.RecipientRecord) *recipient {
	address := rr.Address.String()
	rcpt := a.recipients[address]
	if rcpt == nil {
		rcpt = &recipient{address: address, destination: rr.Address.Domain}
		if a.recipients == nil {
			a.recipients = map[string]*recipient{}
		}
		a.recipients[address] = rcpt
	}
	return rcpt
}

// settle enters a terminal record. A second delivery, which is a delivered
// record that is not the first one stored again, is a possible duplicate. That
// somebody was served and not served is a conflict, except that removing what
// was delivered meanwhile did nothing.
func (rcpt *recipient) settle(r *event.Record, rr *event.RecipientRecord) {
	s, key := stateOf(r.Outcome), identity(r)
	switch {
	case rcpt.state == queued:
		rcpt.state, rcpt.settledAt, rcpt.settledKey = s, r.At, key
		rcpt.hear(r, rr, math.MaxInt64)
	case rcpt.state == delivered && s == delivered:
		rcpt.possibleDup = rcpt.possibleDup || key != rcpt.settledKey
	case rcpt.state != delivered && s == delivered, rcpt.state == delivered && (s == bounced || s == expired):
		rcpt.conflict = true
	}
}

// hear keeps what the record of the highest rank says, in words and in
// reasons, each on its own: who removed a message says nothing about the last
// reply to it.
func (rcpt *recipient) hear(r *event.Record, rr *event.RecipientRecord, rank int64) {
	if !rr.Reply.IsZero() || rr.RemoteMTA != "" {
		next := saying{rank: rank, remoteMTA: rr.RemoteMTA}
		if !rr.Reply.IsZero() {
			next.status, next.diagnostic = rr.Reply.Status(), rr.Reply.String()
		}
		if cmp.Or(cmp.Compare(rcpt.last.rank, rank), cmp.Compare(rcpt.last.diagnostic, next.diagnostic), cmp.Compare(rcpt.last.remoteMTA, next.remoteMTA)) < 0 {
			rcpt.last = next
		}
	}
	if r.Actor != "" || r.Reason != "" {
		next := decision{rank: rank, actor: r.Actor, reason: r.Reason}
		if cmp.Or(cmp.Compare(rcpt.decided.rank, rank), cmp.Compare(rcpt.decided.reason, next.reason), cmp.Compare(rcpt.decided.actor, next.actor)) < 0 {
			rcpt.decided = next
		}
	}
}

// identity tells a record from others about the same recipient. Stored again
// it is the same, to the time written in it: a second attempt under the same
// number is another event.
func identity(r *event.Record) int64 {
	h := fnv.New64a()
	for _, s := range []string{string(r.Stage), string(r.Outcome), r.Job, strconv.Itoa(r.Attempt), strconv.FormatInt(r.At.UnixNano(), 10)} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return int64(h.Sum64())
}
