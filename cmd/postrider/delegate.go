package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// Administrators of a unit run the program by sudo as the account of the relay:
// they cannot reach the bus by themselves, and so the program is where what they
// may do is decided (registry.Forbidden). Whoever comes otherwise has the account,
// and with it everything.

// delegated are the commands that an administrator of a unit may give at all: the
// others show or decide about the mail of everybody.
var delegated = []string{"device", "credential", "addresses", "help", "completion"}

// permitted refuses what a delegate may not change.
func permitted(snapshot *registry.Snapshot, units []string, item registry.Item) error {
	if why := snapshot.Forbidden(units, item); why != "" {
		return notPermitted("%s: %s", item, why)
	}
	return nil
}

func notPermitted(format string, args ...any) error {
	return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf(format, args...)}
}

// admit refuses a command to who administers units only.
func admit(ctx context.Context, cfg *config.Config, bus *queue.Bus, command string) error {
	if slices.Contains(delegated, command) {
		return nil
	}
	s, err := store.Open(ctx, bus, cfg.FileEntries())
	if err != nil {
		return err
	}
	snapshot, err := s.Load(ctx)
	if err != nil {
		return err
	}
	if units := snapshot.Administers(actor()); len(units) > 0 {
		return notPermitted("postrider %s is for the postmaster; you administer %s, by postrider device and postrider credential", command, units)
	}
	return nil
}

// family is the word after the program's name.
func family(c *cobra.Command) string {
	for c.HasParent() && c.Parent().HasParent() {
		c = c.Parent()
	}
	return c.Name()
}
