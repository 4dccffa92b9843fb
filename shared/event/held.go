package event

import (
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// Hold are recipients of a message that are to be held, and why.
type Hold struct {
	Recipients []mail.Recipient `json:"recipients"`
	Rule       string           `json:"rule"`
	Reason     string           `json:"reason,omitempty"`
}

// Held is a message that is held for some of its recipients, or all. It is
// accepted and not settled, and stays so until a Decision was carried out.
type Held struct {
	Schema int `json:"v"`
	// At is when it was accepted to be held, Rule what wants it, Reason why.
	At     time.Time `json:"at"`
	Rule   string    `json:"rule"`
	Reason string    `json:"reason,omitempty"`
	// Message is what releasing it admits: Env has the recipients who wait.
	Message Admitted `json:"message"`
}

// Verb is what is to become of a held message.
type Verb string

// The verbs.
const (
	Release Verb = "release" // it is admitted
	Drop    Verb = "drop"    // removed, after the time in which that can be undone
	Bounce  Verb = "bounce"  // its sender gets a report
	Undo    Verb = "undo"    // a drop that was not carried out yet did not happen
)

// Decision is what somebody decided about a held message.
type Decision struct {
	Schema  int          `json:"v"`
	QueueID mail.QueueID `json:"queue_id"`
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
// one holds, except that a drop can be undone before it is final.
func (d *Decision) Replaces(before *Decision) bool {
	switch {
	case before == nil || before.Verb == Undo:
		return d.Verb != Undo
	case before.Verb == Drop && !before.Final:
		return d.Verb == Undo || d.Verb == Drop && d.Final
	}
	return false
}
