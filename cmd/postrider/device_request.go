package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

func newDeviceRequest(f *flags) *cobra.Command {
	r := request{device: registry.Device{Scope: registry.ScopeAnywhere, Class: mail.ClassDefault, State: registry.StateRequested}}
	c := &cobra.Command{
		Use:   "request NAME",
		Short: "Ask for a registration; it takes effect when approved",
		Long: `Ask for the registration of a device by its name. It may send once it is approved.

  postrider device request prn-3.chem.campus.test --address 10.2.3.4 --owner chem --contact chem-it@campus.test
  postrider device approve prn-3.chem.campus.test

Only the name is needed, so that a help desk can note what it knows. With --form
all answers of the request form are, and they are held to what the configuration
wants (registration). A third party (an external unit) needs a contract.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := r.read(args[0], time.Now().UTC())
			if err == nil {
				err = checkDevice(d, wildcards(f))
			}
			if err != nil {
				return err
			}
			return withDesk(cmd.Context(), f, func(k *desk) error {
				if old, ok := k.snapshot.Device(d.Name); ok && old.State == registry.StateRetired {
					d.Revision = old.Revision // asked for anew
				}
				if err := k.checkRequest(cmd.Context(), d, r.complete); err != nil {
					return err
				}
				if err := checkPlace(k.snapshot, d, r.anyNetwork); err != nil {
					return err
				}
				if err := k.store.Put(cmd.Context(), d); err != nil {
					return storeError(err)
				}
				advise(cmd.ErrOrStderr(), k.snapshot, d)
				fmt.Fprintf(cmd.OutOrStdout(), "%s is requested. Next: postrider device approve %s\n", d.Name, d.Name)
				return nil
			})
		},
	}
	r.flags(c)
	return c
}

// request is a device as the flags describe it, with the form.
type request struct {
	device              registry.Device
	form                registry.Application
	complete            bool
	ranges              []string
	size                string
	exempt, exemptUntil string
	anyNetwork          bool
	reason, ticket      string
	attestedOn          string
}

func (r *request) flags(c *cobra.Command) {
	d, flags := &r.device, c.Flags()
	flags.StringSliceVar(&r.ranges, "address", nil, "address or range it sends from (repeatable); none: by credential only")
	flags.StringVar(&d.Owner, "owner", "", "the unit it belongs to")
	flags.StringSliceVar(&d.Contacts, "contact", nil, "address that hears about trouble (repeatable): the main one first")
	flags.StringVar((*string)(&d.Scope), "scope", string(d.Scope), "where it may send: hosted or anywhere")
	flags.StringVar((*string)(&d.Class), "class", string(d.Class), "alert, scan, application or default: its lane and lifetime")
	flags.StringVar((*string)(&d.Traffic), "traffic", "", "what it sends: alerts, transactional, scans, newsletter, research or survey")
	flags.StringVar((*string)(&d.Proof), "proof", "", "what it must show: either its address or a credential, always a credential, or both")
	flags.StringSliceVar(&d.Senders, "sender", nil, "address it sends as (repeatable, at most 10)")
	flags.StringSliceVar(&d.HeaderSenders, "header-sender", nil, "address that only its From field shows (repeatable)")
	flags.StringVar(&r.size, "max-size", "", "largest message (example: 5MB)")
	flags.IntVar(&d.Limits.Session, "max-session", 0, "messages of one session")
	flags.IntVar(&d.Limits.Recipients, "max-recipients", 0, "recipients of one message")
	flags.IntVar(&d.Limits.MessagesPerHour, "messages-per-hour", 0, "messages of one hour")
	flags.IntVar(&d.Limits.RecipientsPerHour, "recipients-per-hour", 0, "recipients of one hour")
	flags.StringVar(&d.Quirks.From, "override-from", "", "sender to set, where the device cannot")
	flags.StringVar(&d.Quirks.Domain, "default-domain", "", "domain for addresses that the device writes without one")
	flags.StringSliceVar(&d.Quirks.HideEHLO, "hide-ehlo", nil, "EHLO keyword that it does not get to see (repeatable)")
	flags.BoolVar(&d.Quirks.LegacyTLS, "legacy-tls", false, "old TLS versions and ciphers")
	flags.BoolVar(&d.Quirks.RepairNewlines, "repair-newlines", false, "mend bare CR and LF")
	flags.BoolVar(&d.PHI, "phi", false, "health information: never in clear")
	flags.StringVar(&r.exempt, "exempt", "", "`reason` why it need not authenticate where others must")
	flags.StringVar(&r.exemptUntil, "exempt-until", "", "end of the exemption: a date or a duration")

	formFlags(c, r)
	placeFlags(c, &r.anyNetwork, &r.reason, &r.ticket)
}

// placeFlags are those of commands that give a device addresses.
func placeFlags(c *cobra.Command, anyNetwork *bool, reason, ticket *string) {
	c.Flags().BoolVar(anyNetwork, "any-network", false, "also where its network speaks against it; needs a --reason")
	recordFlags(c, reason, ticket)
}

// recordFlags are those of every command that changes an entry.
func recordFlags(c *cobra.Command, reason, ticket *string) {
	c.Flags().StringVar(reason, "reason", "", "why, for the record")
	c.Flags().StringVar(ticket, "ticket", "", "number of a ticket, for the record")
}

// read is the device that was asked for.
func (r *request) read(name string, now time.Time) (*registry.Device, error) {
	d := &r.device
	d.Name = deviceName(name)
	for _, s := range r.ranges {
		p, err := registry.ParseRange(s)
		if err != nil {
			return nil, usage("--address: %w", err)
		}
		d.Addresses = append(d.Addresses, registry.Address{Range: p})
	}
	if r.size != "" {
		n, err := config.ParseSize(r.size)
		if err != nil {
			return nil, usage("--max-size: %w", err)
		}
		d.Limits.Size = int64(n)
	}
	if err := r.exemption(now); err != nil {
		return nil, err
	}
	if r.anyNetwork && r.reason == "" {
		return nil, errNeedsReason
	}
	if r.form.By == "" {
		r.form.By = actor()
	}
	d.Application, d.Dates.Requested = &r.form, now
	if err := r.signed(d, now); err != nil {
		return nil, err
	}
	d.Stamp(registry.Change{By: actor(), Reason: or(r.reason, "requested"), Ticket: r.ticket, At: now})
	return d, nil
}

func (r *request) exemption(now time.Time) error {
	until, err := moment(r.exemptUntil, now)
	switch {
	case err != nil:
		return usage("--exempt-until: %w", err)
	case r.exempt == "" && !until.IsZero():
		return usage("--exempt-until: say why it is exempt, with --exempt")
	case r.exempt != "":
		r.device.Exempt = &registry.Exemption{Reason: r.exempt, Until: until}
	}
	return nil
}

var errNeedsReason = &service.Exit{Code: service.ExitUsage, Err: errors.New("say why, with --reason: the record shows it")}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// moment reads the end of something: a time, a day, at whose end it ends, or a
// duration from now. One that is over is an error: a block would not hold, and a
// registration end as soon as it is approved.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		if t, err = time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
			t = t.AddDate(0, 0, 1)
		}
	}
	switch {
	case err == nil && !t.After(now):
		return time.Time{}, fmt.Errorf("%s is over already", s)
	case err == nil:
		return t.UTC(), nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("%q is neither a date (2027-06-30), nor a time (2027-06-30T12:00:00Z), nor a duration from now (2h, 90d)", s)
	}
	return now.Add(time.Duration(d)).UTC().Truncate(time.Second), nil
}

// advise says what a postmaster would ask about a device.
func advise(to io.Writer, snapshot *registry.Snapshot, d *registry.Device) {
	unit, known := snapshot.Owner(d.Owner)
	if len(d.Contacts) == 0 && (!known || len(unit.Contacts) == 0) {
		fmt.Fprintf(to, "Nobody hears about trouble with %s: postrider device edit %s contacts=ADDRESS\n", d.Name, d.Name)
	}
	adviseContacts(to, snapshot, d)
	if d.Owner == "" {
		fmt.Fprintf(to, "%s belongs to no unit: postrider device edit %s owner=UNIT\n", d.Name, d.Name)
	} else if !known && len(snapshot.Entries().Owners) > 0 {
		fmt.Fprintf(to, "No unit %s is noted; is it misspelt? postrider owner ls, or: postrider owner add %s --contact ADDRESS\n", visible(d.Owner), visible(d.Owner))
	}
	a := d.Application
	if a == nil {
		return
	}
	if a.Purpose != "" { // W9
		fmt.Fprintf(to, "%s is for: %s. Asked for by %s, %s\n", d.Name, visible(a.Purpose), visible(a.By), or(visible(a.Affiliation), "of unknown affiliation"))
	}
	if a.WhyNoAuth != "" {
		fmt.Fprintf(to, "No other way would do, since: %s\n", visible(a.WhyNoAuth))
	}
	if a.RunsMTA == registry.Yes {
		fmt.Fprintf(to, "%s runs a mail server, which can deliver by itself: is the relay for it?\n", d.Name)
	}
	if d.Bulk() {
		fmt.Fprintf(to, "%s is held to the rules for bulk: it sends %s to %s\n", d.Name, or(string(d.Traffic), "mail"), or(string(a.Audience), "many"))
	}
}

// adviseContacts says when one person alone hears about trouble (M14): one
// contact, who is none of a group's, or a group of fewer than two. The members of
// a group address are known where it is a group of the registry.
func adviseContacts(to io.Writer, snapshot *registry.Snapshot, d *registry.Device) {
	contacts := snapshot.ContactsOf(d)
	for _, c := range contacts {
		if g, ok := snapshot.Group(c); ok && len(g.Members) < 2 {
			fmt.Fprintf(to, "%s has %d members; two at least should hear about trouble: postrider group add %s ADDRESS\n", c, len(g.Members), c)
		}
	}
	if len(contacts) != 1 {
		return
	}
	if _, ok := snapshot.Group(contacts[0]); ok {
		return
	}
	what := "is the only contact"
	if a := d.Application; a != nil && personal(contacts[0], a.By, a.AttestedBy, a.ServiceOwner) {
		what = "is the only contact, and a person's address"
	}
	fmt.Fprintf(to, "%s %s of %s; a group address with more than one administrator, or a backup, hears when one is away: postrider device edit %s contacts+=ADDRESS\n", contacts[0], what, d.Name, d.Name)
}

// personal reports an address that is that of a person on the form: the same
// address, or a local part made of the name.
func personal(address string, people ...string) bool {
	local, _, _ := strings.Cut(strings.ToLower(address), "@")
	for _, p := range people {
		if p = strings.ToLower(p); p == strings.ToLower(address) || p != "" && p == local {
			return true
		}
		names := strings.Fields(strings.ReplaceAll(p, ".", " "))
		if n := len(names); n > 1 && !strings.Contains(p, "@") && len(names[n-1]) > 2 && strings.Contains(local, names[n-1]) {
			return true
		}
	}
	return false
}
