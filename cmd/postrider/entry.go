package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// The commands of the smaller kinds of entries have one shape: ls, add and rm.

// record is what a change says of itself, and whether it may replace what is
// there.
type record struct {
	reason, ticket string
	replace        bool
}

func (r *record) change() registry.Change {
	c := change(r.reason)
	c.Ticket = r.ticket
	return c
}

// adding is a command that adds the entry that read makes of its arguments.
func adding(f *flags, c *cobra.Command, read func(args []string) (registry.Item, error)) *cobra.Command {
	r := &record{}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		item, err := read(args)
		if err != nil {
			return err
		}
		if faults := item.Faults(); len(faults) > 0 {
			return usage("%s", faults[0].Text)
		}
		return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
			done := "added"
			if old := there(snapshot, item); old != nil && (r.replace || ended(old)) {
				item.Audit().Revision, done = old.Audit().Revision, "changed"
			}
			item.Audit().Stamp(r.change())
			if err := s.Put(cmd.Context(), item); err != nil {
				return storeError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", visible(item.String()), done)
			if b, ok := item.(*registry.Block); ok {
				fmt.Fprint(cmd.ErrOrStderr(), whomItStops(snapshot, b))
			}
			return nil
		})
	}
	c.Flags().BoolVar(&r.replace, "replace", false, "change it where it is there already")
	recordFlags(c, &r.reason, &r.ticket)
	return c
}

// removing is a command that removes the entry that read makes of its arguments.
func removing(f *flags, c *cobra.Command, read func(args []string) (registry.Item, error)) *cobra.Command {
	r := &record{}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		item, err := read(args)
		if err != nil {
			return err
		}
		return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
			old := there(snapshot, item)
			if old == nil {
				return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("there is no %s; see: %s ls", item, cmd.Parent().CommandPath())}
			}
			if err := inUse(snapshot, old); err != nil {
				return err
			}
			if err := s.Remove(cmd.Context(), old, r.change()); err != nil {
				return storeError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is removed\n", visible(old.String()))
			return nil
		})
	}
	recordFlags(c, &r.reason, &r.ticket)
	return c
}

// inUse refuses to remove a unit that has devices: nobody would hear of them any
// more, and a third party would be held to no contract and no subdomain.
func inUse(snapshot *registry.Snapshot, item registry.Item) error {
	o, ok := item.(*registry.Owner)
	if !ok {
		return nil
	}
	n := 0
	for _, d := range snapshot.Entries().Devices {
		if d.Owner == o.Name && d.State != registry.StateRetired {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s has %d devices; retire them, or give them to another: postrider device ls owner:%s", o, n, o.Name)}
}

// lister is the command that lists one kind of entries.
func lister[T any](f *flags, short string, columns []string, rows func(registry.Entries) []T, cells func(T) []string) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls",
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				return list(cmd, f, columns, rows(snapshot.Entries()), cells)
			})
		},
	})
}

// there is the entry of that key in the registry; nil is none.
func there(snapshot *registry.Snapshot, like registry.Item) registry.Item {
	entries := snapshot.Entries()
	for item := range entries.All() {
		if item.Key() == like.Key() {
			return item
		}
	}
	return nil
}

// ended reports a block that holds no more.
func ended(item registry.Item) bool {
	b, ok := item.(*registry.Block)
	return ok && !b.Holds(time.Now())
}

// lasting is the end of an entry for a list.
func lasting(until time.Time) string {
	switch {
	case until.IsZero():
		return "-"
	case time.Now().After(until):
		return "ended"
	}
	return until.Local().Format(time.DateTime)
}
