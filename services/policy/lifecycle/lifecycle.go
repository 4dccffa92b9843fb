// Package lifecycle lives the lives of registrations: it tells contacts what
// happens to their devices, and does what time or events bring about.
//
// Consumes: the registry, and the use of devices from the ledger's books.
// Produces: changes of the registry by the actor "lifecycle", and notices in
// MAIL, from the null reverse-path, that take the road of all mail; the books
// prove for each contact that one arrived.
//
// Each round, a minute after the last, it decides about every active device that
// a command made (Decide, a pure function), and does what is decided:
//
//	activated    confirmed to the contacts with each address, and so is an address
//	             that is added
//	expiry       told 30 and 7 days before, then retired
//	attestation  told 30 and 7 days before it runs out, suspended 30 days after
//	unused       told, then retired; one address of several is dropped alone
//	reports      told when a report to the sender's address comes back for good,
//	             suspended when more do; it takes a ticket to go on
//	anomaly      what looks compromised (anomaly.go) is told to the contacts and to
//	             the postmaster, and suspended where that is set
//	unsubscribe  told when bulk mail has no List-Unsubscribe field
//	domain       told once a month that a domain of its senders does not authorise the
//	             relay, as the daily review found (S31)
//	problem      told once a day at most, with samples, when many attempts were
//	             refused or messages not delivered (M24)
//
// New terms of use are announced once, by a notice to all whom they concern.
// The contacts of all devices, whoever registered them, are kept in the group of
// those that hear notices until their last device is retired (roster).
//
// Guarantees: one process at a time does so (a lease). A notice is stored before
// the change that it tells of, and a change is made only to the revision that was
// decided about. Nobody is suspended for reports, or as an anomaly, when more than
// ReportsMost devices would be within an hour: then the fault is elsewhere, and it
// says so.
// Nothing ends for being unused without its contacts having been told a week
// before. Entries of the configuration file are left alone.
//
// Failures: while the ledger does not answer, nothing is decided. A round that
// breaks off goes on with the next; a notice may then come twice, under the same
// Message-ID if within two minutes.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// period is the time between two rounds, lookPeriod that between two looks at the
// notice group.
const (
	period     = time.Minute
	lookPeriod = 2 * time.Second
)

// Lifecycle is the clock of the registrations.
type Lifecycle struct {
	bus      *queue.Bus
	registry *store.Store
	uses     func(context.Context, func(books.Use) error) error
	export   func(context.Context, books.Filter, func(books.Row) error) error
	evidence evidence
	joined   uint64 // revision of the registry at which the notice group was right
	rules    Rules
	relay    config.Relay
	group    string
	// postmaster is an address.
	postmaster string
	log        zerolog.Logger
	hindered   func(why error)
	instance   string
}

// New makes one; it does nothing before Run.
func New(env *service.Env, reg *store.Store) *Lifecycle {
	c := &env.Config.Lifecycle
	return &Lifecycle{
		bus: env.Bus, registry: reg, uses: books.Client(env.Bus).Use, export: books.Client(env.Bus).Export, relay: env.Config.Relay, group: c.NoticeGroup,
		postmaster: env.Config.Relay.Contact(),
		rules: Rules{
			UnusedNotice: time.Duration(c.UnusedNotice), UnusedEnd: time.Duration(c.UnusedEnd), Attestation: time.Duration(c.Attestation),
			Reports: c.Reports, ReportsWithin: time.Duration(c.ReportsWithin), ReportsMost: c.ReportsMost,
			Terms: env.Config.Registration.Terms, TermsURL: env.Config.Registration.TermsURL,
			Problems: c.Problems, Anomaly: authz.Mode(c.Anomaly),
		},
		log: env.Log.With().Str("job", "lifecycle").Logger(), instance: env.Instance,
		hindered: func(why error) { env.Hindered("lifecycle", why) },
	}
}

// Run makes rounds until ctx ends, while this process holds the lease.
func (l *Lifecycle) Run(ctx context.Context) error {
	return l.bus.Lead(ctx, "lifecycle", l.instance, func(ctx context.Context) {
		tick, look := time.NewTicker(period), time.NewTicker(lookPeriod)
		defer tick.Stop()
		defer look.Stop()
		do := l.Round
		for ctx.Err() == nil {
			if err := do(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
				l.log.Warn().Err(err).Msg("a round of the life cycle broke off")
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
				do = l.Round
			case <-look.C:
				do = l.look
			}
		}
	})
}

