// Package event is what the services say to each other over the bus, and what
// each of them tells the ledger. It performs no I/O.
//
//	Accepted   ingress  → MAIL      a message, after its content
//	Admitted   policy   → ADMITTED  may be sent; a reference to the content
//	Held       policy   → HELD      kept until somebody decides about it
//	Decision   anybody  → HELD      what is to become of it
//	Job        signer   → DELIVER   one destination of a message
//	Failure    delivery → REPORT    recipients that need a report
//	Record     all      → LEDGER    what became of whom
//
// Every event carries the schema version it was written with. A release reads
// its own version and the one before, and ignores fields it does not know.
package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// Schema is the version this release writes.
const Schema = 1

// Chunk is one piece of a large content in its BODY stream.
type Chunk struct {
	Seq  uint64 `json:"seq"`
	Size int    `json:"size"` // octets
}

// Accepted is the record of one accepted message in MAIL. The content
// precedes it in the same stream message, or lies in Chunks.
type Accepted struct {
	Schema  int           `json:"v"`
	QueueID mail.QueueID  `json:"queue_id"`
	At      time.Time     `json:"at"`
	Class   mail.Class    `json:"class"`
	Env     mail.Envelope `json:"envelope"`
	// MessageID is the field body of Message-ID; SubmissionID that of the
	// field named in ledger.token_header.
	MessageID    string `json:"message_id,omitempty"`
	SubmissionID string `json:"submission_id,omitempty"`
	// Size is that of the whole content in octets, our trace fields included.
	Size int64 `json:"size"`
	// Chunks is the manifest of a content too large to lie inline.
	Chunks []Chunk `json:"chunks,omitempty"`
	// Facts are those of the transaction, without a recipient.
	Facts    authz.Facts `json:"facts"`
	Device   string      `json:"device,omitempty"`
	Owner    string      `json:"owner,omitempty"`
	Revision uint64      `json:"registry_revision,omitempty"`
	// ReportOf is the message that this one reports about, if it does.
	ReportOf mail.QueueID `json:"report_of,omitempty"`
	// Quirks are what was done to it for its device.
	Quirks []Quirk `json:"quirks,omitempty"`
	// PHI marks health data (W13): beyond the hosted domains over verified TLS only,
	// and purged as soon as it is settled.
	PHI bool `json:"phi,omitempty"`
}

// Origin is where it came from.
func (a *Accepted) Origin() Origin {
	return Origin{Address: a.Facts.Address, Identity: a.Facts.Identity, Revision: a.Revision}
}

// Ref is where the content lies of a message that was stored there.
func (a *Accepted) Ref(stream string, seq uint64) ContentRef {
	ref := ContentRef{Stream: stream, Seq: seq, Size: a.Size}
	if len(a.Chunks) > 0 {
		ref.Body = a.Chunks[0].Seq
	}
	return ref
}

// ContentRef says where a content lies.
type ContentRef struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	Size   int64  `json:"size"` // octets
	// Body is the sequence of the first chunk in BODY, 0 for an inline content.
	Body uint64 `json:"body,omitempty"`
}

// Admitted is what policy decided about a message: the recipients it admits, in
// Env, and those it refuses after all. Either may be none.
type Admitted struct {
	Schema       int           `json:"v"`
	QueueID      mail.QueueID  `json:"queue_id"`
	AcceptedAt   time.Time     `json:"accepted_at"`
	Class        mail.Class    `json:"class"`
	Env          mail.Envelope `json:"envelope"`
	MessageID    string        `json:"message_id,omitempty"`
	SubmissionID string        `json:"submission_id,omitempty"`
	Content      ContentRef    `json:"content"`
	Device       string        `json:"device,omitempty"`
	Owner        string        `json:"owner,omitempty"`
	ReportOf     mail.QueueID  `json:"report_of,omitempty"`
	// Refused are the recipients that get a report instead, by Rule.
	Refused []RecipientRecord `json:"refused,omitempty"`
	Rule    string            `json:"rule,omitempty"`
	// Hold are the recipients that are held, if any.
	Hold *Hold `json:"hold,omitempty"`
	// Prepend are complete header fields with CRLF that go before the content,
	// after the signatures.
	Prepend string `json:"prepend,omitempty"`
	Origin  Origin `json:"origin,omitzero"`
	// Released is when a person last let it go; holdings from before do not
	// concern it.
	Released time.Time `json:"released,omitzero"`
	// First is the number of the first job: what is admitted later has other
	// jobs than what was admitted before.
	First int `json:"first,omitempty"`
	// Drive counts how often recovery drove the message again.
	Drive int `json:"drive,omitempty"`
	// PHI is as in Accepted.
	PHI bool `json:"phi,omitempty"`
}

