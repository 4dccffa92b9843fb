package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newDevice(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Register devices and see those registered"}
	c.AddCommand(newDeviceList(f), newDeviceShow(f), newDeviceRequest(f))
	for _, s := range steps() {
		c.AddCommand(newStep(f, s))
	}
	c.AddCommand(newDeviceEdit(f), newDeviceRename(f), newDeviceHistory(f), newDeviceImport(f), newDeviceLogins(f))
	return c
}

// desk is what a command has before it: the configuration and the bus of the
// relay, and its registry as it is now.
type desk struct {
	cfg      *config.Config
	bus      *queue.Bus
	store    *store.Store
	snapshot *registry.Snapshot
}

// withRegistry runs do with the registry as it is now.
func withRegistry(ctx context.Context, f *flags, do func(*store.Store, *registry.Snapshot) error) error {
	return withDesk(ctx, f, func(k *desk) error { return do(k.store, k.snapshot) })
}

func withDesk(ctx context.Context, f *flags, do func(*desk) error) error {
	cfg, bus, err := connect(ctx, f)
	if err != nil {
		return err
	}
	defer bus.Close()
	s, err := store.Open(ctx, bus, cfg.FileEntries())
	if err != nil {
		return err
	}
	snapshot, err := s.Load(ctx)
	if err != nil {
		return err
	}
	if units := snapshot.Administers(actor()); len(units) > 0 {
		s.Permit(func(item registry.Item) error { return permitted(snapshot, units, item) })
	}
	return do(&desk{cfg, bus, s, snapshot})
}

func newDeviceList(f *flags) *cobra.Command {
	var outdated, overdue bool
	c := withOutput(f, listings, &cobra.Command{
		Use:   "ls [SELECTOR]",
		Short: "List devices",
		Long:  "List devices, all or those that a selector chooses. A request is due three working\ndays after it came; who asks is answered by device approve, deny or contact.\n\n  postrider device ls owner:chem state:suspended\n  postrider device ls --overdue\n\n" + deviceSelectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseDeviceSelector(args, len(args) == 0)
			if err != nil {
				return err
			}
			return withDesk(cmd.Context(), f, func(k *desk) error {
				chosen, err := s.choose(k.snapshot)
				if err != nil {
					return err
				}
				if outdated {
					chosen = slices.DeleteFunc(chosen, func(d *registry.Device) bool { return !k.outdated(d) })
				}
				now := time.Now()
				if overdue {
					chosen = slices.DeleteFunc(chosen, func(d *registry.Device) bool { return !d.AnswerOverdue(now) })
				}
				return list(cmd, f, []string{"device", "addresses", "owner", "scope", "class", "state", "origin", "due"}, chosen, func(d *registry.Device) []string {
					return []string{d.Name, addresses(d), d.Owner, string(d.Scope), string(d.Class), string(d.State), string(d.Origin), due(d, now)}
				})
			})
		},
	})
	c.Flags().BoolVar(&outdated, "terms-outdated", false, "only those for which other terms of use were accepted than hold now")
	c.Flags().BoolVar(&overdue, "overdue", false, "only requests that nobody answered within three working days")
	return c
}

// due is by when a request is to be answered (S28).
func due(d *registry.Device, now time.Time) string {
	at := d.AnswerDue(now.Location())
	switch {
	case at.IsZero():
		return "-"
	case d.AnswerOverdue(now):
		return "overdue since " + at.Format(time.DateTime)
	}
	return at.Format(time.DateTime)
}

// list writes rows that are at hand.
func list[R any](cmd *cobra.Command, f *flags, columns []string, rows []R, cells func(R) []string) error {
	l, err := newListing(f, cmd.OutOrStdout(), columns, cells)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := l.add(r); err != nil {
			return err
		}
	}
	return l.end()
}

func addresses(d *registry.Device) string {
	var out []string
	for _, a := range d.Addresses {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// deviceName is a name as the registry has it.
func deviceName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

func findDevice(snapshot *registry.Snapshot, name string) (*registry.Device, error) {
	d, ok := snapshot.Device(deviceName(name))
	if !ok {
		return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no device is called %s; see: postrider device ls", name)}
	}
	return d, nil
}

// wildcards reports that senders may be whole domains. A configuration that cannot
// be read allows nothing; connect says what is wrong with it.
func wildcards(f *flags) bool {
	cfg, err := service.LoadConfig(f.config)
	return err == nil && cfg.Policy.SenderWildcards
}

// checkDevice holds a device to the rules of those in a configuration file; with
// wildcards, its senders may be whole domains.
func checkDevice(d *registry.Device, wildcards bool) error {
	if strings.ContainsFunc(d.Name, func(r rune) bool { return r > 0x7e }) {
		return usage("name: %q is not as the DNS has it (example: xn--bcher-kva.campus.test)", d.Name)
	}
	cfg := config.Defaults()
	cfg.Devices, cfg.Policy.SenderWildcards = []registry.Device{*d}, wildcards
	var problems config.Problems
	if !errors.As(cfg.Validate(), &problems) {
		return nil
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Key, "devices") {
			return usage("%s", strings.TrimPrefix(p.Text, "devices[0]."))
		}
	}
	return nil
}

// checkPlace refuses addresses that another device has, or that their networks
// speak against.
func checkPlace(snapshot *registry.Snapshot, d *registry.Device, anyNetwork bool) error {
	if rival, ok := snapshot.Rival(d); ok {
		return addressTaken(d, rival)
	}
	if anyNetwork {
		return nil
	}
	if faults := snapshot.Misplaced(d); len(faults) > 0 {
		return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf("%s: %s\nSee: postrider network ls. Where it is right all the same: --any-network, with a --reason", d.Name, faults[0].Text)}
	}
	return nil
}

// change is one that the person at the keyboard makes now.
func change(reason string) registry.Change {
	return registry.Change{By: actor(), Reason: reason, At: time.Now().UTC()}
}

// actor is the person at the keyboard: whoever came by sudo, else the account.
func actor() string {
	if person := os.Getenv("SUDO_USER"); person != "" {
		return person
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// addressTaken refuses what would leave two devices with one address.
func addressTaken(d, rival *registry.Device) error {
	return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("an address of %s belongs to %s, which is %s\nTake it from there: postrider device edit %s addresses-=ADDRESS. A selector leaves this one out with -device:%s", d.Name, rival.Name, rival.State, rival.Name, d.Name)}
}

// storeError gives what the registry says to a change its exit code.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrConflict):
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%w; look at it, and give the command again", err)}
	case errors.Is(err, store.ErrDuplicate), errors.Is(err, store.ErrFromFile):
		return &service.Exit{Code: service.ExitConflict, Err: err}
	case errors.Is(err, store.ErrNotFound):
		return &service.Exit{Code: service.ExitNotFound, Err: err}
	}
	return err
}
