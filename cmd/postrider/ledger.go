package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/service"
)

func newLedger(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "The books: balance, export, and recovery"}
	c.AddCommand(newBalance(f), newExport(f), newRecover(f))
	return c
}

func newBalance(f *flags) *cobra.Command {
	return withOutput(f, answers, &cobra.Command{
		Use:   "balance",
		Short: "Check that every accepted recipient is settled or queued; exits 20 otherwise",
		Long: `Check that accepted = delivered + bounced + expired + removed + discarded +
queued, by owner and destination. Queued is counted from the streams, never by
subtraction. Work in flight is waited for, up to 10 s. Exits 20 on a difference.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			b, err := books.Client(bus).Balance(cmd.Context(), books.BalanceQuestion{})
			if err != nil {
				return bookError(err)
			}
			if f.output == "json" {
				err = printJSON(cmd.OutOrStdout(), b)
			} else {
				err = printBalance(cmd.OutOrStdout(), b)
			}
			if err == nil && !b.Balances() {
				return no(service.ExitUnbalanced, "does not balance")
			}
			return err
		},
	})
}

func printBalance(out io.Writer, b *books.Balance) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "OWNER\tDESTINATION\tACCEPTED\tDELIVERED\tBOUNCED\tEXPIRED\tREMOVED\tDISCARDED\tQUEUED\tDIFFERENCE\t")
	row := func(r books.BalanceRow) {
		cells := []string{visible(dash(r.Owner)), visible(dash(r.Destination))}
		for _, n := range []int{r.Accepted, r.Delivered, r.Bounced, r.Expired, r.Removed, r.Discarded, r.Queued, r.Difference} {
			cells = append(cells, strconv.Itoa(n))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
	}
	for _, r := range b.Rows {
		row(r)
	}
	total := b.Total
	total.Owner, total.Destination = "total", ""
	row(total)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAs of %s, LEDGER sequence %d", b.AsOf.Local().Format(time.DateTime), b.Seq)
	if b.Arriving > 0 {
		fmt.Fprintf(out, "; %d messages are arriving and not counted", b.Arriving)
	}
	fmt.Fprintln(out, ".")
	for _, p := range b.Offending {
		fmt.Fprintf(out, "x %s %s: %s\n", p.QueueID, visible(p.Recipient), p.Problem)
	}
	if b.Conflicts > 0 {
		fmt.Fprintf(out, "x %d recipients are in the books both as served and as not served.\n", b.Conflicts)
	}
	if b.Unreadable > 0 {
		fmt.Fprintf(out, "x %d records or queued messages cannot be read; see the log of the ledger service.\n", b.Unreadable)
	}
	if b.Balances() {
		_, err := fmt.Fprintln(out, "+ It balances.")
		return err
	}
	_, err := fmt.Fprintf(out, "x %d recipients do not add up. See: postrider trace ID\n", b.Residual)
	return err
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newExport(f *flags) *cobra.Command {
	var filter books.Filter
	var since, until string
	c := withOutput(f, listings, &cobra.Command{
		Use:   "export",
		Short: "One row for each message and recipient",
		Long:  "Write one row for each message and recipient, after the index has read everything LEDGER holds.\n\n  postrider ledger export -o jsonl --since 24h",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if filter.Since, err = pointInTime(since); err != nil {
				return usage("--since %s: %w", since, err)
			}
			if filter.Until, err = pointInTime(until); err != nil {
				return usage("--until %s: %w", until, err)
			}
			filter.Destination = strings.ToLower(filter.Destination)
			_, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			l, err := newListing(f, cmd.OutOrStdout(), exportColumns, exportCells)
			if err != nil {
				return err
			}
			if err := books.Client(bus).Export(cmd.Context(), filter, l.add); err != nil {
				return bookError(err)
			}
			return l.end()
		},
	})
	flags := c.Flags()
	flags.StringVar(&since, "since", "", "accepted since: a time (2026-11-21T09:00:00Z), a date, or an age (24h, 7d)")
	flags.StringVar(&until, "until", "", "accepted before: as --since")
	flags.StringSliceVar(&filter.States, "state", nil, "only these states (repeatable): "+strings.Join(books.States[:], " "))
	flags.StringVar(&filter.Owner, "owner", "", "only this owner")
	flags.StringVar(&filter.Device, "device", "", "only this device")
	flags.StringVar(&filter.Destination, "domain", "", "only this recipient domain")
	return c
}

// pointInTime reads a time, a date, or an age before now.
func pointInTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("neither a time (2026-11-21T09:00:00Z), nor a date, nor an age (24h, 7d)")
	}
	return time.Now().Add(-time.Duration(d)), nil
}

var exportColumns = []string{"queue_id", "message_id", "submission_id", "sender", "recipient", "device", "owner", "state", "remote_mta", "status",
	"diagnostic", "attempts", "possible_duplicate", "late_accept", "accepted_at", "settled_at", "actor", "reason"}

func exportCells(r books.Row) []string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	return []string{string(r.QueueID), r.MessageID, r.SubmissionID, r.Sender, r.Recipient, r.Device, r.Owner, r.State, r.RemoteMTA, r.Status,
		r.Diagnostic, strconv.Itoa(r.Attempts), strconv.FormatBool(r.PossibleDuplicate), strconv.FormatBool(r.LateAccept),
		at(r.AcceptedAt), at(r.SettledAt), r.Actor, r.Reason}
}
