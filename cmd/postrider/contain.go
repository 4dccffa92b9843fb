package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

func newContain(f *flags) *cobra.Command {
	var reason, ticket, since string
	c := withOutput(f, answers, &cobra.Command{
		Use:   "contain DEVICE|ADDRESS|CREDENTIAL",
		Short: "Stop a sender at once, and see what it has sent",
		Long: `Stop a sender at once: a device is suspended, an address blocked, a credential
suspended. Then hold what of it is queued: it is not tried until somebody decides,
with queue release, bounce or drop, also when the sender may send again. And say,
by the books, what that is and what went out. A name
that is both a device and a credential is written device:NAME or credential:NAME.

  postrider contain prn-3.chem.campus.test --reason "sends phishing" --since 7d`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return errNeedsReason
			}
			from, err := pointInTime(since)
			if err != nil {
				return usage("--since %s: %w", since, err)
			}
			cfg, bus, err := connect(cmd.Context(), f)
			if err != nil {
				return err
			}
			defer bus.Close()
			s, err := store.Open(cmd.Context(), bus, cfg.FileEntries())
			if err != nil {
				return err
			}
			snapshot, err := s.Load(cmd.Context())
			if err != nil {
				return err
			}
			target, err := findSender(snapshot, args[0])
			if err != nil {
				return err
			}
			change := registry.Change{By: actor(), Reason: reason, Ticket: ticket, At: time.Now().UTC()}
			stops := target.stops(snapshot, change)
			report := newContainment(target, from, snapshot, len(stops))
			if len(stops) == 0 {
				return &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s has neither addresses nor credentials to stop; take it out of the configuration file", target)}
			}
			// Held before it is stopped, and after: policy would refuse what it has
			// not decided about when it sees that the sender is stopped.
			if err := bus.PutHolding(cmd.Context(), report.holding(target, change)); err != nil {
				return err
			}
			if err := report.stop(cmd.Context(), s, stops, change); err != nil {
				return err
			}
			left, err := report.hold(cmd.Context(), bus, report.holding(target, change))
			if err == nil {
				err = report.ask(cmd.Context(), bus, target)
			}
			tellLeft(cmd, left)
			if f.output == "json" {
				err = errors.Join(err, printJSON(cmd.OutOrStdout(), report))
			} else {
				err = errors.Join(err, report.print(cmd.OutOrStdout(), err == nil))
			}
			if err != nil {
				return &service.Exit{Code: service.ExitPartly, Err: fmt.Errorf("%s is stopped; what it sent before is not all held, or not known; do it again: %w", target, err)}
			}
			return nil
		},
	})
	c.Flags().StringVar(&since, "since", "24h", "what went out since: a time, a date, or an age")
	recordFlags(c, &reason, &ticket)
	return c
}

// suspect is one of a device, an address and a credential.
type suspect struct {
	device     *registry.Device
	address    netip.Prefix
	credential *registry.Credential
}

func (t *suspect) String() string {
	switch {
	case t.device != nil:
		return t.device.String()
	case t.credential != nil:
		return t.credential.String()
	}
	return "address " + registry.Address{Range: t.address}.String()
}

// findSender is what a person means by a word.
func findSender(snapshot *registry.Snapshot, word string) (*suspect, error) {
	if p, err := registry.ParseRange(word); err == nil {
		return &suspect{address: p}, nil
	}
	name, onlyDevice := strings.CutPrefix(word, "device:")
	name, onlyCredential := strings.CutPrefix(name, "credential:")
	d, isDevice := snapshot.Device(deviceName(name))
	c, isCredential := snapshot.Credential(name)
	isDevice, isCredential = isDevice && !onlyCredential, isCredential && !onlyDevice
	switch {
	case isDevice && isCredential:
		return nil, usage("%s is a device and a credential; say which: device:%s or credential:%s", name, name, name)
	case isDevice && !d.State.Holds():
		return nil, &service.Exit{Code: service.ExitConflict, Err: fmt.Errorf("%s is %s: it sends nothing; contain the address that does", d.Name, d.State)}
	case isDevice:
		return &suspect{device: d}, nil
	case isCredential:
		return &suspect{credential: c}, nil
	}
	return nil, &service.Exit{Code: service.ExitNotFound, Err: fmt.Errorf("%s is neither an address, nor a device, nor a credential; a sender is stopped with: postrider block add USER@DOMAIN", word)}
}

