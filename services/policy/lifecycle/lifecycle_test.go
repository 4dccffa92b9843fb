package lifecycle

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

// rig is a registry with a life cycle, and books that say what a test wants.
type rig struct {
	*Lifecycle
	t    *testing.T
	used map[string]books.Use
	why  error // the hindrance
}

func startRig(t *testing.T) *rig {
	t.Helper()
	bus := queuetest.Start(t)
	reg, err := store.Open(t.Context(), bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- reg.Follow(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	cfg := config.Defaults()
	cfg.Relay.Hostname, cfg.Relay.HelpURL, cfg.Lifecycle.NoticeGroup = "relay.campus.test", "https://help.campus.test", "updates"
	r := &rig{t: t, used: map[string]books.Use{}}
	r.Lifecycle = New(&service.Env{Config: cfg, Bus: bus, Log: queuetest.Log(t), Instance: "test"}, reg)
	r.hindered = func(why error) { r.why = why }
	r.uses = func(_ context.Context, each func(books.Use) error) error {
		for _, u := range r.used {
			if err := each(u); err != nil {
				return err
			}
		}
		return nil
	}
	return r
}

func (r *rig) register(n int, contacts ...string) {
	r.t.Helper()
	d := &registry.Device{
		Name: fmt.Sprintf("prn-%d.campus.test", n), Owner: "chem", Contacts: contacts, State: registry.StateActive, Scope: registry.ScopeAnywhere,
		Addresses: []registry.Address{{Range: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 1, byte(n)}), 32)}},
	}
	d.Dates.Activated = start
	d.Stamp(registry.Change{By: "tester", Reason: "test", At: start})
	if err := r.registry.Put(r.t.Context(), d); err != nil {
		r.t.Fatal(err)
	}
	r.await("it is registered", func() bool { _, ok := r.registry.Snapshot().Device(d.Name); return ok })
}

func (r *rig) await(what string, good func() bool) {
	r.t.Helper()
	timetest.Await(r.t, what, good)
}

// roundAt makes a round at a time after start, and waits until the snapshot has what
// it did.
func (r *rig) roundAt(after time.Duration) {
	r.t.Helper()
	before := r.last()
	if err := r.Round(r.t.Context(), start.Add(after)); err != nil {
		r.t.Fatal(err)
	}
	if now := r.last(); now != before {
		r.await("the snapshot follows", func() bool { return r.registry.Snapshot().Revision >= now })
	}
}

// last is the last sequence of the bucket.
func (r *rig) last() uint64 {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), "KV_"+queue.BucketRegistry)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

func (r *rig) device(n int) *registry.Device {
	d, _ := r.registry.Snapshot().Device(fmt.Sprintf("prn-%d.campus.test", n))
	return d
}

// notices are the subjects of what was stored in MAIL, with the recipients.
func (r *rig) notices() (out []string) {
	r.t.Helper()
	for n := range queue.Shards {
		s, err := r.bus.JS.Stream(r.t.Context(), queue.MailStream(n))
		if err != nil {
			r.t.Fatal(err)
		}
		for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
			data, err := r.bus.Read(r.t.Context(), queue.MailStream(n), seq)
			if err != nil {
				continue
			}
			a, _, err := queue.DecodeMail(data)
			if err != nil {
				r.t.Fatal(err)
			}
			if !a.Facts.Report || !a.Env.ReversePath.IsNull() {
				r.t.Errorf("%+v is no message of our own", a)
			}
			out = append(out, r.subject(a, queue.MailStream(n), seq))
		}
	}
	return out
}

func (r *rig) subject(a *event.Accepted, stream string, seq uint64) string {
	content, err := r.bus.Open(r.t.Context(), a.QueueID, a.Ref(stream, seq))
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := io.ReadAll(content)
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(strings.ReplaceAll(string(text), "\r\n", ""), "\n") || !strings.Contains(string(text), "https://help.campus.test") {
		r.t.Errorf("%q", text)
	}
	_, rest, _ := strings.Cut(string(text), "\r\nSubject: ")
	subject, _, _ := strings.Cut(rest, "\r\n")
	var to []string
	for _, rcpt := range a.Env.Recipients {
		to = append(to, rcpt.Address.String())
	}
	return strings.Join(to, " ") + ": " + subject
}

