package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
)

func newOwner(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "owner", Short: "The units that have devices"}
	c.AddCommand(
		lister(f, "List owners", []string{"owner", "contacts", "administrators", "external", "contract", "origin"},
			func(e registry.Entries) []*registry.Owner { return e.Owners },
			func(o *registry.Owner) []string {
				return []string{o.Name, strings.Join(o.Contacts, " "), strings.Join(o.Administrators, " "), strconv.FormatBool(o.External), o.Contract, string(o.Origin)}
			}),
		newOwnerAdd(f),
		removing(f, &cobra.Command{Use: "rm NAME", Short: "Forget an owner; its devices keep the name", Args: cobra.ExactArgs(1)}, func(args []string) (registry.Item, error) {
			return &registry.Owner{Name: args[0]}, nil
		}))
	return c
}

func newOwnerAdd(f *flags) *cobra.Command {
	var o registry.Owner
	c := adding(f, &cobra.Command{
		Use:   "add NAME",
		Short: "Note a unit, with the contacts of its devices",
		Long:  "Note a unit. Its contacts hear about devices that have none of their own. Its\nadministrators may ask for devices of the unit, and change, stop and end them, when\nthey run postrider by sudo; see docs/AUTHORIZATION.md.\n\n  postrider owner add chem --contact chem-it@campus.test --administrator anna",
		Args:  cobra.ExactArgs(1),
	}, func(args []string) (registry.Item, error) {
		o.Name = args[0]
		return &o, nil
	})
	c.Flags().StringSliceVar(&o.Contacts, "contact", nil, "address that hears about trouble (repeatable)")
	c.Flags().BoolVar(&o.External, "external", false, "a third party: it sends as subdomains only")
	c.Flags().StringVar(&o.Contract, "contract", "", "reference of the contract")
	c.Flags().StringSliceVar(&o.Administrators, "administrator", nil, "login name of who may act for the unit, and for no other, by sudo (repeatable)")
	return c
}
