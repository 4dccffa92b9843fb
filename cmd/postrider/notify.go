package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

func newNotify(f *flags) *cobra.Command {
	o := &notifyOptions{}
	file := ""
	c := withOutput(f, answers, &cobra.Command{
		Use:   "notify SELECTOR --subject TEXT --text FILE",
		Short: "Send a notice to the contacts of devices",
		Long: `Send a notice to the contacts of the chosen devices, one message to each; a
contact of several devices gets one that lists them. First it is shown who would
hear it; --yes sends it. The relay sends it by itself then, and the books prove
for each contact what became of it: postrider notify show ID.

  postrider notify owner:chem --subject "No mail on Sunday" --text notice.txt
  postrider notify --all --group mailrelay.updates --subject "New addresses" --text - --effective 2026-12-01 --id addresses-2026-12 --yes
  postrider notify --listener old-name --subject "Please use the new name" --text notice.txt

The same --id again sends nothing twice. With --listener those are meant whose
last mail over it is not older than --since: the books know the listener of each
message, not the name by which the device calls the relay. Give an old name an
address and a listener of its own.

` + deviceSelectorHelp,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "-" && len(args) == 1 && args[0] == "-" {
				return usage("the text and the names cannot both come from stdin")
			}
			text, err := readFile(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			o.notice.Text = string(text)
			if args, err = withStdin(args, cmd.InOrStdin()); err != nil {
				return err
			}
			return o.run(cmd, f, args)
		},
	})
	c.Flags().StringVar(&o.notice.Subject, "subject", "", "subject")
	c.Flags().StringVar(&file, "text", "", "`file` with the text in UTF-8; - is stdin")
	c.Flags().StringVar(&o.notice.Effective, "effective", "", "day or time at which what it announces begins (2026-12-01)")
	o.flags(c)
	for _, needed := range []string{"subject", "text"} {
		if err := c.MarkFlagRequired(needed); err != nil {
			panic(err) // there is no such flag: a bug
		}
	}
	c.AddCommand(newNotifyList(f), newNotifyShow(f), newNotifyProblem(f), newNotifyAddresses(f))
	return c
}

// notifyOptions are what the person at the keyboard says about a notice.
type notifyOptions struct {
	notice         registry.Notice
	all, yes       bool
	groups         []string
	listener       string
	since          string
	reason, ticket string
}

func (o *notifyOptions) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.BoolVar(&o.all, "all", false, "every device that is not retired")
	flags.StringSliceVar(&o.groups, "group", nil, "also the members of this group (repeatable)")
	flags.StringVar(&o.listener, "listener", "", "only devices whose mail came over this listener")
	flags.StringVar(&o.since, "since", "30d", "with --listener: since a time, a date, or an age")
	flags.StringVar(&o.notice.ID, "id", "", "its name, such as maintenance-2026-11 (default: made)")
	flags.BoolVar(&o.yes, "yes", false, "send it")
	recordFlags(c, &o.reason, &o.ticket)
}

// audience is who hears a notice, and which devices have nobody to.
type audience struct {
	ID        string               `json:"id"`
	Subject   string               `json:"subject"`
	Effective string               `json:"effective,omitempty"`
	Devices   int                  `json:"devices"`
	Contacts  []registry.Addressee `json:"contacts"`
	Silent    []string             `json:"silent,omitempty"` // devices that nobody hears for
	// Sent: the notice is on its way, or was.
	Sent bool `json:"sent"`
}

func (o *notifyOptions) run(cmd *cobra.Command, f *flags, args []string) error {
	return withAsking(cmd.Context(), f, func(a *asking) error {
		devices, err := o.devices(cmd.Context(), a, args)
		if err != nil {
			return err
		}
		heard, err := o.audience(a.reg, devices)
		if err != nil {
			return err
		}
		return o.finish(cmd, f, a, heard)
	})
}

// devices are those that are meant. Of a selector those count that are not
// retired.
func (o *notifyOptions) devices(ctx context.Context, a *asking, args []string) ([]*registry.Device, error) {
	if len(args) == 0 && !o.all && o.listener == "" && len(o.groups) > 0 {
		return nil, nil
	}
	s, err := parseDeviceSelector(args, o.all || len(args) == 0 && o.listener != "")
	if err != nil {
		return nil, err
	}
	chosen, err := s.choose(a.reg)
	if err != nil {
		return nil, err
	}
	if s.bulk() {
		chosen = slices.DeleteFunc(chosen, func(d *registry.Device) bool { return d.State == registry.StateRetired })
	}
	if o.listener == "" {
		return chosen, nil
	}
	return o.overListener(ctx, a, chosen)
}

