// Package journal holds what the witnesses of a load test write down, and
// reads it back: JSON, one object a line.
//
// There are three witnesses and none trusts another. The generator keeps
// [Submission] lines: what a device said and was told. The sink keeps
// [Arrival] lines: what reached a mailbox. The relay under test exports
// [Settlement] lines: what it claims became of every recipient. Package check
// holds the three against each other.
//
// A line is in the hands of the operating system before [Writer.Append]
// returns, and on the disk if the writer is durable; so a witness that is
// killed has lost nothing it had acted upon. At most its last line is
// unfinished, and an unfinished line speaks of an act that did not happen.
package journal

import "time"

// Phase says how far one submission came.
type Phase string

// The phases. Sent is followed by Reply or Lost; when neither follows, the
// generator was killed between, which is as ambiguous as Lost.
const (
	// Sent is written before the final dot: from here on the relay may
	// have taken the message.
	Sent Phase = "sent"
	// Reply is the answer to the final dot.
	Reply Phase = "reply"
	// Lost: the connection ended after the dot and before an answer (RFC
	// 1047). The relay may have the message or not.
	Lost Phase = "lost"
	// Refused: MAIL, every RCPT, or DATA was refused; no content was sent.
	Refused Phase = "refused"
	// Aborted: the connection ended before the final dot. Nobody has the
	// message.
	Aborted Phase = "aborted"
)

// Submission is one line of the generator's journal.
type Submission struct {
	// Token is unique to one attempt to submit one message. A repeated
	// attempt has a token of its own, so that each is accounted for.
	Token string `json:"token"`
	Phase Phase  `json:"phase"`
	// RetryOf is the token of the first attempt.
	RetryOf string `json:"retry_of,omitempty"`
	// MessageID has its angle brackets.
	MessageID string `json:"message_id,omitempty"`
	// Sender is the reverse-path without brackets; empty is the null one.
	Sender     string      `json:"sender,omitempty"`
	Recipients []Recipient `json:"recipients,omitempty"`
	// BodySHA256 is over the octets after the header section and its empty
	// line, before dot-stuffing: what the relay adds to the header is free.
	BodySHA256 string `json:"body_sha256,omitempty"`

	// Code, Enhanced and Text are the reply that decided.
	Code     int    `json:"code,omitempty"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text,omitempty"`
	// QueueID is what stands after "queued as" in Text.
	QueueID string    `json:"queue_id,omitempty"`
	At      time.Time `json:"at"`
}

// Recipient is one forward-path of a Submission.
type Recipient struct {
	// Address is without brackets. Its local part ends in "+" and the token.
	Address string `json:"address"`
	// RcptReply is the code RCPT was answered with; 0 when it was not.
	RcptReply int `json:"rcpt_reply"`
	// Bad: the sink will refuse it, so that it must bounce.
	Bad bool `json:"bad,omitempty"`
}

// Kind tells copies of messages from reports about them.
type Kind string

// The kinds of Arrival.
const (
	Copy Kind = "copy"
	DSN  Kind = "dsn"
)

// Arrival is one line of the sink's journal: a message taken, or what a
// delivery status notification (RFC 3464) says about one recipient.
type Arrival struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Token is the X-Ledger field of a copy; of a report, the token in the
	// address it reports about. Empty when there was none.
	Token string `json:"token"`
	// MessageID is that of the message that arrived, also for a report.
	MessageID   string   `json:"message_id"`
	ReversePath string   `json:"reverse_path"`
	Recipients  []string `json:"recipients"`
	BodySHA256  string   `json:"body_sha256"`
	// Acknowledged is false when the sink was told to drop the connection
	// instead of answering the dot.
	Acknowledged bool `json:"acknowledged"`

	// Recipient, Action and Status are of a report only (RFC 3464 §2.3).
	Recipient string `json:"recipient,omitempty"`
	Action    string `json:"action,omitempty"`
	Status    string `json:"status,omitempty"`
}

// Transaction is one line of the sink's journal of transactions: for how long
// a client waited for the answer to its dot. Fault suites need it to say whose
// answer a fault could take away; the check does not.
type Transaction struct {
	MessageID string `json:"message_id"`
	// Recipients are those of a copy, or those that a report is about.
	Recipients []string `json:"recipients"`
	// Dot is when the dot had been read, Answered when the 250 had been
	// handed to the operating system, or could not be.
	Dot      time.Time `json:"dot"`
	Answered time.Time `json:"answered"`
}

// State is what the relay claims became of one recipient.
type State string

// The states. All but Queued are terminal.
const (
	Queued    State = "queued"
	Delivered State = "delivered"
	Bounced   State = "bounced"
	Expired   State = "expired"
	Removed   State = "removed"
	Discarded State = "discarded"
)

// Terminal reports a state that is never left.
func (s State) Terminal() bool {
	switch s {
	case Delivered, Bounced, Expired, Removed, Discarded:
		return true
	}
	return false
}

// Settlement is one object of `postrider ledger export -o jsonl`: one
// recipient of one accepted message.
type Settlement struct {
	QueueID   string `json:"queue_id"`
	MessageID string `json:"message_id"`
	// SubmissionID is the value of the field that ledger.token_header names.
	SubmissionID      string `json:"submission_id"`
	Sender            string `json:"sender"`
	Recipient         string `json:"recipient"`
	Device            string `json:"device"`
	Owner             string `json:"owner"`
	State             State  `json:"state"`
	RemoteMTA         string `json:"remote_mta"`
	Status            string `json:"status"`
	Diagnostic        string `json:"diagnostic"`
	Attempts          int    `json:"attempts"`
	PossibleDuplicate bool   `json:"possible_duplicate"`
	LateAccept        bool   `json:"late_accept"`
	// AcceptedAt and SettledAt are kept as text: the check does not need
	// them, and a form of time it cannot read must not make it blind.
	AcceptedAt string `json:"accepted_at"`
	SettledAt  string `json:"settled_at"`
	Actor      string `json:"actor"`
	Reason     string `json:"reason"`
}
