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
//	activated    confirmed to the contacts, with each address; they join the
//	             group of those that hear notices
//	expiry       told 30 and 7 days before, then retired
//	attestation  told 30 and 7 days before it runs out, suspended 30 days after
//	unused       told, then retired; one address of several is dropped alone
//	reports      told when a report to the sender's address comes back for good,
//	             suspended when more do; it takes a ticket to go on
//	terms        told once of each version of the terms of use
//
// Guarantees: one process at a time does so (a lease). A notice is stored before
// the change that it tells of, and a change is made only to the revision that was
// decided about. Nobody is suspended for reports when more than ReportsMost
// devices would be within an hour: then the fault is elsewhere, and it says so.
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
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

// period is the time between two rounds.
const period = time.Minute

// Lifecycle is the clock of the registrations.
type Lifecycle struct {
	bus      *queue.Bus
	registry *store.Store
	uses     func(context.Context, func(books.Use) error) error
	rules    Rules
	relay    config.Relay
	group    string
	log      zerolog.Logger
	hindered func(why error)
	instance string
}

// New makes one; it does nothing before Run.
func New(env *service.Env, reg *store.Store) *Lifecycle {
	c := &env.Config.Lifecycle
	return &Lifecycle{
		bus: env.Bus, registry: reg, uses: books.Client(env.Bus).Use, relay: env.Config.Relay, group: c.NoticeGroup,
		rules: Rules{
			UnusedNotice: time.Duration(c.UnusedNotice), UnusedEnd: time.Duration(c.UnusedEnd), Attestation: time.Duration(c.Attestation),
			Reports: c.Reports, ReportsWithin: time.Duration(c.ReportsWithin), ReportsMost: c.ReportsMost,
			Terms: env.Config.Registration.Terms, TermsURL: env.Config.Registration.TermsURL,
		},
		log: env.Log.With().Str("job", "lifecycle").Logger(), instance: env.Instance,
		hindered: func(why error) { env.Hindered("lifecycle", why) },
	}
}

// Run makes rounds until ctx ends, while this process holds the lease.
func (l *Lifecycle) Run(ctx context.Context) error {
	return l.bus.Lead(ctx, "lifecycle", l.instance, func(ctx context.Context) {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := l.round(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
				l.log.Warn().Err(err).Msg("a round of the life cycle broke off")
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
}

// round decides about every device and does what is decided.
func (l *Lifecycle) round(ctx context.Context, now time.Time) error {
	used := map[string]Use{}
	err := l.uses(ctx, func(u books.Use) error {
		used[u.Device] = Use{Last: u.Last, ByAddress: u.Addresses, Undeliverable: u.Undeliverable}
		return nil
	})
	if err != nil {
		return err
	}
	reg := l.registry.Snapshot()
	todo := map[*registry.Device][]Step{}
	for _, d := range reg.Entries().Devices {
		if steps := Decide(d, used[d.Name], &l.rules, now); len(steps) > 0 {
			todo[d] = steps
		}
	}
	l.hindered(brake(reg, todo, l.rules.ReportsMost, now))
	if err := l.join(ctx, reg, todo, now); err != nil {
		return err
	}
	var failed []error
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

// brake takes the suspensions for reports out of what is to be done, when they
// would be too many within an hour, and says so.
func brake(reg *registry.Snapshot, todo map[*registry.Device][]Step, most int, now time.Time) error {
	lately := 0
	for _, d := range reg.Entries().Devices {
		if s := d.Suspension; s != nil && s.Cause == string(Reports) && now.Sub(s.At) < time.Hour {
			lately++
		}
	}
	var wanted []*registry.Device
	isOne := func(s Step) bool { return s.Deed == Suspend && s.Cause == Reports }
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
	return fmt.Errorf("%d devices would be suspended since reports to them come back, %d were within the hour: is a directory or a mail server broken? "+
		"None is suspended. Suspend by hand who is to blame: postrider device suspend NAME", len(wanted), lately)
}

// do does what was decided about one device.
func (l *Lifecycle) do(ctx context.Context, reg *registry.Snapshot, d *registry.Device, steps []Step, now time.Time) error {
	changed, err := registry.Clone(d)
	if err != nil {
		return err
	}
	to := contacts(reg, d)
	for _, s := range steps {
		if err := l.tell(ctx, d, s, to, now); err != nil {
			return err
		}
		perform(changed, s, now)
		l.log.Info().Str("device", d.Name).Str("deed", string(s.Deed)).Str("cause", string(s.Cause)).Strs("told", to).Msg(s.Why)
	}
	return l.registry.Put(ctx, changed)
}

// contacts are those of the device, else those of its owner.
func contacts(reg *registry.Snapshot, d *registry.Device) []string {
	if len(d.Contacts) > 0 {
		return d.Contacts
	}
	if o, ok := reg.Owner(d.Owner); ok {
		return o.Contacts
	}
	return nil
}

// tell stores a notice to the contacts.
func (l *Lifecycle) tell(ctx context.Context, d *registry.Device, s Step, to []string, now time.Time) error {
	env := mail.Envelope{}
	for _, c := range to {
		if a, err := smtp.ParseAddress(c); err == nil {
			env.Recipients = append(env.Recipients, mail.Recipient{Address: smtp.ForwardPath{Address: a}})
		}
	}
	if len(env.Recipients) == 0 {
		l.log.Warn().Str("device", d.Name).Str("cause", string(s.Cause)).Msg("nobody can be told: the device has no contacts, nor has its owner")
		return nil
	}
	id := mail.QueueIDAt(now.Truncate(time.Hour), fmt.Sprintf("notice/%s/%s/%s/%d", d.Name, s.Deed, s.Cause, d.Revision))
	w := l.bus.NewContent(ctx, id)
	defer w.Discard()
	if _, err := w.Write(compose(notice{ID: id, Relay: l.relay, Device: d, Step: s, To: to, At: now})); err != nil {
		return fmt.Errorf("store notice: %w", err)
	}
	_, err := w.Commit(&event.Accepted{
		At: now, Class: mail.ClassReport, Env: env, MessageID: messageID(id, l.relay.Hostname),
		Facts: authz.Facts{Listener: "lifecycle", Report: true, At: now}, Device: d.Name, Owner: d.Owner,
	})
	if err != nil {
		return fmt.Errorf("store notice: %w", err)
	}
	return nil
}

// join adds the contacts of devices that became active to the group of those that
// hear notices (M15, M16).
func (l *Lifecycle) join(ctx context.Context, reg *registry.Snapshot, todo map[*registry.Device][]Step, now time.Time) error {
	var to []string
	for d, steps := range todo {
		if l.group != "" && slices.ContainsFunc(steps, func(s Step) bool { return s.Cause == Activated }) {
			to = append(to, contacts(reg, d)...)
		}
	}
	if len(to) == 0 {
		return nil
	}
	g, ok := reg.Group(l.group)
	if ok {
		var err error
		if g, err = registry.Clone(g); err != nil {
			return err
		}
	} else {
		g = &registry.Group{Name: l.group}
	}
	slices.Sort(to)
	before := len(g.Members)
	for _, c := range to {
		if !slices.ContainsFunc(g.Members, func(m string) bool { return strings.EqualFold(m, c) }) {
			g.Members = append(g.Members, c)
		}
	}
	if len(g.Members) == before {
		return nil
	}
	g.Stamp(registry.Change{By: actor, Reason: "contacts of active devices", At: now})
	err := l.registry.Put(ctx, g)
	if errors.Is(err, store.ErrFromFile) {
		return nil
	}
	return err
}
