package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newDevice(f *flags) *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Register devices and see those registered"}
	c.AddCommand(newDeviceList(f), newDeviceShow(f), newDeviceRequest(f),
		newDeviceChange(f, "approve", "Let a requested device send", registry.StateActive, registry.StateRequested),
		newDeviceChange(f, "suspend", "Stop a device from sending", registry.StateSuspended, registry.StateActive),
		newDeviceChange(f, "resume", "Let a suspended device send again", registry.StateActive, registry.StateSuspended),
		newDeviceChange(f, "retire", "End a registration", registry.StateRetired, registry.StateRequested, registry.StateActive, registry.StateSuspended),
	)
	return c
}

// withRegistry runs do with the registry as it is now.
func withRegistry(ctx context.Context, f *flags, do func(*store.Store, *registry.Snapshot) error) error {
	cfg, bus, err := connect(ctx, f)
	if err != nil {
		return err
	}
	defer bus.Close()
	s, err := store.Open(ctx, bus, cfg.FileDevices())
	if err != nil {
		return err
	}
	snapshot, err := s.Load(ctx)
	if err != nil {
		return err
	}
	return do(s, snapshot)
}

func newDeviceList(f *flags) *cobra.Command {
	return withOutput(f, listings, &cobra.Command{
		Use:   "ls",
		Short: "List devices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				l, err := newListing(f, cmd.OutOrStdout(), []string{"device", "addresses", "owner", "scope", "class", "state", "origin"}, func(d *registry.Device) []string {
					return []string{d.Name, addresses(d), d.Owner, string(d.Scope), string(d.Class), string(d.State), string(d.Origin)}
				})
				if err != nil {
					return err
				}
				devices := snapshot.Devices()
				slices.SortFunc(devices, func(a, b *registry.Device) int { return strings.Compare(a.Name, b.Name) })
				for _, d := range devices {
					if err := l.add(d); err != nil {
						return err
					}
				}
				return l.end()
			})
		},
	})
}

func addresses(d *registry.Device) string {
	var out []string
	for _, p := range d.Addresses {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return strings.Join(out, " ")
}

func newDeviceShow(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a device",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(_ *store.Store, snapshot *registry.Snapshot) error {
				d, err := findDevice(snapshot, args[0])
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), d)
			})
		},
	}
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

func newDeviceRequest(f *flags) *cobra.Command {
	var d registry.Device
	var ranges []string
	var scope, class string
	c := &cobra.Command{
		Use:   "request NAME",
		Short: "Ask for a registration; it takes effect when approved",
		Long:  "Ask for the registration of a device by its name. It may send once it is approved.\n\n  postrider device request prn-3.chem.campus.test --address 10.2.3.4 --owner chem --contact chem-it@campus.test\n  postrider device approve prn-3.chem.campus.test",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Name = deviceName(args[0])
			d.Scope, d.Class, d.State = registry.Scope(scope), mail.Class(class), registry.StateRequested
			for _, s := range ranges {
				p, err := parseRange(s)
				if err != nil {
					return usage("--address %s: %w", s, err)
				}
				d.Addresses = append(d.Addresses, p)
			}
			if err := checkDevice(&d); err != nil {
				return err
			}
			stampChange(&d, "requested")
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				if rival, ok := snapshot.Rival(&d); ok {
					return addressTaken(&d, rival)
				}
				if err := s.PutDevice(cmd.Context(), &d); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is requested. Next: postrider device approve %s\n", d.Name, d.Name)
				return nil
			})
		},
	}
	flags := c.Flags()
	flags.StringSliceVar(&ranges, "address", nil, "address or range it sends from (repeatable); none: by credential only")
	flags.StringVar(&d.Owner, "owner", "", "the unit it belongs to")
	flags.StringSliceVar(&d.Contacts, "contact", nil, "address that hears about trouble (repeatable)")
	flags.StringVar(&scope, "scope", string(registry.ScopeAnywhere), "where it may send: hosted or anywhere")
	flags.StringVar(&class, "class", string(mail.ClassDefault), "kind of traffic: alert, scan, application or default")
	return c
}

// checkDevice holds a device to the rules of those in a configuration file.
func checkDevice(d *registry.Device) error {
	if strings.ContainsFunc(d.Name, func(r rune) bool { return r > 0x7e }) {
		return usage("name: %q is not as the DNS has it (example: xn--bcher-kva.campus.test)", d.Name)
	}
	cfg := config.Defaults()
	cfg.Devices = []registry.Device{*d}
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

func parseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("neither an address nor a range (examples: 10.2.3.4, 10.2.3.0/28)")
	}
	if p.Masked() != p {
		return p, fmt.Errorf("has host bits set; did you mean %s?", p.Masked())
	}
	return p, nil
}

// newDeviceChange is a command that moves a device from one state to another.
func newDeviceChange(f *flags, verb, short string, to registry.State, from ...registry.State) *cobra.Command {
	reason := ""
	c := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRegistry(cmd.Context(), f, func(s *store.Store, snapshot *registry.Snapshot) error {
				found, err := findDevice(snapshot, args[0])
				if err != nil {
					return err
				}
				d := *found
				if !slices.Contains(from, d.State) {
					return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is %s: it cannot be %sed from there", d.Name, d.State, strings.TrimSuffix(verb, "e"))}
				}
				d.State = to
				if rival, ok := snapshot.Rival(&d); ok && to == registry.StateActive {
					return addressTaken(&d, rival)
				}
				stampChange(&d, reason)
				if err := s.PutDevice(cmd.Context(), &d); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", d.Name, d.State)
				return nil
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return c
}

// stampChange says who changed a device, when and why.
func stampChange(d *registry.Device, reason string) {
	d.ChangedAt, d.ChangedBy, d.Reason = time.Now().UTC(), actor(), reason
}

// actor is the person at the keyboard.
func actor() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// addressTaken refuses what would leave two devices with one address.
func addressTaken(d, rival *registry.Device) error {
	return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("an address of %s belongs to %s, which is %s", d.Name, rival.Name, rival.State)}
}

// storeError gives what the registry says to a change its exit code.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrDuplicate), errors.Is(err, store.ErrFromFile):
		return &service.Exit{Code: service.ExitConflict, Err: err}
	case errors.Is(err, store.ErrNotFound):
		return &service.Exit{Code: service.ExitNotFound, Err: err}
	}
	return err
}