// stops are the entries that stop it. A device of the configuration file cannot
// be suspended by command: its addresses are blocked, its credentials suspended.
func (t *suspect) stops(snapshot *registry.Snapshot, change registry.Change) []registry.Item {
	block := func(p netip.Prefix) registry.Item {
		return &registry.Block{Subject: registry.Address{Range: p}.String()}
	}
	switch d := t.device; {
	case t.credential != nil:
		return []registry.Item{halted(t.credential)}
	case d == nil:
		return []registry.Item{block(t.address)}
	case d.Origin != registry.OriginFile:
		own := *d
		own.State = registry.StateSuspended
		own.Suspension = &registry.Suspension{Cause: "abuse", At: change.At, NeedsTicket: true}
		return []registry.Item{&own}
	}
	var out []registry.Item
	for _, a := range t.device.Addresses {
		out = append(out, block(a.Range))
	}
	for _, c := range snapshot.Entries().Credentials {
		if c.Device == t.device.Name {
			out = append(out, halted(c))
		}
	}
	return out
}

// open are the active devices that an address or a credential stands for, and
// that have another address or credential.
func (t *suspect) open(snapshot *registry.Snapshot) (names []string) {
	if t.device != nil {
		return nil
	}
	entries := snapshot.Entries()
	logsIn := map[string]bool{}
	for _, c := range entries.Credentials {
		if !c.Suspended && (t.credential == nil || c.Name != t.credential.Name) {
			logsIn[c.Device] = true
		}
	}
	for _, d := range entries.Devices {
		mine, others := t.credential != nil && t.credential.Device == d.Name, logsIn[d.Name]
		for _, a := range d.Addresses {
			stopped := t.credential == nil && a.Range.Bits() >= t.address.Bits() && t.address.Overlaps(a.Range)
			mine, others = mine || stopped, others || !stopped
		}
		if d.State == registry.StateActive && mine && others {
			names = append(names, d.Name)
		}
	}
	return names
}

func halted(c *registry.Credential) registry.Item {
	own := *c
	own.Suspended = true
	return &own
}

// containment is what was done and found.
type containment struct {
	Sender  string   `json:"sender"`
	Stopped []string `json:"stopped"`
	// Open are active devices that sent by what was stopped and have other ways.
	Open  []string  `json:"open,omitempty"`
	Since time.Time `json:"since"`
	// revision is that of the registry from which on it is stopped.
	revision uint64
	// Queued are the recipients that are not settled, whenever accepted; Sent
	// those that went out since.
	Queued []books.Row `json:"queued"`
	Sent   []books.Row `json:"sent"`
}

// newContainment is one that stops a sender by so many changes: what ingress
// admits before it knows of the last is of before, and held, too.
func newContainment(t *suspect, since time.Time, snapshot *registry.Snapshot, changes int) *containment {
	return &containment{Sender: t.String(), Since: since, Open: t.open(snapshot), revision: snapshot.Revision + uint64(changes)}
}

// stop stores the entries that stop a sender. One that is stopped already is.
func (r *containment) stop(ctx context.Context, s *store.Store, entries []registry.Item, change registry.Change) error {
	for i, item := range entries {
		item.Audit().Stamp(change)
		err := s.Put(ctx, item)
		if errors.Is(err, store.ErrDuplicate) { // a block that is there may have ended
			err = r.again(ctx, s, item)
		}
		if err != nil {
			return partly(i, len(entries), storeError(err))
		}
		r.Stopped = append(r.Stopped, item.String())
		r.revision = max(r.revision, item.Audit().Revision)
	}
	return nil
}

func (r *containment) again(ctx context.Context, s *store.Store, item registry.Item) error {
	old := there(s.Snapshot(), item)
	if old == nil {
		return fmt.Errorf("%s: %w", item, store.ErrConflict)
	}
	item.Audit().Revision = old.Audit().Revision
	return s.Put(ctx, item)
}

// holding is about what a sender sent until now.
func (r *containment) holding(t *suspect, change registry.Change) *event.Holding {
	h := &event.Holding{At: time.Now().UTC(), Rule: event.RuleContain, By: change.By, Reason: change.Reason, Revision: r.revision}
	switch {
	case t.device != nil:
		h.Device = t.device.Name
	case t.credential != nil:
		h.Credential = t.credential.Name
	default:
		h.Address = t.address
	}
	return h
}

