package check

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/postrider/postrider/loadtest/journal"
)

// shown is how many violations a report for people lists.
const shown = 20

// WriteText writes the result for people: the counts, the first violations,
// and the verdict.
func (r Result) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, n int, remark string) {
		fmt.Fprintf(table, "%s\t%d\t%s\n", name, n, remark)
	}
	c := r.Counts
	row("messages", c.Messages, "attempts to submit")
	row("accepted", c.Accepted, "recipients; RCPT and dot answered 2yz")
	row("ambiguous", c.Ambiguous, "dot sent, no answer")
	row("late", c.Late, "dot answered 4yz")
	row("refused", c.Refused, "RCPT or message refused, or no dot")
	for _, state := range []journal.State{journal.Delivered, journal.Bounced, journal.Expired, journal.Removed, journal.Discarded, journal.Queued} {
		row("  ledger "+string(state), c.States[state], "")
	}
	row("  ledger, other mail", c.OtherRows, fmt.Sprintf("%d queued", c.OtherQueued))
	row("copies at the sink", c.Copies, fmt.Sprintf("%d not acknowledged", c.Unacknowledged))
	row("failure reports", c.FailureReports, fmt.Sprintf("and %d others", c.OtherReports))
	row("duplicates", c.DuplicateCopies, "acknowledged beyond the first")
	row("late accepted", c.LateAccepted, "messages")
	row("ambiguous failures", c.AmbiguousFailures, "reported, and taken without acknowledgement")
	row("good ones bounced", c.GoodBounced, "no violation; expect 0 without faults")
	if err := table.Flush(); err != nil {
		return err
	}
	if err := r.writeViolations(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s: %d violations, %d queued\n", r.Verdict, len(r.Violations), len(r.Queued))
	return err
}

func (r Result) writeViolations(w io.Writer) error {
	for i, v := range r.Violations {
		if i == shown {
			_, err := fmt.Fprintf(w, "  and %d more\n", len(r.Violations)-shown)
			return err
		}
		if i == 0 {
			fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintf(w, "%s  %s  %s\n  %s\n", v.Invariant, v.Token, v.Recipient, v.Detail); err != nil {
			return err
		}
	}
	return nil
}

func code(n int) string { return strconv.Itoa(n) }
