package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/books"
)

// fact is what recovery knows of one message: those of its recipients who have
// no end in LEDGER.
type fact struct {
	message
	// entered: LEDGER has its accepted record.
	entered bool
	// stored: its content is where the accepted record says, or kept.
	stored bool
	open   []openRecipient
}

// openRecipient is a recipient without an end in LEDGER.
type openRecipient struct {
	recipient
	// lost: in no stream.
	lost bool
	// known is what an earlier index knew of it; queued says nothing.
	known recipient
}

// step is one thing to do about recipients of a message.
type step struct {
	action books.Action
	rcpts  []openRecipient
	reason string
}

// decide says what is to be done about a message. It does no I/O.
//
// A message is driven with all its recipients who still wait, not only with
// those who are lost: a drive voids the jobs of the one before. Who is held is
// not driven: he is held again.
func decide(f *fact) (steps []step) {
	add := func(a books.Action, reason string, rcpts []openRecipient) {
		if len(rcpts) > 0 {
			steps = append(steps, step{a, rcpts, reason})
		}
	}
	settled, rest := divide(f.open, func(r *openRecipient) bool { return r.known.state != queued })
	if !f.entered && !f.stored {
		lost, _ := divide(rest, isLost)
		add(books.ActionGone, "LEDGER has lost its records, and its content is no longer stored", lost)
		return steps
	}
	failed, rest := divide(rest, func(r *openRecipient) bool { return r.failed != 0 })
	held, rest := divide(rest, func(r *openRecipient) bool { return r.held() })
	lost, found := divide(rest, isLost)
	if !f.entered {
		add(books.ActionEnter, "", f.open)
	}
	add(books.ActionSettle, "", settled)
	unreported, _ := divide(failed, isLost)
	add(books.ActionReport, "", unreported)
	unheld, stillHeld := divide(held, isLost)
	add(books.ActionResume, "", stillHeld)
	if f.stored {
		add(books.ActionHold, "", unheld)
	} else {
		add(books.ActionGone, "its content is no longer stored", unheld)
	}
	switch {
	case len(lost) > 0 && f.stored:
		add(books.ActionDrive, "", rest)
	case len(lost) > 0:
		add(books.ActionGone, "its content is no longer stored", lost)
		add(books.ActionResume, "", found)
	default:
		add(books.ActionResume, "", found)
	}
	return steps
}

func isLost(r *openRecipient) bool { return r.lost }

// divide tells those for whom something holds from the others.
func divide(all []openRecipient, holds func(*openRecipient) bool) (yes, no []openRecipient) {
	for i := range all {
		if holds(&all[i]) {
			yes = append(yes, all[i])
		} else {
			no = append(no, all[i])
		}
	}
	return yes, no
}

// planner adds steps up to a plan. It keeps sums and a mark of each step, not
// the steps: a plan may be long.
type planner struct {
	plan    books.Plan
	actions map[books.Action]*books.PlanAction
	rows    map[books.Action]map[rowKey]int
	digest  hash.Hash
	marks   map[uint64]struct{}
	moves   int // messages that a step moves
}

// newPlanner begins a plan. What it is about belongs to its identity.
func newPlanner(about string) *planner {
	p := &planner{actions: map[books.Action]*books.PlanAction{}, rows: map[books.Action]map[rowKey]int{}, digest: sha256.New(), marks: map[uint64]struct{}{}}
	fmt.Fprintln(p.digest, about)
	return p
}

// add enters the steps of one message.
func (p *planner) add(f *fact, steps []step) {
	moves := false
	for _, s := range steps {
		a := p.actions[s.action]
		if a == nil {
			a = &books.PlanAction{Action: s.action}
			p.actions[s.action], p.rows[s.action] = a, map[rowKey]int{}
		}
		a.Messages++
		a.Recipients += len(s.rcpts)
		for i := range s.rcpts {
			p.rows[s.action][rowKey{f.owner, s.rcpts[i].destination}]++
			if len(a.Examples) < books.MaxExamples {
				a.Examples = append(a.Examples, books.PlanExample{QueueID: f.queueID, Recipient: s.rcpts[i].address, Reason: s.reason})
			}
		}
		if !s.action.Moves() {
			continue
		}
		moves = true
		for i := range s.rcpts {
			line := lineOf(s.action, f, &s.rcpts[i])
			fmt.Fprintln(p.digest, line)
			p.marks[markOf(line)] = struct{}{}
		}
	}
	if moves {
		p.moves++
	}
}

// has reports that the plan has this step.
func (p *planner) has(f *fact, s step) bool {
	for i := range s.rcpts {
		if _, ok := p.marks[markOf(lineOf(s.action, f, &s.rcpts[i]))]; !ok {
			return false
		}
	}
	return true
}

// lineOf is what is done to one recipient.
func lineOf(a books.Action, f *fact, r *openRecipient) string {
	return strings.Join([]string{string(a), string(f.queueID), r.address, books.States[r.known.state]}, " ")
}

func markOf(line string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(line))
	return h.Sum64()
}

// finish completes the plan. What is held is identified even when nothing is
// to do: that somebody has seen it is what it waits for.
func (p *planner) finish(rolledBack string) *books.Plan {
	plan := &p.plan
	plan.RolledBack = rolledBack
	plan.Actions = []books.PlanAction{}
	for _, name := range books.Actions {
		a := p.actions[name]
		if a == nil || name == books.ActionResume && rolledBack == "" {
			continue
		}
		for k, n := range p.rows[name] {
			a.Rows = append(a.Rows, books.PlanRow{Owner: k.owner, Destination: k.destination, Recipients: n})
		}
		slices.SortFunc(a.Rows, func(x, y books.PlanRow) int {
			return cmp.Or(cmp.Compare(y.Recipients, x.Recipients), cmp.Compare(x.Owner, y.Owner), cmp.Compare(x.Destination, y.Destination))
		})
		plan.Actions = append(plan.Actions, *a)
	}
	driven := plan.Of(books.ActionDrive).Messages
	switch {
	case rolledBack != "":
		plan.Held = "LEDGER does not know what was sent since it was copied"
	case driven > books.MaxUnconfirmed:
		plan.Held = fmt.Sprintf("%d messages would be driven again; up to %d are without asking", driven, books.MaxUnconfirmed)
	}
	if p.moves > 0 || plan.Held != "" {
		plan.ID = strings.ToLower(base32.StdEncoding.EncodeToString(p.digest.Sum(nil)))[:10]
	}
	return plan
}
