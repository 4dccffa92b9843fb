package bounce

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
)

func path(local, domain string) smtp.ForwardPath {
	return smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: domain}}
}

type rig struct {
	*Bouncer
	t *testing.T
}

func start(t *testing.T) *rig {
	return &rig{&Bouncer{
		bus: queuetest.Start(t), hostname: "relay.campus.test", helpURL: "https://relay.campus.test", metrics: newMetrics(prometheus.NewRegistry()),
	}, t}
}

const original = "From: <prn@campus.test>\r\nSubject: scan\r\nMessage-ID: <1@prn>\r\n\r\nSecret page.\r\n"

// failure stores an original and is the event about recipients it did not
// reach.
func (r *rig) failure(kind event.FailureKind, content string, to ...smtp.ForwardPath) *event.Failure {
	r.t.Helper()
	f := &event.Failure{
		Schema: event.Schema, Kind: kind, QueueID: mail.NewQueueIDs().Next(), AcceptedAt: time.Now().Add(-time.Hour).UTC(), At: time.Now().UTC(),
		Device: "prn.campus.test", Owner: "chem",
	}
	f.ID = string(f.QueueID) + "-0/1"
	f.Env.ReversePath.Address = path("prn", "campus.test").Address
	for _, rcpt := range to {
		f.Env.Recipients = append(f.Env.Recipients, mail.Recipient{Address: rcpt})
		f.Recipients = append(f.Recipients, event.RecipientRecord{
			Address: rcpt, Reply: smtp.Reply{Code: 550, Enhanced: "1.1", Text: "No such user"}, RemoteMTA: "mx.test [192.0.2.1]",
		})
	}
	w := r.bus.NewContent(r.t.Context(), f.QueueID)
	if _, err := w.Write([]byte(content)); err != nil {
		r.t.Fatal(err)
	}
	var err error
	if f.Content, err = w.Commit(&event.Accepted{Env: f.Env}); err != nil {
		r.t.Fatal(err)
	}
	return f
}

func (r *rig) handle(f *event.Failure) {
	r.t.Helper()
	if err := r.Handle(r.t.Context(), queue.Message{Data: event.Encode(f), Seq: 1}); err != nil {
		r.t.Fatal(err)
	}
}

type stored struct {
	*event.Accepted
	content string
}

// reports is every report in MAIL.
func (r *rig) reports() (found []stored) {
	r.t.Helper()
	for n := range queue.Shards {
		s, err := r.bus.JS.Stream(r.t.Context(), queue.MailStream(n))
		if err != nil {
			r.t.Fatal(err)
		}
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			data, err := r.bus.Read(r.t.Context(), queue.MailStream(n), seq)
			if err != nil {
				r.t.Fatal(err)
			}
			a, _, err := queue.DecodeMail(data)
			if err != nil {
				r.t.Fatal(err)
			}
			_, content, err := r.bus.Content(r.t.Context(), a.QueueID, a.Ref(queue.MailStream(n), seq))
			if err != nil {
				r.t.Fatal(err)
			}
			text, err := io.ReadAll(content)
			if err != nil {
				r.t.Fatal(err)
			}
			if a.ReportOf != "" {
				found = append(found, stored{a, string(text)})
			}
		}
	}
	return found
}

func (r *rig) records() (records []*event.Record) {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamLedger)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		all, err := event.DecodeRecords(m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		records = append(records, all...)
	}
	return records
}

// A failure makes one report, which takes the road of any message, and one
// terminal record that names it; handled twice, it makes no second one.
func TestReport(t *testing.T) {
	r := start(t)
	f := r.failure(event.KindFailed, original, path("x", "example.test"), path("y", "example.test"))
	r.handle(f)
	r.handle(f)
	reports, records := r.reports(), r.records()
	if len(reports) != 1 || len(records) != 1 {
		t.Fatalf("%d reports, %d records", len(reports), len(records))
	}
	m, rec := reports[0], records[0]
	if !m.Env.ReversePath.IsNull() || len(m.Env.Recipients) != 1 || m.Env.Recipients[0].Address != path("prn", "campus.test") ||
		m.ReportOf != f.QueueID || m.Class != mail.ClassReport || m.Device != "prn.campus.test" || m.Owner != "chem" || !m.Facts.Report ||
		m.MessageID != "<"+string(m.QueueID)+"@relay.campus.test>" {
		t.Errorf("event %+v", m.Accepted)
	}
	for _, want := range []string{
		"\r\nAuto-Submitted: auto-replied\r\n", "\r\nTo: prn@campus.test\r\n", "\r\nReferences: <1@prn>\r\n", "\r\nSubject: scan\r\n",
		"\r\nFinal-Recipient: rfc822; x@example.test\r\n", "\r\nFinal-Recipient: rfc822; y@example.test\r\n", "\r\nStatus: 5.1.1\r\n",
	} {
		if !strings.Contains(m.content, want) {
			t.Errorf("no %q in\n%s", want, m.content)
		}
	}
	if strings.Contains(m.content, "Secret page") {
		t.Error("the report has the body of the original")
	}
	if rec.Stage != event.StageBounce || rec.Outcome != event.Bounced || rec.QueueID != f.QueueID || rec.Report != m.QueueID || rec.Reason != "" ||
		rec.Job != f.ID || len(rec.Recipients) != 2 {
		t.Errorf("record %+v", rec)
	}
}

