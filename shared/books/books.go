// Package books is what the commands and the console ask the ledger service,
// and what it answers. The ledger itself is a stream; its index is the ledger
// service's own affair, and nobody else opens the file.
//
//	Trace    what became of a message, and where it is now
//	Balance  does accepted equal what was settled and what is queued?
//	Export   one row per message and recipient
//	Status   how far the index is
//	Use      when each device was last used
//	Ways     how each device showed who it is
//	Ends     which recipients of a message get no further attempt
//	Recover  what is lost, and what to do about it
//
// A question is a NATS request on postrider.ledger.<question>; any instance of
// the ledger service answers. The answer is a stream of JSON values in as many
// replies as it takes, under flow control: see client.go for the exchange.
//
// Guarantees: an answer that broke off is an error, never a shorter answer.
// Export and Balance have read what LEDGER held when they were asked. JSON is
// additive: fields are added, never renamed.
package books

import (
	"errors"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// Errors of a question.
var (
	// ErrUnreachable reports that no ledger service answers, or that its answer
	// broke off.
	ErrUnreachable = errors.New("the ledger service does not answer")
	// ErrNotFound reports a trace that found nothing.
	ErrNotFound = errors.New("not found in the ledger")
	// ErrBehind reports an index that has not caught up with LEDGER in time.
	ErrBehind = errors.New("the ledger's index is behind")
	// ErrQuestion reports a question that has no answer: an unknown state, a
	// time that cannot be read.
	ErrQuestion = errors.New("question cannot be answered")
)

// Wait is the longest that Balance and Export wait for the index and for work
// in flight.
const Wait = 10 * time.Second

// StateQueued is the state of a recipient that is accepted and not settled.
// The other states are the terminal outcomes of event.
const StateQueued = "queued"

// States are all states of a recipient, queued first.
var States = [...]string{StateQueued, string(event.Delivered), string(event.Bounced), string(event.Expired), string(event.Removed), string(event.Discarded)}

// Row is one recipient of one message: a line of `ledger export`.
type Row struct {
	QueueID      mail.QueueID `json:"queue_id"`
	MessageID    string       `json:"message_id"`
	SubmissionID string       `json:"submission_id"`
	Sender       string       `json:"sender"` // empty: the null reverse-path
	Recipient    string       `json:"recipient"`
	Device       string       `json:"device"`
	Owner        string       `json:"owner"`
	State        string       `json:"state"`
	// RemoteMTA, Status and Diagnostic are of the last reply.
	RemoteMTA         string     `json:"remote_mta"`
	Status            string     `json:"status"` // RFC 3463
	Diagnostic        string     `json:"diagnostic"`
	Attempts          int        `json:"attempts"`
	PossibleDuplicate bool       `json:"possible_duplicate"`
	LateAccept        bool       `json:"late_accept"`
	AcceptedAt        *time.Time `json:"accepted_at"`
	SettledAt         *time.Time `json:"settled_at"` // null while queued
	Actor             string     `json:"actor"`
	Reason            string     `json:"reason"`
	// Conflict marks a recipient of whom the ledger says both that it was
	// served and that it was not.
	Conflict bool `json:"conflict,omitempty"`
}

// Filter selects rows; its zero value selects all.
type Filter struct {
	// Since and Until bound when the message was accepted: Since included,
	// Until not.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// States, Owner, Device, Destination and Submission select when set.
	States      []string `json:"states,omitempty"`
	Owner       string   `json:"owner,omitempty"`
	Device      string   `json:"device,omitempty"`
	Destination string   `json:"destination,omitempty"` // domain
	// Submission is the submission id of messages, or a notice.
	Submission string `json:"submission,omitempty"`
}

// Trace is what the books know about a text: a QueueID, a Message-ID, an
// address, the name of a device or the address of a client.
type Trace struct {
	AsOf time.Time `json:"as_of"`
	// Behind is how many records of LEDGER the index had not read yet.
	Behind uint64 `json:"behind,omitempty"`
	// Messages that match, newest first; More says that there are older ones.
	Messages []Message `json:"messages"`
	More     bool      `json:"more,omitempty"`
	// Recipients and Records are set when exactly one message matches.
	Recipients []Recipient `json:"recipients,omitempty"`
	Records    []Record    `json:"records,omitempty"`
}

// MaxTrace is the most messages that one trace lists.
const MaxTrace = 200

// Message is one message in a trace.
type Message struct {
	QueueID      mail.QueueID `json:"queue_id"`
	MessageID    string       `json:"message_id,omitempty"`
	SubmissionID string       `json:"submission_id,omitempty"`
	Sender       string       `json:"sender"`
	Device       string       `json:"device,omitempty"`
	Owner        string       `json:"owner,omitempty"`
	Class        mail.Class   `json:"class,omitempty"`
	Size         int64        `json:"size,omitempty"` // octets
	AcceptedAt   *time.Time   `json:"accepted_at"`
	LateAccept   bool         `json:"late_accept,omitempty"`
	// ReportOf is the message that this one, a report, is about.
	ReportOf mail.QueueID `json:"report_of,omitempty"`
	// States counts its recipients by state.
	States map[string]int `json:"states"`
}

// Recipient is one recipient in the trace of one message.
type Recipient struct {
	Row
	// Position is where it is now, unless it is settled.
	Position *Position `json:"position,omitempty"`
}

// Position is where in the relay a recipient is now.
type Position struct {
	// Place is the last stream in which it was found.
	Place Place `json:"place"`
	// Job, Next, Attempt and LastReply are those of its job in DELIVER. Next is
	// zero when the job is ready or with a worker.
	Job       string    `json:"job,omitempty"`
	Next      time.Time `json:"next,omitzero"`
	Attempt   int       `json:"attempt,omitempty"`
	LastReply string    `json:"last_reply,omitempty"`
	// Rule and Reason say why it is held, and Decision what was decided about it
	// and not carried out yet.
	Rule     string          `json:"rule,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Decision *event.Decision `json:"decision,omitempty"`
}

// Place is a step of a message's way.
type Place string

// The places, upstream first.
const (
	PlaceMail     Place = "mail"     // accepted, before policy
	PlaceHeld     Place = "held"     // until somebody decides about it
	PlaceAdmitted Place = "admitted" // before the signer
	PlaceReady    Place = "ready"    // before or in an attempt
	PlaceLater    Place = "later"    // deferred
	PlaceReport   Place = "report"   // before its report is written
	// PlaceNone: in no stream; recovery has to drive it again.
	PlaceNone Place = "none"
)

// Record is one line of the ledger in a trace.
type Record struct {
	Seq    uint64       `json:"seq"` // in LEDGER
	Stored time.Time    `json:"stored"`
	Record event.Record `json:"record"`
}

// Balance answers whether the books balance.
type Balance struct {
	AsOf time.Time `json:"as_of"`
	// Seq is the barrier: messages accepted up to it are counted.
	Seq   uint64       `json:"seq"`
	Rows  []BalanceRow `json:"rows"` // by owner and destination
	Total BalanceRow   `json:"total"`
	// Residual is the number of recipients that do not add up; 0 balances.
	Residual int `json:"residual"`
	// Arriving is the number of messages in MAIL whose accepted record was not
	// written yet; they are not counted.
	Arriving int `json:"arriving"`
	// Offending are the first of the recipients that do not add up.
	Offending []Pair `json:"offending,omitempty"`
	// Conflicts counts recipients that the ledger calls both served and not;
	// Unreadable counts records, and messages of the queues, that cannot be read.
	Conflicts  int `json:"conflicts,omitempty"`
	Unreadable int `json:"unreadable,omitempty"`
}

// Balances reports that the books balance.
func (b *Balance) Balances() bool { return b.Residual == 0 }

// MaxOffending is the most pairs that a Balance names.
const MaxOffending = 20

// BalanceRow counts the recipients of one owner at one destination.
type BalanceRow struct {
	Owner       string `json:"owner"`
	Destination string `json:"destination"`
	Accepted    int    `json:"accepted"`
	Delivered   int    `json:"delivered"`
	Bounced     int    `json:"bounced"`
	Expired     int    `json:"expired"`
	Removed     int    `json:"removed"`
	Discarded   int    `json:"discarded"`
	// Queued is counted from the streams.
	Queued int `json:"queued"`
	// Difference is Accepted minus all the others.
	Difference int `json:"difference"`
}

// Settled is the number of recipients in a terminal state.
func (r *BalanceRow) Settled() int {
	return r.Delivered + r.Bounced + r.Expired + r.Removed + r.Discarded
}

// Problem is why a pair does not add up.
type Problem string

// The problems.
const (
	// ProblemLost: accepted, not settled, and in no stream.
	ProblemLost Problem = "lost"
	// ProblemUnknown: in a stream, but never accepted.
	ProblemUnknown Problem = "unknown"
	// ProblemUnaccepted: settled, but never accepted.
	ProblemUnaccepted Problem = "unaccepted"
)

// Pair is one recipient of one message that does not add up.
type Pair struct {
	QueueID     mail.QueueID `json:"queue_id"`
	Recipient   string       `json:"recipient"`
	Owner       string       `json:"owner,omitempty"`
	Destination string       `json:"destination,omitempty"`
	Problem     Problem      `json:"problem"`
}

// BalanceQuestion asks for a Balance.
type BalanceQuestion struct {
	// Wait is how long to wait for work in flight until the books balance, in
	// nanoseconds of JSON; at most and by default books.Wait.
	Wait time.Duration `json:"wait,omitempty"`
}

// Status is how far the index of one ledger instance is.
type Status struct {
	Instance string `json:"instance"`
	// Seq is the last record of LEDGER in the index, Last the last there is.
	Seq  uint64 `json:"seq"`
	Last uint64 `json:"last"`
	// States counts recipients by state, as the ledger tells it.
	States   map[string]int `json:"states"`
	Messages int            `json:"messages"`
	// Held counts the queued recipients that wait for a decision.
	Held               int `json:"held"`
	PossibleDuplicates int `json:"possible_duplicates"`
	Conflicts          int `json:"conflicts"`
	Unreadable         int `json:"unreadable"`
	// RolledBack says how LEDGER differs from what it was, if it does: nothing
	// is sent, purged or driven then.
	RolledBack string   `json:"rolled_back,omitempty"`
	Recovery   Recovery `json:"recovery"`
	// Residual is the number of recipients that did not add up when this
	// instance last looked; see Balance.
	Residual int `json:"residual"`
	// Stuck says why the index does not follow LEDGER, if it does not.
	Stuck string `json:"stuck,omitempty"`
	// Overdue is the content that should have been purged; nil for none.
	Overdue *Overdue `json:"overdue,omitempty"`
}

// Overdue is content that is older than the retention and still in MAIL or
// BODY: what is before it in Stream keeps it.
type Overdue struct {
	Stream string `json:"stream"`
	// Seq is the first message of the stream.
	Seq     uint64  `json:"seq"`
	Seconds float64 `json:"seconds"`
}

// Lag is the number of records that are not in the index yet.
func (s *Status) Lag() uint64 { return s.Last - min(s.Seq, s.Last) }
