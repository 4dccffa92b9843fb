package lifecycle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
)

// Rules say when something is done about a registration. Zero means never.
type Rules struct {
	// UnusedNotice and UnusedEnd are how long a device, or one address of it,
	// sends nothing before its contacts are told, and before it ends (W18).
	UnusedNotice, UnusedEnd time.Duration
	// Attestation is how long an attestation holds (M20).
	Attestation time.Duration
	// Reports: so many that could not be delivered within ReportsWithin, after the
	// contacts were told, suspend a device (P29).
	Reports       int
	ReportsWithin time.Duration
	// ReportsMost devices are suspended for that in an hour, and no more: then
	// the fault is elsewhere.
	ReportsMost int
	// Terms is the version of the terms of use that holds now, and TermsURL where
	// they are (W11). Empty: any version will do.
	Terms, TermsURL string
	// Problems: so many refused attempts and failed messages of a device within a
	// day are told to its contacts (M24).
	Problems int
	// Anomaly says what becomes of a device that looks compromised: observe tells,
	// enforce suspends (M22, X20).
	Anomaly authz.Mode
}

// Periods before an end in which the contacts hear of it.
const (
	firstNotice  = 30 * 24 * time.Hour
	lastNotice   = 7 * 24 * time.Hour
	attestGrace  = 30 * 24 * time.Hour // after an attestation ran out
	unusedNotice = lastNotice          // at least so long between being told and the end
)

// Use is what the books know of a device.
type Use struct {
	// Last is when its last message was accepted, and ByAddress when from there.
	Last      time.Time
	ByAddress map[netip.Addr]time.Time
	// Undeliverable are its reports that a destination refused for good because
	// there is no such mailbox (5.1.x), one time for each.
	Undeliverable []time.Time
	// Refused attempts and failed messages of a day.
	Refused, Failed int
	// Findings are those of the last review of it.
	Findings []registry.Finding
	// Recent are the last hours in which it sent, Usual the most of an hour before.
	Recent []books.Hour
	Usual  books.Hour
}

// Cause is why something is done.
type Cause string

// The causes. They are the words in the registry, in metrics and in notices.
const (
	Activated   Cause = "activated"
	Expiry      Cause = "expiry"
	Unused      Cause = "unused"
	Attestation Cause = "attestation"
	Reports     Cause = "reports"
	Problem     Cause = "problem"
	Anomaly     Cause = "anomaly"
	Unsubscribe Cause = "unsubscribe"
)

// Deed is what is done.
type Deed string

// The deeds.
const (
	Tell    Deed = "tell"    // the contacts
	Suspend Deed = "suspend" // and tell
	Retire  Deed = "retire"  // and tell
	Drop    Deed = "drop"    // one address, and tell
)

// Step is one thing to do about a device.
type Step struct {
	Deed  Deed
	Cause Cause
	// Address is the one that Drop, and telling of an unused one, is about.
	Address registry.Address
	// At is when what is announced happens; zero for what happens now.
	At time.Time
	// Why is the reason for the record and for the notice.
	Why string
}

// Decide says what is to be done about a device now. It is a pure function: doing
// it, and asking again, asks for nothing.
func Decide(d *registry.Device, use Use, rules *Rules, now time.Time) []Step {
	if d.Origin == registry.OriginFile || d.State != registry.StateActive {
		return nil
	}
	steps := activated(d)
	for _, rule := range []func(*registry.Device, Use, *Rules, time.Time) []Step{expiry, anomaly, reports, attestation, unused, problems, unsubscribe, domain} {
		if s := rule(d, use, rules, now); len(s) > 0 {
			return append(steps, s...)
		}
	}
	return steps
}

// activated confirms a registration with all of its addresses, and later each that
// becomes active (M25).
func activated(d *registry.Device) []Step {
	if told(d, Activated).IsZero() {
		return []Step{{Deed: Tell, Cause: Activated, Why: "the registration is active"}}
	}
	var more []string
	for _, a := range d.Addresses {
		if a.Active() && told(d, Confirmed(a)).IsZero() {
			more = append(more, a.String())
		}
	}
	if len(more) == 0 {
		return nil
	}
	return []Step{{Deed: Tell, Cause: Activated, Why: "it may now send from " + strings.Join(more, ", ") + ", too"}}
}

// Confirmed is what the contacts were told when they heard of an address.
func Confirmed(a registry.Address) Cause { return Activated + Cause(" "+a.String()) }