// Nobody is told about a report, nor about a message that asks for none: the
// books say why.
func TestNoReport(t *testing.T) {
	for name, change := range map[string]func(*event.Failure){
		"null reverse-path":       func(f *event.Failure) { f.Env.ReversePath = smtp.ReversePath{} },
		"the message is a report": func(f *event.Failure) { f.Report = "0123456789ABCDEF" },
	} {
		r := start(t)
		f := r.failure(event.KindFailed, original, path("x", "example.test"))
		change(f)
		r.handle(f)
		r.handle(f)
		records := r.records()
		if len(r.reports()) != 0 || len(records) != 1 || records[0].Outcome != event.Bounced || records[0].Report != "" || records[0].Reason != name {
			t.Errorf("%s: %d reports, records %+v", name, len(r.reports()), records)
		}
	}
}

// One attempt may fail for some recipients and be the last one for others:
// each kind has its report.
func TestKindsOfOneAttempt(t *testing.T) {
	r := start(t)
	failed := r.failure(event.KindFailed, original, path("x", "example.test"))
	expired := *failed
	expired.Kind = event.KindExpired
	expired.Recipients = []event.RecipientRecord{{Address: path("y", "example.test"), Reply: smtp.ReplyNoConnection}}
	r.handle(failed)
	r.handle(&expired)
	reports, records := r.reports(), r.records()
	if len(reports) != 2 || reports[0].QueueID == reports[1].QueueID {
		t.Fatalf("%d reports", len(reports))
	}
	if len(records) != 2 || records[0].Outcome != event.Bounced || records[1].Outcome != event.Expired || records[0].Report == records[1].Report {
		t.Errorf("records %+v", records)
	}
	found := false
	for _, m := range reports {
		found = found || m.QueueID == records[1].Report && strings.Contains(m.content, "\r\nStatus: 5.4.7\r\n") && strings.Contains(m.content, "Delivery time expired")
	}
	if !found {
		t.Error("no report of the expiry")
	}
}

// A content that is gone is reported about without it.
func TestContentGone(t *testing.T) {
	r := start(t)
	f := r.failure(event.KindFailed, original, path("x", "example.test"))
	f.Content.Seq = 4711
	r.handle(f)
	reports := r.reports()
	if len(reports) != 1 || strings.Contains(reports[0].content, "text/rfc822-headers") || !strings.Contains(reports[0].content, "x@example.test") {
		t.Errorf("reports %+v", reports)
	}
}

// A store that does not answer delays: no record says that a report was sent.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	server := queuetest.Server(t, t.TempDir())
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 0); err != nil {
		t.Fatal(err)
	}
	r := &rig{&Bouncer{bus: bus, hostname: "relay.campus.test", metrics: newMetrics(prometheus.NewRegistry())}, t}
	f := r.failure(event.KindFailed, original, path("x", "example.test"))
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.Handle(ctx, queue.Message{Data: event.Encode(f)}); err == nil {
		t.Error("settled without a store")
	}
}

// Every recipient of a large message is in its report, whatever the
// destination said of each, and a large original is not read to its end.
func TestManyRecipients(t *testing.T) {
	r := start(t)
	var to []smtp.ForwardPath
	for i := range 1000 {
		to = append(to, path(fmt.Sprintf("user%d", i), "example.test"))
	}
	f := r.failure(event.KindFailed, original+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 3000), to...)
	for i := range f.Recipients {
		f.Recipients[i].Reply.Text = strings.Repeat("very sorry ", 90)
	}
	r.handle(f)
	reports := r.reports()
	if len(reports) != 1 || strings.Count(reports[0].content, "\r\nFinal-Recipient: ") != 1000 || !strings.Contains(reports[0].content, "\r\nSubject: scan\r\n") {
		t.Errorf("%d reports", len(reports))
	}
	if records := r.records(); len(records) != 1 || len(records[0].Recipients) != 1000 {
		t.Errorf("%d records", len(records))
	}
}

func TestPoison(t *testing.T) {
	r := start(t)
	for _, data := range []string{"", "junk", "{}", `{"v":99}`} {
		err := r.Handle(t.Context(), queue.Message{Data: []byte(data)})
		if err == nil || !strings.HasPrefix(err.Error(), "unreadable event: ") {
			t.Errorf("%q: got %v", data, err)
		}
	}
}

// As a service: the failure leaves REPORT only after its record is stored.
func TestRun(t *testing.T) {
	r := start(t)
	f := r.failure(event.KindFailed, original, path("x", "example.test"))
	if _, err := r.bus.Publish(t.Context(), queue.ReportSubject(f.Kind), f.ID, event.Encode(f)); err != nil {
		t.Fatal(err)
	}
	settled, err := r.bus.NC.SubscribeSync("ledger.bounce.bounced")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		env := service.Env{Config: config.Defaults(), Bus: r.bus, Log: queuetest.Log(t), Metrics: prometheus.NewRegistry()}
		ended <- service.NewGroup(Service).Run(ctx, env)
	}()
	if _, err := settled.NextMsg(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(r.reports()) != 1 || len(r.records()) != 1 {
		t.Errorf("%d reports, %d records", len(r.reports()), len(r.records()))
	}
	left, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for msgs := uint64(1); msgs > 0; { // the acknowledgement is on its way
		s, err := r.bus.JS.Stream(left, queue.StreamReport)
		if err != nil {
			t.Fatal(err)
		}
		msgs = s.CachedInfo().State.Msgs
	}
}
