package policy

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/timetest"
)

var client = netip.MustParseAddr("10.2.3.4")

// known is a registry with the client as an active device of that scope.
func known(scope registry.Scope) *registry.Snapshot {
	return registry.NewSnapshot(7, registry.Entries{Domains: hosted, Devices: []*registry.Device{{
		Name: "prn.campus.test", Owner: "chem", Addresses: registry.MustAddresses(client.String()),
		Scope: scope, Class: mail.ClassAlert, State: registry.StateActive,
	}}})
}

var (
	hosted   = []*registry.Domain{{Name: "campus.test"}}
	stranger = registry.NewSnapshot(8, registry.Entries{Domains: hosted})
)

func rules() *authz.Rules {
	return new(authz.Rules)
}

func path(address string) smtp.ForwardPath {
	a, err := smtp.ParseAddress(address)
	if err != nil {
		panic(err)
	}
	return smtp.ForwardPath{Address: a}
}

// accepted is a message from the client as ingress describes it.
func accepted(to ...string) *event.Accepted {
	a := &event.Accepted{
		At: time.Now().UTC(), Class: mail.ClassAlert, MessageID: "<1@prn>", SubmissionID: "t-1",
		Facts:  authz.Facts{Listener: "relay", Address: client, NameDoubt: true},
		Quirks: []event.Quirk{{Name: event.QuirkFrom}},
	}
	a.Env.ReversePath = smtp.ReversePath(path("prn@campus.test"))
	a.Facts.ReversePath = a.Env.ReversePath
	for _, rcpt := range to {
		a.Env.Recipients = append(a.Env.Recipients, mail.Recipient{Address: path(rcpt), Original: "as-written"})
	}
	return a
}

// rig is a Policy whose registry a test changes.
type rig struct {
	*Policy
	t   *testing.T
	reg *registry.Snapshot
	ids *mail.QueueIDs
}

func start(t *testing.T) *rig {
	r := &rig{t: t, reg: known(registry.ScopeAnywhere), ids: mail.NewQueueIDs()}
	r.Policy = &Policy{
		bus: queuetest.Start(t), rules: rules(), metrics: newMetrics(prometheus.NewRegistry()),
		registry: func() *registry.Snapshot { return r.reg },
	}
	return r
}

// store puts a message into MAIL and returns it as the worker would.
func (r *rig) store(a *event.Accepted) queue.Message {
	r.t.Helper()
	w := r.bus.NewContent(r.t.Context(), r.ids.Next())
	if _, err := w.Write([]byte("Subject: a\r\n\r\nbody\r\n")); err != nil {
		r.t.Fatal(err)
	}
	ref, err := w.Commit(a)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.bus.JS.Stream(r.t.Context(), ref.Stream)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := s.GetMsg(r.t.Context(), ref.Seq)
	if err != nil {
		r.t.Fatal(err)
	}
	return queue.Message{Data: m.Data, Subject: m.Subject, Seq: m.Sequence}
}

func (r *rig) handle(m queue.Message) {
	r.t.Helper()
	if err := r.Handle(r.t.Context(), m); err != nil {
		r.t.Fatal(err)
	}
}

// all is every message of a stream.
func all[E any, P interface {
	*E
	comparable
}](r *rig, stream string, decode func([]byte) (P, error)) (events []P, subjects []string) {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		e, err := decode(m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		events, subjects = append(events, e), append(subjects, m.Subject)
	}
	return events, subjects
}

func (r *rig) admitted() ([]*event.Admitted, []string) {
	return all(r, queue.StreamAdmitted, event.Decode[event.Admitted])
}

func (r *rig) records() ([]*event.Record, []string) {
	return all(r, queue.StreamLedger, event.Decode[event.Record])
}

func (r *rig) reports() ([]*event.Failure, []string) {
	return all(r, queue.StreamReport, event.Decode[event.Failure])
}

func addresses(rcpts []mail.Recipient) string {
	var out []string
	for _, rcpt := range rcpts {
		out = append(out, rcpt.Address.String())
	}
	return strings.Join(out, " ")
}

