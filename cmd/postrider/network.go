package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
)

func newNetwork(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "network", Short: "What address ranges are: campus, deny, workstations, dhcp, residential, nat, cloud"}
	c.AddCommand(
		lister(f, "List networks", []string{"kind", "range", "note", "origin", "reason"},
			func(e registry.Entries) []*registry.Network { return e.Networks },
			func(n *registry.Network) []string {
				return []string{string(n.Kind), n.Range.String(), n.Note, string(n.Origin), n.Reason}
			}),
		newNetworkAdd(f),
		removing(f, &cobra.Command{Use: "rm KIND RANGE", Short: "Take the meaning from a range", Args: cobra.ExactArgs(2)},
			func(args []string) (registry.Item, error) { return networkOf(args, "") }))
	return c
}

func newNetworkAdd(f *flags) *cobra.Command {
	note := ""
	c := adding(f, &cobra.Command{
		Use:   "add KIND RANGE",
		Short: "Say what an address range is",
		Long: `Say what an address range is.

  campus                            may send to hosted domains, and can be registered
  deny workstations dhcp residential  no mail without authentication, no registration by address
  nat cloud                         authentication for mail beyond the hosted domains

  postrider network add dhcp 10.20.0.0/16 --note "wifi"`,
		Args: cobra.ExactArgs(2),
	}, func(args []string) (registry.Item, error) { return networkOf(args, note) })
	c.Flags().StringVar(&note, "note", "", "what it is, for people")
	return c
}

func networkOf(args []string, note string) (registry.Item, error) {
	p, err := registry.ParseRange(args[1])
	if err != nil {
		return nil, usage("%w", err)
	}
	return &registry.Network{Kind: registry.Kind(strings.ToLower(args[0])), Range: p, Note: note}, nil
}
