package books

import (
	"context"
	"net/netip"
	"time"
)

// QuestionUse asks when each device was last used.
const QuestionUse Question = "use"

// Use is when a device was last used.
type Use struct {
	Device string `json:"device"`
	// Last is when its last message was accepted, and Addresses when from where.
	Last      time.Time                `json:"last,omitzero"`
	Addresses map[netip.Addr]time.Time `json:"addresses,omitempty"`
	// Listeners is when its last message came over each listener.
	Listeners map[string]time.Time `json:"listeners,omitempty"`
	// Undeliverable are the times at which reports to it were refused for good,
	// since there is no such mailbox (5.1.x), within ReturnedFor.
	Undeliverable []time.Time `json:"undeliverable,omitempty"`
	// Failed is how many of its messages were returned or ran out of time, for a
	// recipient at least, within FailedFor.
	Failed int `json:"failed,omitempty"`
	// Recent are this hour and the one before, as far as it sent in them. Usual is
	// the most Messages and the most Senders of any hour of UsualFor before; it
	// starts with the first such hour.
	Recent []Hour `json:"recent,omitempty"`
	Usual  Hour   `json:"usual,omitzero"`
}

// Hour is what a device sent in one hour of the clock.
type Hour struct {
	Start    time.Time `json:"start"`
	Messages int       `json:"messages,omitempty"`
	// Recipients of them, and how many of these had no mailbox (5.1.x).
	Recipients int `json:"recipients,omitempty"`
	Unknown    int `json:"unknown,omitempty"`
	// Senders are the different addresses in reverse-path and From fields.
	Senders int `json:"senders,omitempty"`
	// Suspect counts the messages that a scanner wanted held or refused, Bare bulk
	// messages without List-Unsubscribe.
	Suspect int `json:"suspect,omitempty"`
	Bare    int `json:"bare,omitempty"`
}

// UsualFor is how far back the books look for what is usual.
const UsualFor = 30 * 24 * time.Hour

// ReturnedFor is how long the books remember an undeliverable report as such.
const ReturnedFor = 30 * 24 * time.Hour

// FailedFor is how long the books remember a failed message as such.
const FailedFor = 24 * time.Hour

// Use hands the use of every device that was ever used to each, in the order of
// their names. An error of each ends it.
func (b *Books) Use(ctx context.Context, each func(Use) error) error {
	return stream(ctx, b, QuestionUse, struct{}{}, each)
}
