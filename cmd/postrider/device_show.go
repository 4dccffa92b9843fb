package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
)

func newDeviceShow(f *flags) *cobra.Command {
	return withOutput(f, answers, &cobra.Command{
		Use:   "show NAME",
		Short: "Show a device: what it may, what was found out about it, and when it was used",
		Long: `Show one device on one screen: what is registered, its credentials, what the DNS
and the reviews say of it, and when it sent last, by address.

  postrider device show prn-3.chem.campus.test

What it was refused shows: postrider explain NAME. Who changed it: postrider device history NAME.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAsking(cmd.Context(), f, func(a *asking) error {
				d, err := findDevice(a.reg, args[0])
				if err != nil {
					return err
				}
				c := newDeviceCard(a.reg, d)
				if d.State == registry.StateApproved {
					c.Awaits = (&desk{cfg: a.cfg, snapshot: a.reg}).awaited(d)
				}
				if c.Use, err = useOf(cmd.Context(), a.bus, d.Name); err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "postrider: when it was used is not known now:", err)
				}
				if f.output == "json" {
					return printJSON(cmd.OutOrStdout(), c)
				}
				return c.print(cmd.OutOrStdout(), time.Now())
			})
		},
	})
}

// deviceCard is a device, and what else is known about it.
type deviceCard struct {
	*registry.Device
	Credentials []shownCredential    `json:"credentials,omitempty"`
	Resolution  *registry.Resolution `json:"resolution,omitempty"`
	Review      *registry.Review     `json:"review,omitempty"`
	Use         *books.Use           `json:"use,omitempty"`
	Awaits      []string             `json:"awaits,omitempty"` // once it has these it is active
	owner       *registry.Owner
}

// shownCredential is a credential without its secrets.
type shownCredential struct {
	Name      string `json:"name"`
	Secrets   int    `json:"secrets"`
	Suspended bool   `json:"suspended,omitempty"`
}

func newDeviceCard(s *registry.Snapshot, d *registry.Device) *deviceCard {
	c := &deviceCard{Device: d}
	for _, cred := range s.Entries().Credentials {
		if cred.Device == d.Name {
			c.Credentials = append(c.Credentials, shownCredential{cred.Name, len(cred.Secrets), cred.Suspended})
		}
	}
	c.Resolution, _ = s.Resolution(d.Name)
	c.Review, _ = s.Review(d.Name)
	c.owner, _ = s.Owner(d.Owner)
	return c
}

// useOf is the use of a device; nil without an error is of one that was never used.
func useOf(ctx context.Context, bus *queue.Bus, device string) (*books.Use, error) {
	var use *books.Use
	err := books.Client(bus).Use(ctx, func(u books.Use) error {
		if u.Device < device {
			return nil
		}
		if u.Device == device {
			use = &u
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, err
	}
	return use, nil
}

func (c *deviceCard) print(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%s\t%s\n", label, visible(text))
		}
	}
	fmt.Fprintf(w, "%s\t%s\n", c.Name, c.standing(now))
	line("waits for", strings.Join(c.Awaits, ", and "))
	line("owner", c.ownedBy())
	line("contacts", strings.Join(c.contacts(), ", "))
	c.printSources(line, now)
	line("as", strings.Join(c.Senders, ", "))
	line("", labelled("From field also ", strings.Join(c.HeaderSenders, ", ")))
	line("to", string(c.Scope))
	line("what", strings.Join(nonEmpty(labelled("class ", string(c.Class)), labelled("traffic ", string(c.Traffic)), flagged(c.PHI, "health information")), ", "))
	line("limits", c.limits())
	line("quirks", c.quirks())
	if e := c.Exempt; e != nil {
		line("exempt", strings.Join(nonEmpty(e.Reason, labelled("by ", e.By), labelled("until ", date(e.Until)), flagged(!e.Holds(now), "ENDED")), ", "))
	}
	line("dates", c.dates())
	c.printReview(line)
	line("changed", c.change())
	return w.Flush()
}

// standing is the state, since when, and why it is not another.
func (c *deviceCard) standing(now time.Time) string {
	s := string(c.State)
	if c.Suspension != nil && c.State == registry.StateSuspended {
		s += " since " + date(c.Suspension.At) + ": " + c.Suspension.Cause
		if c.Suspension.NeedsTicket {
			s += "; it takes a ticket to go on: postrider device resume " + c.Name + " --ticket NUMBER"
		}
	}
	if end := c.Dates.Expires; !end.IsZero() && c.State == registry.StateActive {
		s += ", ends in " + age(end.Sub(now))
	}
	return s
}

func (c *deviceCard) ownedBy() string {
	if c.owner == nil {
		return c.Owner
	}
	return strings.Join(nonEmpty(c.Owner, flagged(c.owner.External, "external"), labelled("contract ", c.owner.Contract)), ", ")
}

// contacts are its own, else those of its owner.
func (c *deviceCard) contacts() []string {
	if len(c.Contacts) == 0 && c.owner != nil {
		return c.owner.Contacts
	}
	return c.Contacts
}

// printSources says where its mail comes from, and when it last did.
func (c *deviceCard) printSources(line func(label, text string), now time.Time) {
	label := "from"
	source := func(text string) {
		line(label, text)
		label = ""
	}
	for _, a := range c.Addresses {
		source(strings.Join(nonEmpty(a.String(), flagged(!a.Active(), string(a.State)), c.confirmed(a, now), c.lastFrom(a, now)), ", "))
	}
	if c.FollowDNS {
		var followed []string
		if c.Resolution != nil {
			for _, a := range c.Resolution.Addresses {
				followed = append(followed, a.String())
			}
		}
		source("the addresses that the DNS has for it: " + orElse(strings.Join(followed, ", "), "none yet"))
	}
	for _, cred := range c.Credentials {
		secrets := map[int]string{0: "an authority checks it", 1: "one secret"}[cred.Secrets]
		if cred.Secrets > 1 {
			secrets = "two secrets: it is being rotated"
		}
		source(strings.Join(nonEmpty("credential "+cred.Name, secrets, flagged(cred.Suspended, "SUSPENDED")), ", "))
	}
	line("proof", map[registry.Proof]string{
		"": "its address or a credential", registry.ProofEither: "its address or a credential", registry.ProofCredential: "a credential, also from its own address",
		registry.ProofBoth: "its address and a credential",
	}[c.Proof])
	if c.Use != nil {
		line("last used", ago(c.Use.Last, now))
	}
}

func (c *deviceCard) confirmed(a registry.Address, now time.Time) string {
	if c.Resolution == nil {
		return ""
	}
	if at, ok := c.Resolution.Confirmed[a.Range.Addr()]; ok && a.Range.IsSingleIP() {
		return "name confirmed " + ago(at, now)
	}
	return ""
}

// lastFrom is when it last sent from an address or range.
func (c *deviceCard) lastFrom(a registry.Address, now time.Time) string {
	var last time.Time
	if c.Use != nil {
		for from, at := range c.Use.Addresses {
			if contains(a.Range, from) && at.After(last) {
				last = at
			}
		}
	}
	if last.IsZero() {
		return "never used"
	}
	return "last used " + ago(last, now)
}

func contains(p netip.Prefix, a netip.Addr) bool { return p.Contains(a.Unmap()) }

func (c *deviceCard) limits() string {
	l := c.Limits
	count := func(n int, of string) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("%d %s", n, of)
	}
	var octets string
	if l.Size > 0 {
		octets = size(l.Size)
	}
	return strings.Join(nonEmpty(octets, count(l.Session, "messages of a session"), count(l.Recipients, "recipients"),
		count(l.MessagesPerHour, "messages an hour"), count(l.RecipientsPerHour, "recipients an hour")), ", ")
}

func (c *deviceCard) quirks() string {
	q := c.Quirks
	return strings.Join(nonEmpty(labelled("From becomes ", q.From), labelled("default domain ", q.Domain), labelled("EHLO without ", strings.Join(q.HideEHLO, " ")),
		flagged(q.LegacyTLS, "old TLS"), flagged(q.RepairNewlines, "newlines are mended")), ", ")
}

func (c *deviceCard) dates() string {
	d := c.Dates
	return strings.Join(nonEmpty(labelled("requested ", date(d.Requested)), labelled("contacted ", date(d.Contacted)), strings.Join(nonEmpty(labelled("approved ", date(d.Approved)), labelled("by ", c.Approver)), " "),
		labelled("active ", date(d.Activated)), labelled("attested ", date(d.Attested)), labelled("ends ", date(d.Expires)), labelled("retired ", date(d.Retired))), ", ")
}

func (c *deviceCard) printReview(line func(label, text string)) {
	if c.Review == nil {
		return
	}
	label := "reviewed"
	for _, f := range c.Review.Findings {
		mark := "x"
		switch {
		case f.OK:
			mark = "+"
		case f.Doubt:
			mark = "~"
		}
		line(label, mark+" "+strings.Join(nonEmpty(f.Check, f.About), " ")+": "+f.Text)
		label = ""
	}
}

func (c *deviceCard) change() string {
	if c.Origin == registry.OriginFile {
		return "comes from the configuration file"
	}
	return date(c.At) + strings.Join(nonEmpty(labelled(" by ", c.By), labelled(": ", c.Reason), labelled(" ticket ", c.Ticket)), "")
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateOnly)
}

// ago is a time, and how long ago that was.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return age(now.Sub(t)) + " ago"
}

func labelled(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

func flagged(on bool, s string) string {
	if !on {
		return ""
	}
	return s
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func nonEmpty(parts ...string) (out []string) {
	for _, s := range parts {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