func TestRounds(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.register(1, "anna@campus.test", "bert@campus.test")
	r.register(2, "anna@campus.test")
	r.roundAt(0)
	if got := r.notices(); len(got) != 2 {
		t.Errorf("notices %q", got)
	}
	g, ok := r.registry.Snapshot().Group("updates")
	if !ok || strings.Join(g.Members, " ") != "anna@campus.test bert@campus.test" || g.By != actor {
		t.Errorf("group %+v", g)
	}
	before := r.last()
	r.roundAt(time.Minute)
	if got := r.notices(); len(got) != 2 || r.last() != before {
		t.Errorf("a second round does something again: %q", got)
	}

	back := func(n int, at ...time.Duration) {
		u := books.Use{Device: fmt.Sprintf("prn-%d.campus.test", n), Last: start}
		for _, a := range at {
			u.Undeliverable = append(u.Undeliverable, start.Add(a))
		}
		r.used[u.Device] = u
	}
	back(1, time.Hour)
	r.roundAt(2 * time.Hour)
	if got := r.notices(); len(got) != 3 || r.device(1).State != registry.StateActive {
		t.Errorf("after one report that came back: %q", got)
	}
	back(1, time.Hour, 3*time.Hour, 4*time.Hour, 5*time.Hour)
	r.roundAt(6 * time.Hour)
	if d := r.device(1); d.State != registry.StateSuspended || d.Suspension == nil || !d.Suspension.NeedsTicket || d.By != actor || d.Reason == "" {
		t.Errorf("after three more: %+v", d)
	}
	if r.device(2).State != registry.StateActive || r.why != nil {
		t.Errorf("others: %+v, %v", r.device(2), r.why)
	}
}

// When many devices would be suspended at once, something else is broken.
func TestBrake(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	for n := range 6 {
		r.register(n, "it@campus.test")
	}
	r.roundAt(0)
	all := func(at ...time.Duration) {
		for n := range 6 {
			u := books.Use{Device: fmt.Sprintf("prn-%d.campus.test", n), Last: start}
			for _, a := range at {
				u.Undeliverable = append(u.Undeliverable, start.Add(a))
			}
			r.used[u.Device] = u
		}
	}
	all(time.Hour)
	r.roundAt(2 * time.Hour)
	all(3*time.Hour, 3*time.Hour, 4*time.Hour)
	r.roundAt(5 * time.Hour)
	for n := range 6 {
		if d := r.device(n); d.State != registry.StateActive {
			t.Errorf("%s is %s", d.Name, d.State)
		}
	}
	if r.why == nil || !strings.Contains(r.why.Error(), "6 devices would be suspended") {
		t.Errorf("alarm: %v", r.why)
	}
	delete(r.used, "prn-5.campus.test")
	r.roundAt(6 * time.Hour)
	for n := range 5 {
		if d := r.device(n); d.State != registry.StateSuspended {
			t.Errorf("%s is %s", d.Name, d.State)
		}
	}
	if r.why != nil {
		t.Errorf("the alarm stays: %v", r.why)
	}
}

// Contacts of a device that is refused all the time hear of it, with samples and
// help; when very many devices are, nobody does.
func TestProblemNotice(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.export = func(_ context.Context, f books.Filter, each func(books.Row) error) error {
		at := start.Add(time.Hour)
		return each(books.Row{QueueID: "F", Sender: "prn@campus.test", Recipient: "x@example.org", State: "bounced", Diagnostic: "550 no such user", SettledAt: &at})
	}
	r.register(1, "anna@campus.test")
	r.register(2, "bert@campus.test")
	r.roundAt(0)
	for range 2 {
		refusal := event.Refusal{Schema: event.Schema, Ref: "R7K2-9QF3", At: start.Add(time.Hour), Stage: "rcpt", Rule: "fcrdns", Count: 10}
		refusal.Facts.Address = netip.MustParseAddr("10.1.1.1")
		if _, err := r.bus.JS.Publish(t.Context(), queue.RefusedSubject("rcpt"), event.Encode(&refusal)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		r.roundAt(2 * time.Hour)
	}
	got := r.notices()
	if len(got) != 3 || !slices.Contains(got, "anna@campus.test: prn-1.campus.test: mail from it has a problem") {
		t.Errorf("%q", got)
	}
	lines, err := r.describe(t.Context(), r.device(1), start.Add(2*time.Hour))
	text := strings.Join(lines, "\n")
	for _, want := range []string{"20 attempts to send were refused, and 1 message was not delivered", "(R7K2-9QF3)", "10 times in that minute", "x@example.org, bounced: 550 no such user (F)"} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("no %q in %s (%v)", want, text, err)
		}
	}

	todo := map[*registry.Device][]Step{}
	for range problemsMost + 1 {
		todo[&registry.Device{}] = []Step{{Deed: Tell, Cause: Problem}, {Deed: Tell, Cause: Expiry}}
	}
	if err := brakeProblems(todo); err == nil || !strings.Contains(err.Error(), "101 devices") {
		t.Errorf("%v", err)
	}
	for _, steps := range todo {
		if len(steps) != 1 || steps[0].Cause != Expiry {
			t.Errorf("%+v", steps)
		}
	}
}

// Without the books nothing is decided, and nobody is told anything.
func TestBooksDown(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.register(1, "anna@campus.test")
	r.uses = func(context.Context, func(books.Use) error) error { return books.ErrUnreachable }
	before := r.last()
	if err := r.Round(t.Context(), start.Add(time.Hour)); err == nil {
		t.Error("no error")
	}
	if got := r.notices(); len(got) != 0 || r.last() != before {
		t.Errorf("notices %q", got)
	}
}
