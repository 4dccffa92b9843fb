package books

import (
	"context"

	"github.com/postrider/postrider/shared/mail"
)

// QuestionEnds asks what became of one message.
const QuestionEnds Question = "ends"

// EndsQuestion asks for Ends.
type EndsQuestion struct {
	QueueID mail.QueueID `json:"queue_id"`
	// AtLeast is the sequence of LEDGER that the answer must know.
	AtLeast uint64 `json:"at_least,omitempty"`
}

// Ends is what the books say of the recipients of a message: what a worker
// subtracts from a job that is older than what it remembers itself.
type Ends struct {
	// Known says that the books have a record of the message.
	Known bool `json:"known"`
	// Drive is the highest number under which recovery drove the message: jobs
	// of a lower one are void.
	Drive int `json:"drive,omitempty"`
	// Ends are the recipients who get no further attempt, by address: the
	// terminal outcome, or event.Failed where a report is still due.
	Ends map[string]string `json:"ends,omitempty"`
}

// Ends asks what became of a message, as LEDGER tells it up to the sequence
// atLeast. It is ErrBehind when the index has not come that far within Wait.
func (b *Books) Ends(ctx context.Context, id mail.QueueID, atLeast uint64) (*Ends, error) {
	return one[Ends](ctx, b, QuestionEnds, EndsQuestion{QueueID: id, AtLeast: atLeast})
}
