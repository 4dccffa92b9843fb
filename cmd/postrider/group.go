package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newGroup(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "The lists of addresses that hear notices"}
	c.AddCommand(
		lister(f, "List groups", []string{"group", "members", "addresses"},
			func(e registry.Entries) []*registry.Group { return e.Groups },
			func(g *registry.Group) []string {
				return []string{g.Name, strconv.Itoa(len(g.Members)), strings.Join(g.Members, " ")}
			}),
		newGroupChange(f, "add NAME ADDRESS...", "Add addresses to a group; a new one is made", cobra.MinimumNArgs(2), joined),
		newGroupChange(f, "rm NAME [ADDRESS...]", "Remove addresses from a group, or the whole group", cobra.MinimumNArgs(1), left))
	return c
}

// newGroupChange is a command that changes who is in a group. What change
// leaves without a group goes.
func newGroupChange(f *flags, use, short string, args cobra.PositionalArgs, change func(g *registry.Group, addresses []string) (keep bool, err error)) *cobra.Command {
	r := &record{}
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
			g := &registry.Group{Name: args[0]}
			if old, ok := snapshot.Group(args[0]); ok {
				var err error
				if g, err = registry.Clone(old); err != nil {
					return err
				}
			}
			keep, err := change(g, args[1:])
			if err != nil {
				return err
			}
			if !keep {
				if err := s.Remove(cmd.Context(), g, r.change()); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is removed\n", visible(g.String()))
				return nil
			}
			if faults := g.Faults(); len(faults) > 0 {
				return usage("%s", faults[0].Text)
			}
			g.Stamp(r.change())
			if err := s.Put(cmd.Context(), g); err != nil {
				return storeError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s has %d members\n", visible(g.String()), len(g.Members))
			return nil
		})
	}}
	recordFlags(c, &r.reason, &r.ticket)
	return c
}

func joined(g *registry.Group, addresses []string) (bool, error) {
	g.Members = combined(g.Members, "+", addresses)
	return true, nil
}

func left(g *registry.Group, addresses []string) (keep bool, err error) {
	for _, a := range addresses {
		if !slices.Contains(g.Members, a) {
			return false, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("%s is not in %s", a, g)}
		}
	}
	g.Members = combined(g.Members, "-", addresses)
	return len(addresses) > 0, nil
}