// told is when the contacts last heard of a cause.
func told(d *registry.Device, c Cause) time.Time { return d.Told[string(c)] }

// announce tells of an end twice: early, and shortly before.
func announce(d *registry.Device, c Cause, end, now time.Time, why string) []Step {
	for _, before := range []time.Duration{lastNotice, firstNotice} {
		if begin := end.Add(-before); !now.Before(begin) {
			if told(d, c).Before(begin) {
				return []Step{{Deed: Tell, Cause: c, At: end, Why: why}}
			}
			return nil
		}
	}
	return nil
}

func expiry(d *registry.Device, _ Use, _ *Rules, now time.Time) []Step {
	end := d.Dates.Expires
	switch {
	case end.IsZero():
		return nil
	case !now.Before(end):
		return []Step{{Deed: Retire, Cause: Expiry, Why: "the registration ended on " + day(end)}}
	}
	return announce(d, Expiry, end, now, "the registration ends on "+day(end))
}

func attestation(d *registry.Device, _ Use, rules *Rules, now time.Time) []Step {
	if rules.Attestation == 0 || d.Dates.Attested.IsZero() {
		return nil
	}
	end := d.Dates.Attested.Add(rules.Attestation)
	if final := end.Add(attestGrace); !now.Before(final) && told(d, Attestation).After(d.Dates.Attested) {
		return []Step{{Deed: Suspend, Cause: Attestation, Why: "the attestation of " + day(d.Dates.Attested) + " was not renewed"}}
	}
	return announce(d, Attestation, end, now, "the attestation of "+day(d.Dates.Attested)+" is to be renewed by "+day(end))
}

// reports suspends a sender to whom nothing can be reported (P29): what was
// undeliverable before the contacts were told does not count.
func reports(d *registry.Device, use Use, rules *Rules, now time.Time) []Step {
	if rules.Reports == 0 {
		return nil
	}
	since := now.Add(-rules.ReportsWithin)
	recent := func(after time.Time) (n int) {
		for _, at := range use.Undeliverable {
			if at.After(after) {
				n++
			}
		}
		return n
	}
	warned := told(d, Reports)
	if warned.Before(since) {
		if n := recent(since); n > 0 {
			return []Step{{Deed: Tell, Cause: Reports, Why: "reports to its sender address come back: there is no such mailbox"}}
		}
		return nil
	}
	if n := recent(warned); n >= rules.Reports {
		return []Step{{Deed: Suspend, Cause: Reports, Why: fmt.Sprintf("%d reports to its sender address came back since its contacts were told", n)}}
	}
	return nil
}

// unused ends what sends nothing: the device, or one address of several.
func unused(d *registry.Device, use Use, rules *Rules, now time.Time) []Step {
	if rules.UnusedEnd == 0 {
		return nil
	}
	began := d.Dates.Activated
	if began.IsZero() { // nobody knows since when it could have sent
		return nil
	}
	if last := latest(began, use.Last); idle(last, rules, now) {
		return rest(d, Unused, Step{Deed: Retire, Cause: Unused, Why: "nothing was sent since " + day(last)}, last, rules, now)
	}
	var steps []Step
	for _, a := range d.Addresses {
		if !a.Active() || !a.Range.IsSingleIP() || len(d.Addresses) == 1 {
			continue
		}
		last := latest(began, a.Since, use.ByAddress[a.Range.Addr()])
		if idle(last, rules, now) {
			step := Step{Deed: Drop, Cause: Unused, Address: a, Why: "nothing was sent from " + a.String() + " since " + day(last)}
			steps = append(steps, rest(d, Cause(string(Unused)+" "+a.String()), step, last, rules, now)...)
		}
	}
	return steps
}

func idle(last time.Time, rules *Rules, now time.Time) bool {
	return !last.IsZero() && now.Sub(last) >= min(rules.UnusedNotice, rules.UnusedEnd)
}

// rest is a step that ends something unused, or the notice before it.
func rest(d *registry.Device, about Cause, step Step, last time.Time, rules *Rules, now time.Time) []Step {
	warned := told(d, about)
	if warned.Before(last) || warned.IsZero() {
		end := latest(last.Add(rules.UnusedEnd), now.Add(unusedNotice))
		return []Step{{Deed: Tell, Cause: about, Address: step.Address, At: end, Why: step.Why}}
	}
	if now.Before(last.Add(rules.UnusedEnd)) || now.Before(warned.Add(unusedNotice)) {
		return nil
	}
	return []Step{step}
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
