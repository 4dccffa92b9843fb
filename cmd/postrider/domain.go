package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

func newDomain(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "domain", Short: "The hosted domains, each exact"}
	c.AddCommand(
		lister(f, "List hosted domains", []string{"domain", "route", "internal", "origin", "reason"},
			func(e registry.Entries) []*registry.Domain { return e.Domains },
			func(d *registry.Domain) []string {
				return []string{d.Name, or(d.Route, "by MX"), strconv.FormatBool(d.Internal), string(d.Origin), d.Reason}
			}),
		newDomainAdd(f),
		removing(f, &cobra.Command{Use: "rm NAME", Short: "Host a domain no more", Args: cobra.ExactArgs(1)}, domainOf))
	return c
}

func domainOf(args []string) (registry.Item, error) {
	return &registry.Domain{Name: deviceName(args[0])}, nil
}

func newDomainAdd(f *flags) *cobra.Command {
	var route string
	var internal bool
	c := adding(f, &cobra.Command{
		Use:   "add NAME",
		Short: "Host a domain: campus addresses may send to it",
		Long:  "Host a domain. Its subdomains are not included.\n\n  postrider domain add chem.campus.test --route smtp+verify://mx.chem.campus.test:25",
		Args:  cobra.ExactArgs(1),
	}, func(args []string) (registry.Item, error) {
		d := &registry.Domain{Name: deviceName(args[0]), Route: route, Internal: internal}
		return d, checkRoute(d)
	})
	c.Flags().StringVar(&route, "route", "", "next hop as in delivery.routes; without one by MX")
	c.Flags().BoolVar(&internal, "internal", false, "external owners may send as its subdomains only")
	return c
}

// checkRoute wants a next hop that delivery understands.
func checkRoute(d *registry.Domain) error {
	if d.Route == "" {
		return nil
	}
	if _, err := config.ParseNextHop(d.Route); err != nil {
		return usage("%s: route: %w", d, err)
	}
	return nil
}
