package books

import (
	"context"
	"net/netip"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// QuestionObserved asks whom the rules would stop that only observe.
const QuestionObserved Question = "observed"

// ObservedQuestion is its body.
type ObservedQuestion struct {
	// Since is the first day, in UTC, that counts.
	Since time.Time `json:"since"`
	// Rule is the one that is asked about; empty means each.
	Rule string `json:"rule,omitempty"`
}

// ObservedFor is how long the books remember what rules observed.
const ObservedFor = 90 * 24 * time.Hour

// Observed is what a rule that observes would have done to a device, or to an
// address where Device is empty.
type Observed struct {
	Rule     string     `json:"rule"`
	Device   string     `json:"device,omitempty"`
	Address  netip.Addr `json:"address,omitzero"`
	Messages int64      `json:"messages"`
	// Last, Sender and QueueID are of the last of these messages.
	Last    time.Time    `json:"last"`
	Sender  string       `json:"sender"`
	QueueID mail.QueueID `json:"queue_id"`
}

// Observed hands what was observed to each, by rule, and most messages first. An
// error of each ends it.
func (b *Books) Observed(ctx context.Context, q ObservedQuestion, each func(Observed) error) error {
	return stream(ctx, b, QuestionObserved, q, each)
}
