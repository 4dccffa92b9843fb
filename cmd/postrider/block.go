package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
)

func newBlock(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "block", Short: "Refuse an address, a range, a sender or a sender's domain at once"}
	c.AddCommand(
		lister(f, "List blocks", []string{"subject", "until", "since", "by", "reason", "ticket"},
			func(e registry.Entries) []*registry.Block { return e.Blocks },
			func(b *registry.Block) []string {
				return []string{b.Subject, lasting(b.Until), b.At.Local().Format(time.DateTime), b.By, b.Reason, b.Ticket}
			}),
		newBlockAdd(f),
		removing(f, &cobra.Command{Use: "rm SUBJECT", Short: "End a block", Args: cobra.ExactArgs(1)}, func(args []string) (registry.Item, error) {
			return &registry.Block{Subject: registry.BlockSubject(args[0])}, nil
		}))
	return c
}

func newBlockAdd(f *flags) *cobra.Command {
	until := ""
	var c *cobra.Command
	c = adding(f, &cobra.Command{
		Use:   "add ADDRESS|RANGE|USER@DOMAIN|@DOMAIN",
		Short: "Refuse, whatever is registered, and on open sessions, too",
		Long:  "Refuse all mail from an address or range, or of a sender. No device needs to be\nregistered for it, and nobody is told before.\n\n  postrider block add 10.2.3.4 --reason \"sends phishing\" --until 7d\n  postrider block add @spam.test --reason \"ticket 4711\"",
		Args:  cobra.ExactArgs(1),
	}, func(args []string) (registry.Item, error) {
		if reason := c.Flags().Lookup("reason").Value.String(); reason == "" {
			return nil, errNeedsReason
		}
		end, err := moment(until, time.Now())
		if err != nil {
			return nil, usage("--until: %w", err)
		}
		return &registry.Block{Subject: registry.BlockSubject(args[0]), Until: end}, nil
	})
	c.Flags().StringVar(&until, "until", "", "when it ends: a date or a duration; without one never")
	return c
}
