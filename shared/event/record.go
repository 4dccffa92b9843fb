package event

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// Stage is who wrote a record.
type Stage string

// The stages of the ledger.
const (
	StageIngress  Stage = "ingress"
	StagePolicy   Stage = "policy"
	StageSigner   Stage = "signer"
	StageDelivery Stage = "delivery"
	StageBounce   Stage = "bounce"
	StageOperator Stage = "operator"
	StageLedger   Stage = "ledger"
)

// Outcome is what a record says became of its recipients.
type Outcome string

// The outcomes. Those that are Terminal end a recipient's life in the relay.
const (
	Entered Outcome = "accepted" // policy: the message is in the books
	Signed  Outcome = "signed"   // signer: signed, its jobs follow
	Delayed Outcome = "delayed"  // delivery: another attempt is scheduled
	Failed  Outcome = "failed"   // delivery: will not be served; a report follows
	Retried Outcome = "retried"  // operator: expedited
	Driven  Outcome = "driven"   // ledger: sent through the relay again, with a Drive
	Late    Outcome = "late"     // ingress: refused for a store that did not answer, but stored

	Kept     Outcome = "held"     // policy: waits for a decision, with the rule that wants it
	Released Outcome = "released" // operator: goes out after all, with actor and reason

	Delivered Outcome = "delivered" // delivery: the next hop said 250
	Bounced   Outcome = "bounced"   // bounce: a report is in MAIL, or none is due
	Expired   Outcome = "expired"   // bounce: as bounced, after the lifetime
	Removed   Outcome = "removed"   // operator, with actor and reason
	Discarded Outcome = "discarded" // policy, with the rule
)

// Terminal reports an outcome after which nothing more happens to a recipient.
func (o Outcome) Terminal() bool {
	switch o {
	case Delivered, Bounced, Expired, Removed, Discarded:
		return true
	}
	return false
}

// ReasonExpired is the reason in failed records of recipients whose lifetime is
// over: the report that follows says so.
const ReasonExpired = "lifetime ended"

// Record is one line of the ledger: one thing that happened to some
// recipients of one message. Subject: ledger.<stage>.<outcome>. Records of one
// subject that are written at the same time share a message of LEDGER, one
// line each, and so the sync that it costs.
type Record struct {
	Schema  int          `json:"v"`
	At      time.Time    `json:"at"`
	Stage   Stage        `json:"stage"`
	Outcome Outcome      `json:"outcome"`
	QueueID mail.QueueID `json:"queue_id"`
	// Recipients are those the record speaks of; in an accepted record all.
	Recipients []RecipientRecord `json:"recipients"`
	// Message is in accepted records only.
	Message *MessageRecord `json:"message,omitempty"`
	// Job and Attempt name the attempt, in records of delivery.
	Job     string `json:"job,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// Drive is the number of the drive, in driven records and in those of jobs
	// that stem from one. Jobs of a lower drive are void.
	Drive int `json:"drive,omitempty"`
	// Next is when the next attempt is due, in delayed records.
	Next time.Time `json:"next,omitzero"`
	// Signatures are "d=… s=… a=…", in signed records.
	Signatures []string `json:"signatures,omitempty"`
	// Report is the QueueID of the report, in bounced and expired records.
	Report mail.QueueID `json:"report,omitempty"`
	// Actor and Reason say who decided and why, where a person or rule did.
	Actor  string `json:"actor,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// MessageRecord is what the books keep about a message: metadata, no Subject,
// no content.
type MessageRecord struct {
	AcceptedAt   time.Time        `json:"accepted_at"`
	MessageID    string           `json:"message_id,omitempty"`
	SubmissionID string           `json:"submission_id,omitempty"`
	ReversePath  smtp.ReversePath `json:"reverse_path"`
	Size         int64            `json:"size"` // octets
	Class        mail.Class       `json:"class"`
	Device       string           `json:"device,omitempty"`
	Owner        string           `json:"owner,omitempty"`
	Facts        authz.Facts      `json:"facts"`
	Verdict      authz.Verdict    `json:"verdict"`
	Revision     uint64           `json:"registry_revision,omitempty"`
	Content      ContentRef       `json:"content"`
	ReportOf     mail.QueueID     `json:"report_of,omitempty"`
	LateAccept   bool             `json:"late_accept,omitempty"`
	Quirks       []Quirk          `json:"quirks,omitempty"`
	PHI          bool             `json:"phi,omitempty"`
}

// RecipientRecord is one recipient in a record.
type RecipientRecord struct {
	Address smtp.ForwardPath `json:"address"`
	// Original is what the sender wrote, where the relay changed it.
	Original string `json:"original,omitempty"`
	// Reply is what was said about it: by RemoteMTA, or by us when that is empty.
	Reply smtp.Reply `json:"reply,omitzero"`
	// RemoteMTA is name and address of the host that replied: "mx.test [192.0.2.1]".
	RemoteMTA string `json:"remote_mta,omitempty"`
	// TLS is version, cipher suite and whether the certificate was verified;
	// empty in clear.
	TLS string `json:"tls,omitempty"`
	// PossibleDuplicate marks a recipient of whom an attempt ended between the
	// final dot and its reply: a copy may have arrived already.
	PossibleDuplicate bool `json:"possible_duplicate,omitempty"`
}

// Refusal is the evidence of something refused before it was accepted, in
// REFUSED. Subject: refused.<stage>.
type Refusal struct {
	Schema int         `json:"v"`
	Ref    mail.Ref    `json:"ref"`
	At     time.Time   `json:"at"`
	Stage  string      `json:"stage"` // connect, tls, auth, mail, rcpt, data, command
	Facts  authz.Facts `json:"facts"`
	Reply  smtp.Reply  `json:"reply"`
	Rule   string      `json:"rule,omitempty"`
	Reason string      `json:"reason,omitempty"`
	// Count is above 1 when refusals of the same kind were counted together.
	Count int `json:"count"`
}

// MaxRecords is how many records a message of LEDGER has at most.
const MaxRecords = 256

// DecodeRecords reads the records of one message of LEDGER. One that cannot be
// read is nil in the list, and the error says why.
func DecodeRecords(data []byte) ([]*Record, error) {
	var out []*Record
	var failed error
	for line := range bytes.Lines(data) {
		r, err := Decode[Record](line)
		if err == nil && r.QueueID == "" {
			err = errors.New("record names no message")
		}
		if err != nil {
			r, failed = nil, fmt.Errorf("decode line %d: %w", len(out)+1, err)
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("decode records: nothing there")
	}
	return out, failed
}
