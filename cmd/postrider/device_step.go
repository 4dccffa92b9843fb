package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
)

// step is a command that moves devices on in their life.
type step struct {
	verb, done, short, long string
	from                    []registry.State
	// take makes the change to a copy of a device.
	take func(*registry.Device, *stepOptions) error
	// flags are those that only this step has.
	flags func(*cobra.Command, *stepOptions)
	// final: what a selector chooses is shown first, and confirmed by the id of
	// the plan.
	final bool
	// reasoned: it needs a reason.
	reasoned bool
}

// stepOptions are what the person at the keyboard says.
type stepOptions struct {
	all, dry              bool
	confirm               string
	reason, ticket, cause string
	needsTicket           bool
	addresses             []string
	anyNetwork            bool
	expires               string
	attestedBy            string
	attestedTitle         string
	terms                 string
	signature             string
	now                   time.Time
	ctx                   context.Context
	*desk
}

func (o *stepOptions) change() registry.Change {
	return registry.Change{By: actor(), Reason: o.reason, Ticket: o.ticket, At: o.now}
}

// causes are those of a suspension; from ticketed on they are lifted by a ticket
// only.
var causes = []string{"operator", "unused", "attestation", "abuse", "reports", "anomaly"}

const ticketed = 3

func steps() []*step {
	expires := func(c *cobra.Command, o *stepOptions) {
		c.Flags().StringVar(&o.expires, "expires", "", "end of the registration: a date or a duration")
	}
	byAddress := func(c *cobra.Command, o *stepOptions) {
		c.Flags().StringSliceVar(&o.addresses, "address", nil, "only this address or range of the device (repeatable)")
	}
	return []*step{
		{verb: "contact", done: "contacted", short: "Note that the requestor was spoken to", from: []registry.State{registry.StateRequested}, take: contact,
			long: "Note that somebody has spoken to the person who asks, to settle what is open.\nWhat was said goes into the --reason."},
		{verb: "approve", done: "approved", short: "Let a requested device send", from: []registry.State{registry.StateRequested, registry.StateApproved}, take: approve,
			flags: func(c *cobra.Command, o *stepOptions) {
				expires(c, o)
				c.Flags().BoolVar(&o.anyNetwork, "any-network", false, "also where its network speaks against it; needs a --reason")
			}},
		{verb: "deny", done: "denied", short: "Refuse a request", from: []registry.State{registry.StateRequested, registry.StateApproved}, take: retire, final: true, reasoned: true},
		{verb: "suspend", done: "suspended", short: "Stop a device from sending", from: []registry.State{registry.StateActive}, take: suspend,
			long: "Stop a device from sending, or one of its addresses. It takes effect at once, on\nopen sessions, too. What abuse, reports or\nan anomaly are the cause of is lifted by a ticket only.",
			flags: func(c *cobra.Command, o *stepOptions) {
				byAddress(c, o)
				c.Flags().StringVar(&o.cause, "cause", causes[0], "why: "+strings.Join(causes, ", "))
				c.Flags().BoolVar(&o.needsTicket, "needs-ticket", false, "let it be lifted by a ticket only")
			}},
		{verb: "resume", done: "resumed", short: "Let a suspended device send again", from: []registry.State{registry.StateSuspended}, take: resume, flags: byAddress},
		{verb: "renew", done: "renewed", short: "Extend a registration", from: []registry.State{registry.StateApproved, registry.StateActive, registry.StateSuspended}, take: renew,
			flags: func(c *cobra.Command, o *stepOptions) {
				c.Flags().StringVar(&o.expires, "expires", "365d", "its new end: a date or a duration")
				attestFlags(c, o)
			}},
		{verb: "attest", done: "attested", short: "Note a new attestation, or the acceptance of new terms of use", from: []registry.State{registry.StateRequested, registry.StateApproved, registry.StateActive, registry.StateSuspended}, take: attest,
			long:  "Note that the owner attests again that the device is protected, or accepts the\nterms of use of another version. The end of the registration stays.\n\n  postrider device attest prn-3.chem.campus.test --attested-by 'Kim K.' --signature 'Kim K.'\n  postrider device attest prn-3.chem.campus.test --terms 2027-01",
			flags: attestFlags},
		{verb: "retire", done: "retired", short: "End a registration", from: []registry.State{registry.StateRequested, registry.StateApproved, registry.StateActive, registry.StateSuspended}, take: retire, final: true, flags: byAddress},
	}
}