// Round decides about every device as of now, and does what is decided. Only one
// may run at a time; Run sees to that.
func (l *Lifecycle) Round(ctx context.Context, now time.Time) error {
	reg := l.registry.Snapshot()
	if err := l.refused(ctx, reg, now); err != nil {
		return err
	}
	used := map[string]Use{}
	for name, t := range l.evidence.devices {
		used[name] = Use{Refused: t.Refused}
	}
	err := l.uses(ctx, func(u books.Use) error {
		used[u.Device] = Use{Last: u.Last, ByAddress: u.Addresses, Undeliverable: u.Undeliverable, Recent: u.Recent, Usual: u.Usual, Failed: u.Failed, Refused: used[u.Device].Refused}
		return nil
	})
	if err != nil {
		return err
	}
	todo := map[*registry.Device][]Step{}
	for _, d := range reg.Entries().Devices {
		use := used[d.Name]
		if v, ok := reg.Review(d.Name); ok {
			use.Findings = v.Findings
		}
		if steps := Decide(d, use, &l.rules, now); len(steps) > 0 {
			todo[d] = steps
		}
	}
	l.hindered(errors.Join(brake(reg, todo, Reports, l.rules.ReportsMost, now), brake(reg, todo, Anomaly, l.rules.ReportsMost, now), brakeProblems(todo)))
	failed := []error{l.look(ctx, now), l.announce(ctx, reg, now)}
	for _, d := range slices.SortedFunc(maps.Keys(todo), func(a, b *registry.Device) int { return strings.Compare(a.Name, b.Name) }) {
		if len(todo[d]) == 0 {
			continue
		}
		if err := l.do(ctx, reg, d, todo[d], now); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	return errors.Join(failed...)
}

// suspects is why a cause would suspend too many, and where to look.
var suspects = map[Cause]string{
	Reports: "since reports to them come back: is a directory or a mail server broken?",
	Anomaly: "since they look compromised: is it an outbreak, or a campaign of the institution's own?",
}

// brake takes the suspensions for a cause out of what is to be done, when they
// would be too many within an hour, and says so.
func brake(reg *registry.Snapshot, todo map[*registry.Device][]Step, cause Cause, most int, now time.Time) error {
	lately := 0
	for _, d := range reg.Entries().Devices {
		if s := d.Suspension; s != nil && s.Cause == string(cause) && now.Sub(s.At) < time.Hour {
			lately++
		}
	}
	var wanted []*registry.Device
	isOne := func(s Step) bool { return s.Deed == Suspend && s.Cause == cause }
	for d, steps := range todo {
		if slices.ContainsFunc(steps, isOne) {
			wanted = append(wanted, d)
		}
	}
	if most == 0 || lately+len(wanted) <= most || len(wanted) == 0 {
		return nil
	}
	for _, d := range wanted {
		todo[d] = slices.DeleteFunc(todo[d], isOne)
	}
	return fmt.Errorf("%d devices would be suspended %s %d were within the hour. "+
		"None is suspended. Suspend by hand who is to blame: postrider device suspend NAME", len(wanted), suspects[cause], lately)
}

// do does what was decided about one device.
func (l *Lifecycle) do(ctx context.Context, reg *registry.Snapshot, d *registry.Device, steps []Step, now time.Time) error {
	changed, err := registry.Clone(d)
	if err != nil {
		return err
	}
	to := reg.ContactsOf(d)
	for _, s := range steps {
		if err := l.tell(ctx, d, s, l.readers(s, to), now); err != nil {
			return err
		}
		perform(changed, s, now)
		l.log.Info().Str("device", d.Name).Str("deed", string(s.Deed)).Str("cause", string(s.Cause)).Strs("told", to).Msg(s.Why)
	}
	return l.registry.Put(ctx, changed)
}

// readers are who is told of a step: the contacts, and the postmaster where a
// person has to look.
func (l *Lifecycle) readers(s Step, contacts []string) []string {
	if s.Cause != Anomaly || slices.Contains(contacts, l.postmaster) {
		return contacts
	}
	return append(slices.Clone(contacts), l.postmaster)
}

// tell stores a notice to the contacts.
func (l *Lifecycle) tell(ctx context.Context, d *registry.Device, s Step, to []string, now time.Time) error {
	m := message(l.relay, d, s, to, now)
	if s.Cause == Problem {
		var err error
		if m.Lines, err = l.describe(ctx, d, now); err != nil {
			return err
		}
	}
	told, err := m.Store(ctx, l.bus)
	if err == nil && !told {
		l.log.Warn().Str("device", d.Name).Str("cause", string(s.Cause)).Msg("nobody can be told: the device has no contacts, nor has its owner")
	}
	return err
}
