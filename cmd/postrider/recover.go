package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

func newRecover(f *flags) *cobra.Command {
	var plan bool
	var confirm string
	c := withOutput(f, answers, &cobra.Command{
		Use:   "recover",
		Short: "What is lost, and what to do about it",
		Long: `Show what is accepted, not settled, and in no stream any more, and what
recovery would do about it. A few lost messages it drives again by itself. More
than 100, or a LEDGER that was restored from an earlier copy, wait until the
plan was read and confirmed: while LEDGER is not what it was, nothing is sent.

A plan has an id that stands for everything it would do. When that has changed
since, nothing is done, and the exit code is 5.`,
		Example: "  postrider ledger recover --plan\n  postrider ledger recover --confirm PLAN-ID",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if plan && confirm != "" {
				return usage("--plan changes nothing, --confirm does: choose one")
			}
			_, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			p, err := askLeader(cmd, bus, books.RecoverQuestion{Confirm: confirm, Actor: actor()})
			if errors.Is(err, books.ErrPlanChanged) {
				return &service.Exit{Code: service.ExitConflict, Err: err}
			}
			if err != nil {
				return bookError(err)
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), p)
			}
			return printPlan(cmd.OutOrStdout(), p)
		},
	})
	c.Flags().BoolVar(&plan, "plan", false, "show the plan (the default)")
	c.Flags().StringVar(&confirm, "confirm", "", "carry out the plan with this `id`")
	return c
}

// leaderPatience is how long the ledger services may take to choose who leads:
// the lease of one that was killed lapses first.
const leaderPatience = queue.WorkerTTL + 10*time.Second

// askLeader asks the ledger service that leads, once there is one.
func askLeader(cmd *cobra.Command, bus *queue.Bus, q books.RecoverQuestion) (*books.Plan, error) {
	client := books.Client(bus)
	told, waiting := time.Now(), false
	for give := time.Now().Add(leaderPatience); ; {
		p, err := client.Recover(cmd.Context(), q, func(done, total int) {
			if done == total || time.Since(told) > time.Second {
				told = time.Now()
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d messages\n", done, total)
			}
		})
		if !errors.Is(err, books.ErrUnreachable) && !errors.Is(err, books.ErrBehind) || time.Now().After(give) {
			return p, err
		}
		if _, none := client.Status(cmd.Context()); none != nil {
			return nil, err
		}
		if !waiting {
			waiting = true
			fmt.Fprintln(cmd.ErrOrStderr(), "waiting for the ledger service to be ready for it")
		}
		if err := pause(cmd.Context(), time.Second); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// does says what an action does, and what it did.
var does = map[books.Action][2]string{
	books.ActionEnter:  {"in MAIL and not in LEDGER: enter in the books again", "entered in the books again"},
	books.ActionSettle: {"settled, as an earlier index knows: write that again, send nothing", "settled again, nothing was sent"},
	books.ActionReport: {"failed, without a report: ask for the report", "reports asked for"},
	books.ActionHold:   {"held, and lost from what is held: hold again, send nothing", "held again"},
	books.ActionDrive:  {"lost from the streams: send through the relay", "driven"},
	books.ActionGone:   {"lost with their content: nothing can be done", "lost with their content"},
	books.ActionResume: {"in the streams: sent once this is confirmed, also where the lost part of LEDGER knew better", "in the streams, and sent from now on"},
}

func printPlan(out io.Writer, p *books.Plan) error {
	if p.RolledBack != "" {
		fmt.Fprintf(out, "x %s.\n", p.RolledBack)
		printEvidence(out, p)
		fmt.Fprintln(out)
	}
	for _, a := range p.Actions {
		what := does[a.Action][0]
		if p.Done {
			what = does[a.Action][1]
		}
		fmt.Fprintf(out, "%s: %d messages, %d recipients, %s\n", a.Action, a.Messages, a.Recipients, what)
		if err := printRows(out, a); err != nil {
			return err
		}
	}
	if len(p.Actions) > 0 {
		fmt.Fprintln(out)
	}
	var err error
	switch {
	case p.Done:
		_, err = fmt.Fprintln(out, "+ It is done.")
	case p.ID == "" && len(p.Actions) > 0:
		_, err = fmt.Fprintln(out, "x Nothing can be done about these.")
	case p.ID == "":
		_, err = fmt.Fprintln(out, "+ Nothing is lost, nothing to do.")
	case p.Held == "":
		_, err = fmt.Fprintf(out, "Plan %s. The relay does this by itself, at the next look. To do it now:\n  postrider ledger recover --confirm %s\n", p.ID, p.ID)
	default:
		_, err = fmt.Fprintf(out, "Plan %s. Nothing moves before it is confirmed: %s.\nTo do it:\n  postrider ledger recover --confirm %s\n", p.ID, p.Held, p.ID)
	}
	return err
}

// printEvidence says what is known of the part of LEDGER that is lost.
func printEvidence(out io.Writer, p *books.Plan) {
	for _, e := range p.Evidence {
		if e.Problem != "" {
			fmt.Fprintf(out, "x The earlier index %s cannot be read: %s\n", filepath.Base(e.File), e.Problem)
			continue
		}
		fmt.Fprintf(out, "+ The earlier index %s knows what was settled until %s.\n", filepath.Base(e.File), e.Until.Local().Format(time.DateTime))
	}
	if len(p.Evidence) == 0 {
		fmt.Fprintln(out, "x No earlier index is there: what was delivered since the copy was made would be sent again.")
	}
}

// planRows is how many owners and destinations an action shows.
const planRows = 20

func printRows(out io.Writer, a books.PlanAction) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for i, r := range a.Rows {
		if i == planRows {
			fmt.Fprintf(w, "  and %d more (-o json)\n", len(a.Rows)-planRows)
			break
		}
		fmt.Fprintf(w, "  %d\t%s\t%s\n", r.Recipients, visible(dash(r.Owner)), visible(r.Destination))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range a.Examples {
		reason := ""
		if e.Reason != "" {
			reason = ": " + visible(e.Reason)
		}
		fmt.Fprintf(out, "  e.g. %s %s%s\n", e.QueueID, visible(e.Recipient), reason)
	}
	return nil
}