func approve(d *registry.Device, o *stepOptions) error {
	expires, err := moment(o.expires, o.now)
	if err != nil {
		return usage("--expires: %w", err)
	}
	if o.anyNetwork && o.reason == "" {
		return errNeedsReason
	}
	if err := o.checkApproval(o.ctx, d, o.reason); err != nil {
		return err
	}
	if err := checkPlace(o.snapshot, d, o.anyNetwork); err != nil {
		return err
	}
	d.State, d.Approver, d.Decision, d.Dates.Approved = registry.StateApproved, actor(), o.reason, o.now
	if len(o.awaited(d)) == 0 {
		d.State, d.Dates.Activated = registry.StateActive, o.now
	}
	if !expires.IsZero() {
		d.Dates.Expires = expires
	}
	if d.Exempt != nil && d.Exempt.By == "" {
		d.Exempt.By = d.Approver // P20
	}
	return nil
}

func suspend(d *registry.Device, o *stepOptions) error {
	if !slices.Contains(causes, o.cause) {
		return usage("--cause: %q is none of %s", o.cause, strings.Join(causes, ", "))
	}
	if len(o.addresses) > 0 {
		return setAddresses(d, o, registry.StateSuspended)
	}
	d.State = registry.StateSuspended
	d.Suspension = &registry.Suspension{Cause: o.cause, At: o.now, NeedsTicket: o.needsTicket || slices.Index(causes, o.cause) >= ticketed}
	return nil
}

func resume(d *registry.Device, o *stepOptions) error {
	if len(o.addresses) > 0 {
		if err := setAddresses(d, o, registry.StateActive); err != nil {
			return err
		}
		return checkPlace(o.snapshot, d, true)
	}
	if s := d.Suspension; s != nil && s.NeedsTicket && o.ticket == "" { // P30
		return &service.Exit{Code: service.ExitNotPermitted, Err: fmt.Errorf("%s is suspended for %s: that is lifted by a ticket only; give its number: --ticket", d.Name, s.Cause)}
	}
	if rival, ok := o.snapshot.Rival(d); ok {
		return addressTaken(d, rival)
	}
	d.State, d.Suspension = registry.StateActive, nil
	return nil
}

func renew(d *registry.Device, o *stepOptions) error {
	expires, err := moment(o.expires, o.now)
	if err != nil || expires.IsZero() {
		return usage("--expires: %w", errors.Join(err, errors.New("a date (2027-06-30) or a duration (365d) is needed")))
	}
	d.Dates.Expires = expires
	if o.attestedBy+o.attestedTitle+o.signature+o.terms == "" {
		return nil
	}
	return attest(d, o)
}

// retire ends a registration, or one of its addresses.
func retire(d *registry.Device, o *stepOptions) error {
	if len(o.addresses) > 0 {
		return setAddresses(d, o, registry.StateRetired)
	}
	d.State, d.Dates.Retired, d.Suspension = registry.StateRetired, o.now, nil
	return nil
}

// setAddresses gives some addresses of a device a standing of their own.
func setAddresses(d *registry.Device, o *stepOptions, state registry.State) error {
	for _, s := range o.addresses {
		p, err := registry.ParseRange(s)
		if err != nil {
			return usage("--address: %w", err)
		}
		i := slices.IndexFunc(d.Addresses, func(a registry.Address) bool { return a.Range == p })
		if i < 0 {
			return &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("%s has no address %s; it has %s", d.Name, s, or(addresses(d), "none"))}
		}
		d.Addresses[i].State, d.Addresses[i].Since = state, o.now
	}
	return nil
}

// applied is a device as it is after the step, or why it cannot be.
func (st *step) applied(found *registry.Device, o *stepOptions) (*registry.Device, error) {
	d, err := registry.Clone(found)
	if err != nil {
		return nil, err
	}
	if !st.fits(d, o) {
		next := ""
		if commands := stateCommands(d); len(commands) > 0 {
			next = "\nTo let it send: " + strings.Join(commands, ", then ")
		}
		return nil, &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is %s: it cannot be %s from there%s", d.Name, d.State, st.done, next)}
	}
	if err := st.take(d, o); err != nil {
		return nil, err
	}
	d.Stamp(o.change())
	return d, nil
}

// fits reports that the step leads on from where a device is.
func (st *step) fits(d *registry.Device, o *stepOptions) bool {
	return slices.Contains(st.from, d.State) || len(o.addresses) > 0 && d.State.Holds()
}