// hold holds what the sender had sent, wherever it is, and says how much of that
// delivery has not come to yet.
func (r *containment) hold(ctx context.Context, bus *queue.Bus, h *event.Holding) (left int, err error) {
	if err := bus.PutHolding(ctx, h); err != nil {
		return 0, err
	}
	left, err = bringIn(ctx, bus, h, func(e queue.JobEntry) bool { return h.Covers(e.Job) })
	if err != nil {
		err = fmt.Errorf("hold what is queued: %w", err)
	}
	return left, err
}

// ask finds the mail of a sender in the books.
func (r *containment) ask(ctx context.Context, bus *queue.Bus, t *suspect) error {
	r.Queued, r.Sent = []books.Row{}, []books.Row{}
	filter := books.Filter{}
	var own map[mail.QueueID]bool
	if t.device != nil {
		filter.Device = t.device.Name
	} else {
		var err error
		if own, err = messagesOf(ctx, bus, t, r.Since); err != nil {
			return err
		}
	}
	err := books.Client(bus).Export(ctx, filter, func(row books.Row) error {
		switch {
		case own != nil && !own[row.QueueID]:
		case row.State == books.StateQueued:
			r.Queued = append(r.Queued, row)
		case row.State == string(event.Delivered) && row.SettledAt != nil && row.SettledAt.After(r.Since):
			r.Sent = append(r.Sent, row)
		}
		return nil
	})
	return bookError(err)
}

// queuedFor is how far back mail that is still queued is looked for: no lifetime
// is longer by default than a third of it.
const queuedFor = 15 * 24 * time.Hour

// messagesOf are the messages that came from an address, or with a credential:
// LEDGER has the facts of each.
func messagesOf(ctx context.Context, bus *queue.Bus, t *suspect, since time.Time) (map[mail.QueueID]bool, error) {
	if limit := time.Now().Add(-queuedFor); since.After(limit) {
		since = limit
	}
	consumer, err := bus.JS.OrderedConsumer(ctx, queue.StreamLedger, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{queue.LedgerSubject(event.StagePolicy, event.Entered)},
		DeliverPolicy:  jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	own := map[mail.QueueID]bool{}
	for left := info.NumPending + info.Delivered.Consumer; left > 0; left-- {
		m, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		records, _ := event.DecodeRecords(m.Data()) // one that cannot be read is nil
		for _, r := range records {
			if r != nil && r.Message != nil && t.sent(r.Message.Facts) {
				own[r.QueueID] = true
			}
		}
	}
	return own, nil
}

// sent reports that a message came from an address, or with a credential.
func (t *suspect) sent(f authz.Facts) bool {
	if t.credential != nil {
		return f.Identity == t.credential.Name
	}
	return t.address.Contains(f.Address.Unmap())
}

// shownRecipients is how many rows a person wants to read.
const shownRecipients = 20

func (r *containment) print(out io.Writer, known bool) error {
	w := &strings.Builder{}
	for _, s := range r.Stopped {
		if address, isBlock := strings.CutPrefix(s, "block of "); isBlock {
			fmt.Fprintf(w, "+ %s is blocked\n", visible(address))
			continue
		}
		fmt.Fprintf(w, "+ %s is stopped\n", visible(s))
	}
	for _, name := range r.Open {
		fmt.Fprintf(w, "! %s is not: it may send by other addresses or credentials. To stop all of it: postrider contain %s\n", name, name)
	}
	if known {
		printMail(w, "are queued, and held: postrider queue ls state:held", r.Queued)
		printMail(w, "went out since "+r.Since.Local().Format(time.DateTime), r.Sent)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func printMail(w io.Writer, what string, rows []books.Row) {
	var messages []mail.QueueID
	for _, r := range rows {
		messages = append(messages, r.QueueID)
	}
	slices.Sort(messages)
	fmt.Fprintf(w, "\n%d recipients of %d messages %s\n", len(rows), len(slices.Compact(messages)), what)
	for i, r := range rows {
		if i == shownRecipients {
			fmt.Fprintf(w, "  and %d more (-o json)\n", len(rows)-i)
			break
		}
		fmt.Fprintf(w, "  %s  %s  %s\n", r.QueueID, visible(sender(r.Sender)), visible(r.Recipient))
	}
}