// Job is the delivery of one message to the recipients of one destination.
type Job struct {
	Schema int `json:"v"`
	// ID is the QueueID and the number of the destination: "…-0".
	ID           string        `json:"id"`
	QueueID      mail.QueueID  `json:"queue_id"`
	AcceptedAt   time.Time     `json:"accepted_at"`
	Class        mail.Class    `json:"class"`
	Destination  string        `json:"destination"` // domain as A-label, or address literal
	Env          mail.Envelope `json:"envelope"`    // recipients of this destination still to be served
	MessageID    string        `json:"message_id,omitempty"`
	SubmissionID string        `json:"submission_id,omitempty"`
	Content      ContentRef    `json:"content"`
	// Prepend are complete header fields with CRLF that go before the content.
	Prepend string       `json:"prepend,omitempty"`
	Device  string       `json:"device,omitempty"`
	Owner   string       `json:"owner,omitempty"`
	Report  mail.QueueID `json:"report_of,omitempty"`
	// PHI is as in Accepted.
	PHI    bool   `json:"phi,omitempty"`
	Origin Origin `json:"origin,omitzero"`
	// Released is as in Admitted. Held counts how often the job was released
	// from being held, so that each time has a name of its own.
	Released time.Time `json:"released,omitzero"`
	Held     int       `json:"held,omitempty"`
	// Hold wants this job held, whatever else does.
	Hold *Holding `json:"hold,omitempty"`
	// Attempt counts the attempts made so far.
	Attempt int `json:"attempt"`
	Drive   int `json:"drive,omitempty"`
	// LastReply is why the job was deferred, for those who list the queue.
	LastReply string `json:"last_reply,omitempty"`
	// Diagnosed is the last reply to each recipient, for the report that an
	// expiry needs: what the destination said is worth more than "expired".
	Diagnosed []RecipientRecord `json:"diagnosed,omitempty"`
	// Doubt names recipients whom an earlier attempt may have served: it
	// ended between the final dot and its reply.
	Doubt []smtp.ForwardPath `json:"doubt,omitempty"`
}

// Size of the message as it goes out, in octets.
func (j *Job) Size() int64 { return j.Content.Size + int64(len(j.Prepend)) }

// FailureKind is why a report is due.
type FailureKind string

// The kinds of failure; each is a subject of REPORT.
const (
	KindFailed  FailureKind = "failed"  // a permanent reply
	KindExpired FailureKind = "expired" // the lifetime ended
)

// Failure asks for a report about recipients that will not be served.
type Failure struct {
	Schema     int               `json:"v"`
	Kind       FailureKind       `json:"kind"`
	ID         string            `json:"id"` // of the job and its attempt
	QueueID    mail.QueueID      `json:"queue_id"`
	AcceptedAt time.Time         `json:"accepted_at"`
	At         time.Time         `json:"at"`
	Env        mail.Envelope     `json:"envelope"`
	MessageID  string            `json:"message_id,omitempty"`
	Content    ContentRef        `json:"content"`
	Recipients []RecipientRecord `json:"recipients"`
	Device     string            `json:"device,omitempty"`
	Owner      string            `json:"owner,omitempty"`
	// Report is set when the failed message was itself a report.
	Report mail.QueueID `json:"report_of,omitempty"`
	// PHI is as in Accepted; the report has it, too.
	PHI bool `json:"phi,omitempty"`
}

// ReportID is the QueueID of the report that the failure asks for. The kind
// belongs to it: one attempt may fail for some recipients and be the last for
// others.
func (f *Failure) ReportID() mail.QueueID {
	return f.QueueID.Derive("report/" + string(f.Kind) + "/" + f.ID)
}

// AttemptID names an attempt of a job among all others, 1 the first.
func AttemptID(job string, attempt, drive int) string {
	id := job + "/" + strconv.Itoa(attempt)
	if drive > 0 {
		id += "/drive-" + strconv.Itoa(drive)
	}
	return id
}

// Encode writes an event as JSON. It fails for no event of this package.
func Encode(e any) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", e, err)) // a type that cannot be encoded is a bug
	}
	return b
}

// ErrUnreadable reports an event that no repetition will make readable.
var ErrUnreadable = errors.New("event cannot be read")

// Decode reads an event and checks its schema; ErrUnreadable says that it is
// none, or one of another release.
func Decode[E any, P interface {
	*E
	schema() int
}](data []byte) (*E, error) {
	e := P(new(E))
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("decode %T: %w: %w", *e, ErrUnreadable, err)
	}
	if v := e.schema(); v < max(1, Schema-1) || v > Schema+1 {
		return nil, fmt.Errorf("decode %T: %w: schema %d is not supported by this release (%d)", *e, ErrUnreadable, v, Schema)
	}
	return (*E)(e), nil
}

func (e *Accepted) schema() int { return e.Schema }
func (e *Admitted) schema() int { return e.Schema }
func (e *Job) schema() int      { return e.Schema }
func (e *Failure) schema() int  { return e.Schema }
func (e *Record) schema() int   { return e.Schema }
func (e *Refusal) schema() int  { return e.Schema }
func (e *Held) schema() int     { return e.Schema }
func (e *Decision) schema() int { return e.Schema }
func (e *Holding) schema() int  { return e.Schema }

// ForwardPaths are the addresses of the recipients.
func ForwardPaths(rcpts []mail.Recipient) []smtp.ForwardPath {
	out := make([]smtp.ForwardPath, len(rcpts))
	for i, r := range rcpts {
		out[i] = r.Address
	}
	return out
}
