package check

import (
	"strings"

	"github.com/postrider/postrider/loadtest/journal"
)

// noPhantoms is I2 for what belongs to a pair: nothing that was refused is
// anywhere. A message that was refused for now is remembered for the budget.
func (c *checker) noPhantoms(p *pair) {
	exists := len(p.copies)+len(p.failures)+len(p.rows) > 0
	if !exists {
		return
	}
	switch p.fate {
	case refused:
		if len(p.copies) > 0 {
			c.violated(NoPhantoms, p, "%s, yet the sink has %d copies", told(p), len(p.copies))
		}
		if len(p.failures) > 0 {
			c.violated(NoPhantoms, p, "%s, yet reported as failed", told(p))
		}
		if len(p.rows) > 0 {
			c.violated(NoPhantoms, p, "%s, yet the ledger says %s", told(p), states(p))
		}
	case late:
		c.late[p.message.token] = true
		for _, row := range p.rows {
			if !row.LateAccept {
				c.violated(NoPhantoms, p, "%s, yet the ledger says %s without late_accept", told(p), row.State)
			}
		}
	}
}

// conservation is I1.
func (c *checker) conservation(p *pair) {
	if p.fate == refused {
		return
	}
	switch len(p.rows) {
	case 0:
		if p.fate == accepted || len(p.copies)+len(p.failures) > 0 {
			c.violated(Conservation, p, "%s, but not in the ledger; the sink has %d copies and %d reports", told(p), len(p.copies), len(p.failures))
		}
		return
	case 1:
	default:
		c.violated(Conservation, p, "%d rows in the ledger: %s", len(p.rows), states(p))
	}
	for _, row := range p.rows {
		c.row(p, row)
	}
}

// row holds one ledger row against the world.
func (c *checker) row(p *pair, row journal.Settlement) {
	if id := p.message.end.QueueID; id != "" && row.QueueID != "" && id != row.QueueID {
		c.violated(Conservation, p, "reply said queued as %s, the ledger has %s", id, row.QueueID)
	}
	copies := p.acknowledged()
	if row.State != journal.Delivered && row.State != journal.Queued && copies > 0 {
		c.violated(Conservation, p, "ledger says %s, the sink acknowledged %d copies", row.State, copies)
	}
	switch row.State {
	case journal.Queued:
		c.queued = append(c.queued, p.message.token+" "+p.recipient.Address)
	case journal.Delivered:
		if copies == 0 {
			c.violated(Conservation, p, "ledger says delivered to %q, the sink acknowledged no copy", row.RemoteMTA)
		}
	case journal.Bounced, journal.Expired:
		c.report(p, row)
	case journal.Removed:
		if row.Actor == "" || row.Reason == "" {
			c.violated(Conservation, p, "removed without actor or reason (actor %q, reason %q)", row.Actor, row.Reason)
		}
		c.noReport(p, row)
	case journal.Discarded:
		if row.Reason == "" {
			c.violated(Conservation, p, "discarded without the rule as its reason")
		}
		c.noReport(p, row)
	default:
		c.violated(Conservation, p, "ledger has the unknown state %q", row.State)
	}
}

// report wants exactly one failure report for a bounced or expired pair. The
// same report delivered twice is a duplicate and not a second report.
func (c *checker) report(p *pair, row journal.Settlement) {
	ids, acknowledged := map[string]bool{}, 0
	for _, failure := range p.failures {
		ids[bare(failure.MessageID)] = true
		if failure.Acknowledged {
			acknowledged++
		}
	}
	switch {
	case p.message.sent.Sender == "":
		// Reports to nobody are astray, see account.reported.
	case acknowledged == 0:
		c.violated(Conservation, p, "ledger says %s (%s), but no report reached the sender", row.State, row.Status)
	case len(ids) > 1:
		c.violated(Conservation, p, "%d different failure reports", len(ids))
	}
}

func (c *checker) noReport(p *pair, row journal.Settlement) {
	if len(p.failures) > 0 {
		c.violated(Conservation, p, "ledger says %s, the sender got a failure report", row.State)
	}
}

