package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
	"github.com/postrider/postrider/shared/service"
)

// renaming gives a registration another name (P12).
type renaming struct {
	*desk
	old, device *registry.Device
	change      registry.Change
}

func newDeviceRename(f *flags) *cobra.Command {
	var reason, ticket string
	c := &cobra.Command{
		Use:   "rename NAME NEW-NAME",
		Short: "Give a registration another name",
		Long: `Give a registration another name, with all that it has: addresses, senders, dates
and credentials. The old name is free then. The history of both says who renamed it;
mail that was sent before stays under the old name in traces and books, and hourly
limits begin anew. What broke off is finished by the same command.

  postrider device rename prn-3.chem.campus.test prn-3.physics.campus.test --reason "moved"`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd.Context(), f, func(k *desk) error {
				r := &renaming{desk: k, change: registry.Change{By: actor(), Ticket: ticket, At: time.Now().UTC()}}
				if err := r.prepare(args[0], deviceName(args[1]), wildcards(f)); err != nil {
					return err
				}
				r.change.Reason = "renamed from " + r.old.Name
				if reason != "" {
					r.change.Reason += ": " + reason
				}
				if err := r.carryOut(cmd); err != nil {
					return storeError(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s now\n", r.old.Name, r.device.Name)
				return nil
			})
		},
	}
	recordFlags(c, &reason, &ticket)
	return c
}

// prepare makes the registration under its new name, and refuses one that is taken.
func (r *renaming) prepare(from, to string, wildcards bool) (err error) {
	if r.old, err = findDevice(r.snapshot, from); err != nil {
		return err
	}
	if r.device, err = registry.Clone(r.old); err != nil {
		return err
	}
	r.device.Name, r.device.Revision = to, 0
	switch is, taken := r.snapshot.Device(to); {
	case r.old.Origin == registry.OriginFile:
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s comes from the configuration file: rename it there", r.old.Name)}
	case to == r.old.Name:
		return usage("%s is its name already", to)
	case taken && is.State == registry.StateRetired:
		r.device.Revision = is.Revision
	case taken && !r.begun(is):
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is in the registry already, and is another device", to)}
	case taken:
		r.device = is
	}
	return checkDevice(r.device, wildcards)
}

// begun reports a device that the same command made and that is the old one but
// for its name.
func (r *renaming) begun(is *registry.Device) bool {
	as, err := registry.Clone(r.old)
	if err != nil {
		return false
	}
	as.Name, as.Told = is.Name, is.Told
	fields, err := document.Fields(as, is)
	return err == nil && len(fields) == 0 && is.Origin != registry.OriginFile
}

// carryOut makes the new name first, so that who sends is not stopped meanwhile,
// and ends the old one last.
func (r *renaming) carryOut(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if known, _ := r.snapshot.Device(r.device.Name); known != r.device {
		r.device.Stamp(r.change)
		if err := r.store.Put(ctx, r.device); err != nil {
			return err
		}
	}
	var failed []error
	for _, had := range r.snapshot.Entries().Credentials {
		if had.Device != r.old.Name {
			continue
		}
		c, err := registry.Clone(had)
		if err != nil {
			return err
		}
		c.Device = r.device.Name
		c.Stamp(r.change)
		failed = append(failed, r.store.Put(ctx, c))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	gone := r.change
	gone.Reason = "renamed to " + r.device.Name
	return r.store.Remove(ctx, r.old, gone)
}