// A message is entered in the books and admitted, once, however often it is
// handled.
func TestAdmit(t *testing.T) {
	r := start(t)
	m := r.store(accepted("x@example.test", "anna@campus.test"))
	r.handle(m)
	r.handle(m)
	events, subjects := r.admitted()
	records, topics := r.records()
	reports, _ := r.reports()
	if len(events) != 1 || len(records) != 1 || len(reports) != 0 {
		t.Fatalf("%d admitted, %d records, %d reports", len(events), len(records), len(reports))
	}
	e, shard := events[0], queue.ShardOf(events[0].QueueID)
	if addresses(e.Env.Recipients) != "x@example.test anna@campus.test" || e.Device != "prn.campus.test" || e.Owner != "chem" ||
		e.MessageID != "<1@prn>" || e.SubmissionID != "t-1" || e.Class != mail.ClassAlert || len(e.Refused) != 0 ||
		e.Content != (event.ContentRef{Stream: queue.MailStream(shard), Seq: m.Seq, Size: 20}) || subjects[0] != queue.AdmittedSubject(mail.LaneAlert, shard) {
		t.Errorf("admitted %+v on %s", e, subjects[0])
	}
	rec := records[0]
	if topics[0] != "ledger.policy.accepted" || rec.QueueID != e.QueueID || len(rec.Recipients) != 2 || rec.Recipients[0].Original != "as-written" ||
		rec.Message.Facts.Address != client || rec.Message.Revision != 7 || rec.Message.Verdict.Rule != "registered" ||
		rec.Message.Content != e.Content || rec.Message.Owner != "chem" || len(rec.Message.Quirks) != 1 || !rec.At.Equal(e.AcceptedAt) {
		t.Errorf("record %+v %+v on %s", rec, rec.Message, topics[0])
	}
}

// Recipients that the registry no longer admits come back; the others go out.
func TestPartialRefusal(t *testing.T) {
	r := start(t)
	r.reg = known(registry.ScopeHosted)
	m := r.store(accepted("anna@campus.test", "x@example.test", "y@example.test"))
	r.handle(m)
	r.handle(m)
	events, _ := r.admitted()
	records, topics := r.records()
	reports, subjects := r.reports()
	if len(events) != 1 || addresses(events[0].Env.Recipients) != "anna@campus.test" {
		t.Errorf("admitted %+v", events)
	}
	if strings.Join(topics, " ") != "ledger.policy.accepted ledger.policy.failed" || len(records[0].Recipients) != 3 || len(records[1].Recipients) != 2 ||
		records[1].Reason != "scope" || records[1].Recipients[0].Reply.Code != 550 {
		t.Errorf("records on %v", topics)
	}
	if len(reports) != 1 || subjects[0] != "report.failed" {
		t.Fatalf("reports on %v", subjects)
	}
	f := reports[0]
	if f.Kind != event.KindFailed || len(f.Recipients) != 2 || f.Recipients[1].Address != path("y@example.test") || f.Env.ReversePath.String() != "prn@campus.test" ||
		f.Content != events[0].Content || f.QueueID != events[0].QueueID || f.Report != "" {
		t.Errorf("report %+v", f)
	}
}

// The decision of the first run holds also when no policy ran until the bus had
// forgotten that it was stored: who was admitted then is not refused.
func TestFirstDecisionHoldsForLong(t *testing.T) {
	r := start(t)
	s, err := r.bus.JS.Stream(t.Context(), queue.StreamAdmitted)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	c.Duplicates = 100 * time.Millisecond
	if _, err := r.bus.JS.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	m := r.store(accepted("x@example.test"))
	r.handle(m)
	timetest.Await(t, "the bus to forget", func() bool {
		at, err := r.bus.Publish(t.Context(), queue.AdmittedSubject(mail.LaneNormal, 0), "probe", event.Encode(&event.Admitted{Schema: event.Schema}))
		return err == nil && !at.Duplicate && at.Seq > 2
	})
	before, _ := r.admitted()
	r.reg = stranger
	m.Delivered = 2
	r.handle(m)
	after, _ := r.admitted()
	if reports, _ := r.reports(); len(reports) != 0 || len(after) != len(before) {
		t.Errorf("%d reports, %d decisions more", len(reports), len(after)-len(before))
	}
}

