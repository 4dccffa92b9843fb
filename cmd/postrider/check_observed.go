package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
)

func newCheckObserved(f *flags) *cobra.Command {
	var since string
	c := withOutput(f, listings, &cobra.Command{
		Use:   "observed [RULE]",
		Short: "Whom the rules would stop that only observe",
		Long: `Say whom a rule on observe would have stopped, if it were enforced: by device and
address, who sends most first, with the last message of each. A rule that hits
nobody, or only those it should, is ready for enforce.

  postrider check observed
  postrider check observed fcrdns --since 30d -o csv

Counted are accepted messages, by whole days (UTC), for 90 days.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := pointInTime(since)
			if err != nil {
				return usage("--since %s: %w", since, err)
			}
			q := books.ObservedQuestion{Since: from}
			if len(args) > 0 {
				q.Rule = args[0]
			}
			return withAsking(cmd.Context(), f, func(a *asking) error {
				known, observing := a.switches()
				if q.Rule != "" && !slices.Contains(known, q.Rule) {
					return usage("no rule is called %s; those with a switch are %s", q.Rule, strings.Join(known, ", "))
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "On observe now: %s\n", orElse(strings.Join(observing, ", "), "no rule; set one in policy"))
				l, err := newListing(f, cmd.OutOrStdout(), []string{"rule", "device", "address", "messages", "last", "sender", "queue_id"}, observedCells)
				if err != nil {
					return err
				}
				if err := books.Client(a.bus).Observed(cmd.Context(), q, l.add); err != nil {
					return err
				}
				return l.end()
			})
		},
	})
	c.Flags().StringVar(&since, "since", "7d", "from which day on: a time, a date, or an age")
	return c
}

func observedCells(o books.Observed) []string {
	address := ""
	if o.Address.IsValid() {
		address = o.Address.String()
	}
	return []string{o.Rule, o.Device, address, strconv.FormatInt(o.Messages, 10), o.Last.Local().Format(time.DateTime), o.Sender, string(o.QueueID)}
}

// switches are the rules that have one, and those of them that observe now.
func (a *asking) switches() (known, observing []string) {
	for _, r := range authz.Catalog() {
		mode, ok := authz.ModeOf(a.rules, r.Name)
		if !ok {
			continue
		}
		known = append(known, r.Name)
		if mode == authz.Observe {
			observing = append(observing, r.Name)
		}
	}
	return known, observing
}
