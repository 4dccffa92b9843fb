package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// QuestionRecover asks for the plan of recovery, or confirms it. Only the
// instance that leads answers.
const QuestionRecover Question = "recover"

// ErrPlanChanged reports that what is to be done is no longer what was
// confirmed.
var ErrPlanChanged = errors.New("the plan has changed")

// MaxUnconfirmed is how many messages recovery drives again unasked.
const MaxUnconfirmed = 100

// RecoverQuestion asks for the Plan; with an id it also has it carried out.
type RecoverQuestion struct {
	// Confirm is the ID of the plan that was read.
	Confirm string `json:"confirm,omitempty"`
	// Actor is who confirms.
	Actor string `json:"actor,omitempty"`
}

// Plan is what recovery would do, or did.
type Plan struct {
	AsOf time.Time `json:"as_of"`
	// ID stands for everything that would be done; empty when nothing is to do.
	ID string `json:"id,omitempty"`
	// Held says why nothing moves before the plan is confirmed; empty when
	// recovery does it unasked.
	Held string `json:"held,omitempty"`
	// RolledBack says how LEDGER differs from what it was, if it does.
	RolledBack string `json:"rolled_back,omitempty"`
	// Evidence are the earlier indexes that were consulted about it.
	Evidence []Evidence `json:"evidence,omitempty"`
	// Actions are in the order in which a message meets them.
	Actions []PlanAction `json:"actions"`
	// Done says that all of it was done.
	Done bool `json:"done,omitempty"`
}

// Evidence is an index that was made from LEDGER as it was before.
type Evidence struct {
	File  string    `json:"file"`
	Seq   uint64    `json:"seq"`   // of LEDGER, up to which it knows
	Until time.Time `json:"until"` // when LEDGER stored that
	// Problem is why it cannot be read, if it cannot.
	Problem string `json:"problem,omitempty"`
}

// PlanAction is one thing that is done, and to whom.
type PlanAction struct {
	Action     Action    `json:"action"`
	Messages   int       `json:"messages"`
	Recipients int       `json:"recipients"`
	Rows       []PlanRow `json:"rows"`
	// Examples are the first of them.
	Examples []PlanExample `json:"examples"`
}

// PlanRow counts the recipients of one owner at one destination.
type PlanRow struct {
	Owner       string `json:"owner"`
	Destination string `json:"destination"`
	Recipients  int    `json:"recipients"`
}

// PlanExample is one recipient.
type PlanExample struct {
	QueueID   mail.QueueID `json:"queue_id"`
	Recipient string       `json:"recipient"`
	Reason    string       `json:"reason,omitempty"`
}

// MaxExamples is how many examples an action has.
const MaxExamples = 5

// Action is what recovery does about recipients.
type Action string

// The actions. The last two move nothing: they are told.
const (
	// ActionEnter: in MAIL and not in LEDGER; its accepted record is written
	// again.
	ActionEnter Action = "enter"
	// ActionSettle: an earlier index knows its end, LEDGER does not; the end is
	// written again, and nothing is sent.
	ActionSettle Action = "settle"
	// ActionReport: it failed, and its report is not on the way; bounce is asked
	// again.
	ActionReport Action = "report"
	// ActionHold: held, and no longer among what is; it is held again.
	ActionHold Action = "hold"
	// ActionDrive: accepted, no end, in no stream; it goes through the relay
	// again.
	ActionDrive Action = "drive"
	// ActionGone: lost as those, but its content is no longer stored. Nothing
	// can be done.
	ActionGone Action = "gone"
	// ActionResume: in a stream. While LEDGER is rolled back it is not sent;
	// once the plan is confirmed it is, also where the lost part of LEDGER knew
	// its end and no earlier index does.
	ActionResume Action = "resume"
)

// Actions are all of them, in the order of a plan.
var Actions = [...]Action{ActionEnter, ActionSettle, ActionReport, ActionHold, ActionDrive, ActionGone, ActionResume}

// Moves reports an action that changes something.
func (a Action) Moves() bool { return a != ActionGone && a != ActionResume }

// Of is what the plan has of an action.
func (p *Plan) Of(a Action) PlanAction {
	for _, have := range p.Actions {
		if have.Action == a {
			return have
		}
	}
	return PlanAction{Action: a}
}

// Recovery is what the leader last found, for status.
type Recovery struct {
	// Plan is the id of a plan that waits to be confirmed, Held why.
	Plan string `json:"plan,omitempty"`
	Held string `json:"held,omitempty"`
	// Gone counts recipients that are lost with their content.
	Gone int `json:"gone,omitempty"`
}

// Progress is a value of the answer of recovery: how far it is and, at last,
// the plan.
type Progress struct {
	Done  int   `json:"done"`
	Total int   `json:"total"`
	Plan  *Plan `json:"plan,omitempty"`
}

// Recover asks for the plan, and has it carried out when q confirms it. What is
// done is told to progress meanwhile. It is ErrPlanChanged when the plan is not
// the one that q confirms.
func (b *Books) Recover(ctx context.Context, q RecoverQuestion, progress func(done, total int)) (*Plan, error) {
	answer, err := b.ask(ctx, QuestionRecover, q)
	if err != nil {
		return nil, err
	}
	defer answer.close()
	values := json.NewDecoder(answer)
	var plan *Plan
	for {
		var p Progress
		switch err := values.Decode(&p); {
		case errors.Is(err, io.EOF) && plan != nil:
			return plan, nil
		case err != nil:
			return nil, fmt.Errorf("ask for %s: %w", QuestionRecover, noValue(err))
		}
		if plan = p.Plan; plan == nil {
			progress(p.Done, p.Total)
		}
	}
}
