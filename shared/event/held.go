package event

import (
	"strconv"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// Hold are recipients of a message that are to be held, and why.
type Hold struct {
	Recipients []mail.Recipient `json:"recipients"`
	Rule       string           `json:"rule"`
	Reason     string           `json:"reason,omitempty"`
}

// Held is a message that is held for some of its recipients, or all, or one of
// its jobs. It is accepted and not settled, and stays so until a Decision was
// carried out.
type Held struct {
	Schema int `json:"v"`
	// At is when it was accepted to be held, Rule what wants it, Reason why.
	At     time.Time `json:"at"`
	Rule   string    `json:"rule"`
	Reason string    `json:"reason,omitempty"`
	// Message is what releasing it admits: Env has the recipients who wait.
	Message Admitted `json:"message"`
	// Job is what releasing it brings back to delivery, where one is held;
	// Message is then only what it says of its message.
	Job *Job `json:"job,omitempty"`
	// Pace is how long its device has to wait after it by its hourly limits,
	// where it is one of those that hold it.
	Pace time.Duration `json:"pace,omitempty"`
}

// Part is what of a message is held: a job, as often as it was, or the message
// itself, which has no name.
func (h *Held) Part() string {
	if h.Job == nil {
		return ""
	}
	part := h.Job.ID
	if h.Job.Drive > 0 {
		part += "~" + strconv.Itoa(h.Job.Drive)
	}
	if h.Job.Held > 0 {
		part += "+" + strconv.Itoa(h.Job.Held)
	}
	return part
}

// HeldJob is a job that is held, with what it says of its message.
func HeldJob(j *Job, rule, reason string, at time.Time) *Held {
	return &Held{At: at, Rule: rule, Reason: reason, Job: j, Message: Admitted{
		Schema: Schema, QueueID: j.QueueID, AcceptedAt: j.AcceptedAt, Class: j.Class, Env: j.Env, MessageID: j.MessageID, SubmissionID: j.SubmissionID,
		Content: j.Content, Device: j.Device, Owner: j.Owner, ReportOf: j.Report, Origin: j.Origin, Drive: j.Drive, PHI: j.PHI,
	}}
}

// Verb is what is to become of a held message.
type Verb string

// The verbs.
const (
	Release Verb = "release" // it is admitted
	Drop    Verb = "drop"    // removed, after the time in which that can be undone
	Bounce  Verb = "bounce"  // its sender gets a report
	Undo    Verb = "undo"    // a drop that was not carried out yet did not happen
	Expire  Verb = "expire"  // its time ended while it waited; its sender gets a report
)

// Decision is what somebody decided about a held message.
type Decision struct {
	Schema  int          `json:"v"`
	QueueID mail.QueueID `json:"queue_id"`
	Part    string       `json:"part,omitempty"` // of Held
	Verb    Verb         `json:"verb"`
	At      time.Time    `json:"at"`
	Actor   string       `json:"actor"`
	Reason  string       `json:"reason,omitempty"`
	// Final marks a drop that can no longer be undone.
	Final bool `json:"final,omitempty"`
}

// Same reports that d says what other does.
func (d *Decision) Same(other *Decision) bool {
	return d.Verb == other.Verb && d.Final == other.Final && d.Actor == other.Actor
}

// UndoFor is how long a drop can be undone.
const UndoFor = 10 * time.Minute

// Replaces reports that d may be decided after the decision before: the first
// one holds, except that a drop can be undone before it is final. Final is only
// the drop that was decided, not one before it that was undone.
func (d *Decision) Replaces(before *Decision) bool {
	switch {
	case before == nil || before.Verb == Undo:
		return d.Verb != Undo && !d.Final
	case before.Verb == Drop && !before.Final:
		return d.Verb == Undo || d.Verb == Drop && d.Final && d.At.Equal(before.At)
	}
	return false
}
