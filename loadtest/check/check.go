// Package check holds the three witnesses of a load test against each other:
// what the generator was told, what reached the sink, and what the relay's
// ledger claims (see package journal). Any two that disagree fail the run.
//
// A pair is one recipient of one attempt to submit. It is accepted when RCPT
// and the dot were answered 2yz; ambiguous when the dot was sent and no answer
// came; late when the dot was answered 4yz, after which a relay whose store
// timed out may yet have the message; else refused.
//
// The invariants:
//
//   - I1 conservation: every accepted pair is in the ledger once, in exactly
//     one terminal state, and the world agrees with that state. Delivered: at
//     least one copy that the sink acknowledged. Bounced, expired: no such
//     copy, and exactly one failure report to the sender (none for the null
//     reverse-path). Removed: no copy, an actor and a reason. Discarded: no
//     copy, and the rule as the reason. The QueueID is that of the reply.
//     Ambiguous and late pairs that are in the ledger are held to the same.
//   - I2 no phantoms: every copy, report and ledger row of this run belongs to
//     a pair that was accepted or is ambiguous. Late messages are counted
//     against a budget and must be marked late_accept; what was refused with
//     5yz, or before the dot, has none.
//   - I3 bounded duplicates: acknowledged copies beyond the first, and repeated
//     reports, are at most as many as the ambiguities that were injected; all
//     copies of a pair have one Message-ID; where the sink took a message more
//     than once the ledger says possible_duplicate.
//   - I4 exclusivity: no pair has both an acknowledged copy and a failure
//     report.
//   - I6 integrity: the body of every copy is the one that was submitted.
//
// A pair that is still queued is neither right nor wrong: it makes the run
// "not quiescent", unless that is allowed. Deciding is a function of its
// arguments; nothing here does I/O but the writing of the report.
//
// Limits: ledger rows of other runs are passed over, since a relay may carry
// other mail; sink lines are not, so each run needs a sink journal of its own.
package check

import (
	"errors"
	"fmt"

	"github.com/postrider/postrider/loadtest/journal"
)

// Witnesses are the three testimonies.
type Witnesses struct {
	Client []journal.Submission
	Sink   []journal.Arrival
	Ledger []journal.Settlement
}

// Budget is what a run with injected faults may show.
type Budget struct {
	// Duplicates is the number of ambiguities injected on the way out:
	// kills between a dot and the record of its reply.
	Duplicates int
	// Late is the number of messages that may exist after a 4yz to the dot:
	// store timeouts injected.
	Late int
	// AllowQueued accepts pairs without a terminal state.
	AllowQueued bool
}

// Invariant is one promise that is checked.
type Invariant string

// The invariants, numbered as in the reliability plan. I5, I7, I8 and I9
// are not seen by these witnesses.
const (
	Conservation Invariant = "I1 conservation"
	NoPhantoms   Invariant = "I2 no phantoms"
	Duplicates   Invariant = "I3 bounded duplicates"
	Exclusivity  Invariant = "I4 exclusivity"
	Integrity    Invariant = "I6 integrity"
)

// Violation is one disagreement.
type Violation struct {
	Invariant Invariant `json:"invariant"`
	// Token and Recipient name the pair; the latter is empty for a whole
	// message.
	Token     string `json:"token"`
	Recipient string `json:"recipient,omitempty"`
	Detail    string `json:"detail"`
}

// Verdict is the outcome; its number is the exit code.
type Verdict int

// The verdicts. Unusable is that of input that cannot be judged at all.
const (
	Holds        Verdict = 0
	Violated     Verdict = 1
	Unusable     Verdict = 2
	NotQuiescent Verdict = 3
)

func (v Verdict) String() string {
	switch v {
	case Holds:
		return "holds"
	case Violated:
		return "violated"
	case NotQuiescent:
		return "not quiescent"
	}
	return "unusable"
}

// MarshalText writes the name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Counts say how much was checked.
type Counts struct {
	Messages int `json:"messages"`
	// Pairs by what the client was told.
	Accepted  int `json:"accepted"`
	Ambiguous int `json:"ambiguous"`
	Late      int `json:"late"`
	Refused   int `json:"refused"`
	// States of the pairs of this run in the ledger.
	States map[journal.State]int `json:"states"`
	// OtherRows are ledger rows of other mail, the relay's own reports among
	// them; OtherQueued of these are queued.
	OtherRows   int `json:"other_rows"`
	OtherQueued int `json:"other_queued"`
	// Copies counts sink copies per recipient; Unacknowledged are those whose
	// dot the sink did not answer.
	Copies         int `json:"copies"`
	Unacknowledged int `json:"unacknowledged"`
	// FailureReports and OtherReports (delays) reached the sink.
	FailureReports int `json:"failure_reports"`
	OtherReports   int `json:"other_reports"`
	// DuplicateCopies and LateAccepted are held against the budget.
	DuplicateCopies int `json:"duplicate_copies"`
	LateAccepted    int `json:"late_accepted"`
	// AmbiguousFailures are pairs with a failure report of which the sink
	// took a copy it never acknowledged: both sides are right (RFC 1047).
	AmbiguousFailures int `json:"ambiguous_failures"`
	// GoodBounced are pairs that bounced although the sink takes them: no
	// violation, but a run without faults should have none.
	GoodBounced int `json:"good_bounced"`
}

// Result is what Check found.
type Result struct {
	Verdict    Verdict     `json:"verdict"`
	Counts     Counts      `json:"counts"`
	Violations []Violation `json:"violations"`
	// Queued are accepted pairs that are not settled yet, by "token recipient".
	Queued []string `json:"queued,omitempty"`
}

// Check holds the witnesses against each other. The error wraps
// journal.ErrUnusable when they cannot be judged.
func Check(w Witnesses, b Budget) (Result, error) {
	a, err := newAccount(w)
	if err != nil {
		return Result{Verdict: Unusable}, err
	}
	c := &checker{
		account:    a,
		budget:     b,
		counts:     Counts{States: map[journal.State]int{}},
		late:       map[string]bool{},
		violations: []Violation{},
	}
	for _, p := range a.pairs {
		c.noPhantoms(p)
		c.conservation(p)
		c.duplicates(p)
		c.exclusivity(p)
		c.integrity(p)
		c.count(p)
	}
	c.strays()
	c.budgets()
	return c.result(), nil
}

// checker gathers violations. Its methods are the invariants, in
// invariants.go.
type checker struct {
	account    *account
	budget     Budget
	counts     Counts
	late       map[string]bool // tokens of late messages that exist
	queued     []string
	violations []Violation
}

func (c *checker) violated(i Invariant, p *pair, format string, values ...any) {
	c.violations = append(c.violations, Violation{
		Invariant: i, Token: p.message.token, Recipient: p.recipient.Address, Detail: fmt.Sprintf(format, values...),
	})
}

func (c *checker) result() Result {
	r := Result{Counts: c.counts, Violations: c.violations, Queued: c.queued}
	r.Counts.Messages = len(c.account.messages)
	r.Counts.OtherRows, r.Counts.OtherQueued = c.account.otherRows, c.account.otherQueued
	switch {
	case len(r.Violations) > 0:
		r.Verdict = Violated
	case len(r.Queued) > 0 && !c.budget.AllowQueued:
		r.Verdict = NotQuiescent
	}
	return r
}

var errNoSubmissions = errors.New("the client's journal names no submission")
