package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
	"github.com/postrider/postrider/shared/service"
)

// newStep is the command of a step, for one device or many.
func newStep(f *flags, st *step) *cobra.Command {
	o := &stepOptions{}
	c := &cobra.Command{
		Use:   st.verb + " NAME|SELECTOR",
		Short: st.short,
		Long:  or(st.long, st.short+".") + "\n\n  postrider device " + st.verb + " prn-3.chem.campus.test\n  postrider device " + st.verb + " owner:chem device:prn-*\n\n" + deviceSelectorHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := withStdin(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			s, err := parseDeviceSelector(args, o.all)
			if err != nil {
				return err
			}
			if st.reasoned && o.reason == "" {
				return errNeedsReason
			}
			o.now, o.ctx = time.Now().UTC(), cmd.Context()
			return withDesk(cmd.Context(), f, func(k *desk) error {
				o.desk = k
				return st.run(cmd, s, o)
			})
		},
	}
	flags := c.Flags()
	flags.BoolVar(&o.all, "all", false, "every device that it fits")
	flags.BoolVar(&o.dry, "dry-run", false, "show what would change, change nothing")
	if st.final {
		flags.StringVar(&o.confirm, "confirm", "", "carry out the plan with this `id`")
	}
	recordFlags(c, &o.reason, &o.ticket)
	if st.flags != nil {
		st.flags(c, o)
	}
	return c
}

// run takes the step with every device that was chosen. Of a selector those
// count that it fits.
func (st *step) run(cmd *cobra.Command, s *deviceSelector, o *stepOptions) error {
	chosen, err := s.choose(o.snapshot)
	if err != nil {
		return err
	}
	var after []*registry.Device
	for _, found := range chosen {
		if s.bulk() && !st.fits(found, o) {
			continue
		}
		if s.bulk() && found.Origin == registry.OriginFile {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is left alone: it comes from the configuration file\n", found.Name)
			continue
		}
		d, err := st.applied(found, o)
		if err != nil {
			return err
		}
		after = append(after, d)
	}
	if len(after) == 0 {
		return &service.Exit{Code: service.ExitNotFound, Err: errors.New("no device that fits is chosen; see: postrider device ls")}
	}
	id := planOf(st.verb, after)
	switch {
	case o.confirm != "" && o.confirm != id:
		return &service.Exit{Code: service.ExitConflict, Err: errors.New("the plan has changed; read it again")}
	case o.dry || st.final && s.bulk() && o.confirm == "":
		return st.show(cmd, after, id)
	}
	return st.put(cmd, after, o)
}

// planOf stands for a step and for the devices as they are before it.
func planOf(verb string, devices []*registry.Device) string {
	changes := make([]document.Change, len(devices))
	for i, d := range devices {
		changes[i] = document.Change{Action: document.Action(verb), Item: d}
	}
	return document.ID(changes)
}

// show says what would be done.
func (st *step) show(cmd *cobra.Command, after []*registry.Device, id string) error {
	for _, d := range after {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s\n", d.Name, visible(dash(d.Owner)), dash(addresses(d)))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d devices would be %s\n", len(after), st.done)
	if st.final {
		fmt.Fprintf(cmd.ErrOrStderr(), "Plan %s. To do it, give the same selector and: --confirm %s\n", id, id)
	}
	return nil
}

func (st *step) put(cmd *cobra.Command, after []*registry.Device, o *stepOptions) error {
	for i, d := range after {
		if err := o.store.Put(cmd.Context(), d); err != nil {
			return partly(i, len(after), storeError(err))
		}
		if len(o.addresses) > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is %s\n", strings.Join(o.addresses, " "), d.Name, st.done)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is %s", d.Name, d.State)
		if st.verb == "renew" {
			fmt.Fprintf(cmd.OutOrStdout(), " until %s", d.Dates.Expires.Local().Format(time.DateTime))
		}
		if st.verb == "contact" || st.verb == "attest" {
			fmt.Fprintf(cmd.OutOrStdout(), "; noted that it is %s", st.done)
		}
		fmt.Fprintln(cmd.OutOrStdout())
		if st.verb == "approve" {
			advise(cmd.ErrOrStderr(), o.snapshot, d)
			for _, what := range o.awaited(d) {
				fmt.Fprintf(cmd.ErrOrStderr(), "It is active as soon as there is %s\n", what)
			}
		}
	}
	return nil
}

// partly is an error in the midst of several changes.
func partly(done, of int, err error) error {
	if done == 0 {
		return err
	}
	return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("%d of %d are done, then: %w", done, of, err)}
}
