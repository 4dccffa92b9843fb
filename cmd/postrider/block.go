package main

import (
	"fmt"
	"slices"
	"strings"
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

// whomItStops says which active devices a block hits, and how to take it back: an
// address may stand for more than was meant.
func whomItStops(s *registry.Snapshot, b *registry.Block) string {
	var hit []string
	for _, d := range s.Entries().Devices {
		if d.State == registry.StateActive && hits(b, d) {
			hit = append(hit, d.Name)
		}
	}
	var said strings.Builder
	if domain, ok := strings.CutPrefix(b.Subject, "@"); ok && s.Hosted(domain) {
		fmt.Fprintf(&said, "%s is hosted: whoever sends as an address of it is refused\n", visible(domain))
	}
	const named = 5
	switch n := len(hit); {
	case n > named:
		fmt.Fprintf(&said, "It stops %d active devices: %s and %d more\n", n, strings.Join(hit[:named], ", "), n-named)
	case n > 0:
		fmt.Fprintf(&said, "It stops %d active devices: %s\n", n, strings.Join(hit, ", "))
	}
	if said.Len() > 0 {
		fmt.Fprintf(&said, "Not meant? postrider block rm '%s'\n", visible(b.Subject))
	}
	return said.String()
}

// hits reports a device that sends from the addresses, or as the senders, that are
// blocked.
func hits(b *registry.Block, d *registry.Device) bool {
	if p, err := registry.ParseRange(b.Subject); err == nil {
		return slices.ContainsFunc(d.Addresses, func(a registry.Address) bool {
			return a.Active() && p.Overlaps(a.Range)
		})
	}
	return slices.ContainsFunc(d.Senders, func(sender string) bool {
		sender = strings.ToLower(sender)
		return sender == b.Subject || strings.HasPrefix(b.Subject, "@") && strings.HasSuffix(sender, b.Subject)
	})
}