// Nobody is refused by a registry that is older than the one that ingress decided
// by, unless it stays so.
func TestRegistryBehind(t *testing.T) {
	r := start(t)
	a := accepted("x@example.test")
	a.Revision = stranger.Revision + 1
	m := r.store(a)
	r.reg = stranger
	if err := r.Handle(t.Context(), m); err == nil || !strings.Contains(err.Error(), "has not come here yet") {
		t.Errorf("decided behind ingress: %v", err)
	}
	if records, _ := r.records(); len(records) != 0 {
		t.Errorf("%d records", len(records))
	}
	r.reg = registry.NewSnapshot(a.Revision, known(registry.ScopeAnywhere).Entries())
	r.handle(m)
	if events, _ := r.admitted(); len(events) != 1 || len(events[0].Refused) != 0 {
		t.Errorf("%+v", events)
	}
	old := accepted("x@example.test")
	old.Revision, old.At = stranger.Revision+9, time.Now().Add(-2*catchUp)
	n := r.store(old)
	r.reg = stranger
	r.handle(n)
	if reports, _ := r.reports(); len(reports) != 1 {
		t.Errorf("%d reports: it waits for ever", len(reports))
	}
}

// What one run decided holds for the next, whatever changed in between: nobody
// is served and told that he was not.
func TestDecisionHolds(t *testing.T) {
	t.Run("admitted", func(t *testing.T) {
		r := start(t)
		m := r.store(accepted("x@example.test"))
		r.handle(m)
		r.reg = stranger
		r.handle(m)
		events, _ := r.admitted()
		records, _ := r.records()
		reports, _ := r.reports()
		if len(events) != 1 || len(events[0].Env.Recipients) != 1 || len(records) != 1 || len(reports) != 0 {
			t.Errorf("%d admitted, %d records, %d reports", len(events), len(records), len(reports))
		}
	})
	t.Run("refused", func(t *testing.T) {
		r := start(t)
		r.reg = stranger
		m := r.store(accepted("x@example.test"))
		r.handle(m)
		r.reg = known(registry.ScopeAnywhere)
		r.handle(m)
		events, _ := r.admitted()
		reports, _ := r.reports()
		if len(events) != 1 || len(events[0].Env.Recipients) != 0 || len(reports) != 1 {
			t.Errorf("%d admitted, %d reports", len(events), len(reports))
		}
	})
	t.Run("cut off before the report", func(t *testing.T) {
		r := start(t)
		r.reg = known(registry.ScopeHosted)
		m := r.store(accepted("anna@campus.test", "x@example.test"))
		a, _, err := queue.DecodeMail(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		ref := event.ContentRef{Stream: queue.MailStream(queue.ShardOf(a.QueueID)), Seq: m.Seq, Size: a.Size}
		if _, err := r.commit(t.Context(), admitted(a, ref, decide(r.rules, r.reg, a)), m, true); err != nil {
			t.Fatal(err)
		}
		r.reg = known(registry.ScopeAnywhere)
		r.handle(m)
		reports, _ := r.reports()
		if len(reports) != 1 || len(reports[0].Recipients) != 1 || reports[0].Recipients[0].Address != path("x@example.test") {
			t.Errorf("reports %+v", reports)
		}
	})
}

// A decision that needs a name nobody knows waits, but not for ever, and then
// nobody is refused for a doubt.
func TestLater(t *testing.T) {
	r := start(t)
	r.rules.FCrDNS = authz.Enforce
	a := accepted("anna@campus.test", "x@example.test")
	err := r.Handle(t.Context(), r.store(a))
	if err == nil || !strings.HasPrefix(err.Error(), "again in 1m0s") {
		t.Fatalf("got %v, want later", err)
	}
	if records, _ := r.records(); len(records) != 0 {
		t.Errorf("%d records", len(records))
	}
	old := accepted("anna@campus.test", "x@example.test")
	old.At = time.Now().Add(-patience)
	r.handle(r.store(old))
	if events, _ := r.admitted(); len(events) != 1 || addresses(events[0].Env.Recipients) != "anna@campus.test x@example.test" {
		t.Errorf("admitted %+v", events)
	}
}

// Health data is marked by what ingress knew, or the registry knows; a report about
// it is health data, too.
func TestPHI(t *testing.T) {
	marked := func(known, now bool, report mail.QueueID) bool {
		reg := registry.NewSnapshot(7, registry.Entries{Devices: []*registry.Device{{
			Name: "prn.campus.test", Addresses: []registry.Address{{Range: netip.PrefixFrom(client, client.BitLen())}}, State: registry.StateActive, Scope: registry.ScopeAnywhere, PHI: now,
		}}})
		a := accepted("x@example.test")
		a.PHI, a.ReportOf, a.Device = known, report, "prn.campus.test"
		d := decide(&authz.Rules{}, reg, a)
		e, r := admitted(a, event.ContentRef{}, d), acceptedRecord(a, event.ContentRef{}, d)
		if e.PHI != r.Message.PHI || len(e.Env.Recipients) != 1 {
			t.Errorf("admitted %+v, in the books %+v", e, r.Message)
		}
		return e.PHI
	}
	if marked(false, false, "") || !marked(true, false, "") || !marked(false, true, "") || !marked(false, true, "0123456789ABCDEF") {
		t.Error("the mark is lost, or is where it should not be")
	}
}

// Our own reports pass whatever the registry says.
func TestReportPasses(t *testing.T) {
	r := start(t)
	r.reg = stranger
	a := accepted("prn@example.test")
	a.ReportOf, a.Class, a.Env.ReversePath = "0123456789ABCDEF", mail.ClassReport, smtp.ReversePath{}
	r.handle(r.store(a))
	if events, _ := r.admitted(); len(events) != 1 || len(events[0].Env.Recipients) != 1 || events[0].Class != mail.ClassReport || events[0].ReportOf == "" {
		t.Errorf("admitted %+v", events)
	}
}

func TestPoison(t *testing.T) {
	r := start(t)
	for _, data := range []string{"", "abc", "\xff\xff\xff\xff", "content{}\x00\x00\x00\x02", `{"v":99}` + "\x00\x00\x00\x08"} {
		err := r.Handle(t.Context(), queue.Message{Data: []byte(data), Seq: 1})
		if err == nil || !strings.HasPrefix(err.Error(), "unreadable event: ") {
			t.Errorf("%q: got %v", data, err)
		}
	}
}

// As a service: what ingress put into MAIL is admitted, and an unreadable
// message before it neither stops it nor leaves the stream.
func TestRun(t *testing.T) {
	r := start(t)
	for n := range queue.Shards {
		if _, err := r.bus.Publish(t.Context(), queue.MailSubject(mail.LaneNormal, n), "junk", []byte("junk")); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Defaults()
	cfg.Networks.Campus = []netip.Prefix{netip.PrefixFrom(client, 32)}
	cfg.Domains.Hosted = []config.Hosted{{Name: "campus.test"}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	group := service.NewGroup(Service)
	go func() {
		ended <- group.Run(ctx, service.Env{Config: cfg, Bus: r.bus, Log: queuetest.Log(t), Metrics: prometheus.NewRegistry()})
	}()
	select {
	case <-group.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	m := r.store(accepted("anna@campus.test"))
	c, err := r.bus.JS.OrderedConsumer(t.Context(), queue.StreamAdmitted, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Decode[event.Admitted](got.Data())
	if err != nil || e.Content.Seq != m.Seq {
		t.Errorf("admitted %+v, %v", e, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s, err := r.bus.JS.Stream(t.Context(), queue.MailStream(0))
	if err != nil {
		t.Fatal(err)
	}
	if junk, err := s.GetMsg(t.Context(), 1); err != nil || string(junk.Data) != "junk" {
		t.Errorf("the unreadable message is gone: %v", err)
	}
}