// overListener are those of devices whose last mail over a listener is not too
// old (S41).
func (o *notifyOptions) overListener(ctx context.Context, a *asking, chosen []*registry.Device) ([]*registry.Device, error) {
	since, err := pointInTime(o.since)
	if err != nil {
		return nil, usage("--since %s: %w", o.since, err)
	}
	seen, known := map[string]bool{}, map[string]bool{}
	err = books.Client(a.bus).Use(ctx, func(u books.Use) error {
		for l, at := range u.Listeners {
			known[l] = true
			seen[u.Device] = seen[u.Device] || l == o.listener && !at.Before(since)
		}
		return nil
	})
	if err != nil {
		return nil, bookError(err)
	}
	if !known[o.listener] {
		return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("no mail of a device came over a listener %q; listeners that had some: %s", o.listener, or(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "none"))}
	}
	return slices.DeleteFunc(chosen, func(d *registry.Device) bool { return !seen[d.Name] }), nil
}

func (o *notifyOptions) audience(snapshot *registry.Snapshot, devices []*registry.Device) (*audience, error) {
	var members []string
	for _, name := range o.groups {
		g, ok := snapshot.Group(name)
		if !ok {
			return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("there is no group %s; see: postrider group ls", name)}
		}
		members = append(members, g.Members...)
	}
	a := &audience{Subject: o.notice.Subject, Effective: o.notice.Effective, Devices: len(devices), Contacts: snapshot.Addressed(devices, members)}
	for _, d := range devices {
		if len(snapshot.ContactsOf(d)) == 0 {
			a.Silent = append(a.Silent, d.Name)
		}
	}
	return a, nil
}

// finish shows who hears the notice, and sends it where that is wanted.
func (o *notifyOptions) finish(cmd *cobra.Command, f *flags, by *asking, a *audience) error {
	n := &o.notice
	n.To, n.Author, n.Made = a.Contacts, actor(), time.Now().UTC().Truncate(time.Millisecond)
	n.ID = cmp.Or(n.ID, "notice-"+n.Made.Format("20060102-150405"))
	a.ID = n.ID
	old, there := by.reg.Notice(n.ID)
	switch {
	case there && !old.Same(n):
		return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("notice %s says something else; give this one another --id", n.ID)}
	case there:
		a.Contacts, a.Sent = old.To, true
		return a.write(cmd, f, "was sent before, and nobody hears it twice; see: postrider notify show "+n.ID)
	case len(a.Contacts) == 0:
		return &service.Exit{Code: service.ExitNotFound, Err: errors.New("nobody would hear it: the chosen devices, if any, have no contacts, nor have their owners")}
	}
	if faults := n.Faults(); len(faults) > 0 {
		return usage("%s", faults[0])
	}
	if !o.yes {
		return a.write(cmd, f, "is not sent yet; to send it, give the same and: --yes --id "+n.ID)
	}
	n.Stamp(registry.Change{By: n.Author, Reason: or(o.reason, "notice to contacts"), Ticket: o.ticket, At: n.Made})
	if err := by.store.Put(cmd.Context(), n); err != nil {
		return storeError(err)
	}
	a.Sent = true
	return a.write(cmd, f, "is on its way; what became of it: postrider notify show "+n.ID)
}

func (a *audience) write(cmd *cobra.Command, f *flags, next string) error {
	if f.output == "json" {
		if err := printJSON(cmd.OutOrStdout(), a); err != nil {
			return err
		}
	} else {
		l, err := newListing(f, cmd.OutOrStdout(), []string{"contact", "devices"}, func(r registry.Addressee) []string {
			return []string{r.Contact, devicesOf(r)}
		})
		if err != nil {
			return err
		}
		for _, c := range a.Contacts {
			if err := l.add(c); err != nil {
				return err
			}
		}
		if err := l.end(); err != nil {
			return err
		}
	}
	w := cmd.ErrOrStderr()
	if len(a.Silent) > 0 {
		fmt.Fprintf(w, "Nobody hears for %d devices: %s\n", len(a.Silent), visible(strings.Join(a.Silent[:min(len(a.Silent), registry.MaxListed)], " ")))
	}
	_, err := fmt.Fprintf(w, "%s: %d contacts of %d devices; it %s\n", visible(a.ID), len(a.Contacts), a.Devices, next)
	return err
}

func devicesOf(a registry.Addressee) string {
	list := strings.Join(a.Devices, " ")
	if a.More > 0 {
		list += fmt.Sprintf(" and %d more", a.More)
	}
	return dash(list)
}