// duplicates is I3 for one pair; the sum is held against the budget later.
func (c *checker) duplicates(p *pair) {
	c.counts.DuplicateCopies += extra(p)
	for _, arrived := range p.copies {
		if bare(arrived.MessageID) != bare(p.message.sent.MessageID) {
			c.violated(Duplicates, p, "copy has Message-ID %q, submitted was %q", arrived.MessageID, p.message.sent.MessageID)
		}
	}
	// A copy that was not acknowledged is one, too, if another followed:
	// a mailbox would hold both.
	if len(p.copies) > 1 && len(p.rows) > 0 && !p.rows[0].PossibleDuplicate && p.rows[0].State.Terminal() {
		c.violated(Duplicates, p, "the sink has %d copies, the ledger does not say possible_duplicate", len(p.copies))
	}
}

// extra counts acknowledged copies beyond the first, and acknowledged
// repetitions of the same report.
func extra(p *pair) int {
	seen, repeated := map[string]bool{}, 0
	for _, failure := range p.failures {
		if !failure.Acknowledged {
			continue
		}
		if id := bare(failure.MessageID); seen[id] {
			repeated++
		} else {
			seen[id] = true
		}
	}
	return repeated + max(0, p.acknowledged()-1)
}

// exclusivity is I4.
func (c *checker) exclusivity(p *pair) {
	if len(p.failures) == 0 || len(p.copies) == 0 {
		return
	}
	if n := p.acknowledged(); n > 0 {
		c.violated(Exclusivity, p, "the sink acknowledged %d copies and the sender got a failure report", n)
		return
	}
	c.counts.AmbiguousFailures++
}

// integrity is I6.
func (c *checker) integrity(p *pair) {
	for _, arrived := range p.copies {
		if arrived.BodySHA256 != p.message.sent.BodySHA256 {
			c.violated(Integrity, p, "body digest %.12s, submitted %.12s", arrived.BodySHA256, p.message.sent.BodySHA256)
		}
	}
}

func (c *checker) count(p *pair) {
	switch p.fate {
	case accepted:
		c.counts.Accepted++
	case ambiguous:
		c.counts.Ambiguous++
	case late:
		c.counts.Late++
	case refused:
		c.counts.Refused++
	}
	for _, row := range p.rows {
		c.counts.States[row.State]++
		if row.State == journal.Bounced && !p.recipient.Bad {
			c.counts.GoodBounced++
		}
	}
	c.counts.Copies += len(p.copies)
	c.counts.Unacknowledged += len(p.copies) - p.acknowledged()
	c.counts.FailureReports += len(p.failures)
}

// strays is I2 for what belongs to no pair.
func (c *checker) strays() {
	c.violations = append(c.violations, c.account.stray...)
	c.counts.OtherReports = c.account.delays
}

// budgets holds the sums of I2 and I3 against what was injected.
func (c *checker) budgets() {
	c.counts.LateAccepted = len(c.late)
	if c.counts.LateAccepted > c.budget.Late {
		for _, p := range c.account.pairs {
			if c.late[p.message.token] {
				c.violated(NoPhantoms, p, "%s, yet the message exists; %d such messages, budget %d", told(p), c.counts.LateAccepted, c.budget.Late)
			}
		}
	}
	if c.counts.DuplicateCopies > c.budget.Duplicates {
		for _, p := range c.account.pairs {
			if n := extra(p); n > 0 {
				c.violated(Duplicates, p, "%d copies acknowledged beyond the first; %d in all, budget %d", n, c.counts.DuplicateCopies, c.budget.Duplicates)
			}
		}
	}
}

// told is what the client heard about the pair.
func told(p *pair) string {
	m := p.message
	switch {
	case p.recipient.RcptReply != 0 && p.recipient.RcptReply/100 != 2:
		return "RCPT was answered " + code(p.recipient.RcptReply)
	case m.end.Code != 0:
		return p.fate.String() + " with " + code(m.end.Code)
	case !m.reached:
		return "the dot was never sent"
	}
	return p.fate.String()
}

func states(p *pair) string {
	var names []string
	for _, row := range p.rows {
		names = append(names, string(row.State))
	}
	return strings.Join(names, ", ")
}
