package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

const keepLedger = 400 * 24 * time.Hour

// recoveryRig is recovery without the loop around it.
type recoveryRig struct {
	script
	*recovery
	ids  *mail.QueueIDs
	stop func()
}

func newRecoveryRig(t *testing.T, bus *queue.Bus, dir string) *recoveryRig {
	t.Helper()
	for n := range queue.Shards {
		consumer(t, bus, queue.MailStream(n), policyDurable, "")
	}
	for _, lane := range admittedLanes {
		consumer(t, bus, queue.StreamAdmitted, signerDurable+string(lane), "admitted."+string(lane)+".*")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &Ledger{
		bus: bus, log: queuetest.Log(t), dir: dir, instance: "test", position: newPosition(), metrics: newMetrics(prometheus.NewRegistry()),
		ensure: func(ctx context.Context) error { return queue.Ensure(ctx, bus.JS, 1, keepLedger) },
	}
	if err := errors.Join(l.open(ctx), l.compare(ctx)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.keep(ctx) }()
	r := &recoveryRig{script: script{t, bus}, ids: mail.NewQueueIDs(), recovery: &recovery{Ledger: l, one: make(chan struct{}, 1)}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.index.close()
	}
	t.Cleanup(r.stop)
	return r
}

// consumer is a durable that has acknowledged everything there is.
func consumer(t testing.TB, bus *queue.Bus, stream, durable, filter string) {
	t.Helper()
	var last uint64
	s, err := bus.JS.Stream(t.Context(), stream)
	if err == nil {
		m, none := s.GetLastMsgForSubject(t.Context(), cmp.Or(filter, ">"))
		if none == nil {
			last = m.Sequence
		}
	}
	c, failed := bus.JS.CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: durable, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy})
	for err = errors.Join(err, failed); err == nil && c.CachedInfo().AckFloor.Stream < last; {
		var m jetstream.Msg
		if m, err = c.Next(); err == nil {
			err = m.DoubleAck(t.Context())
		}
		if err == nil {
			_, err = c.Info(t.Context())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// store stores a message in MAIL, and has policy let go of it.
func (r *recoveryRig) store(rcpts ...string) *letterbox {
	r.t.Helper()
	m := &letterbox{id: r.ids.Next(), rcpts: rcpts}
	m.ref = r.mail(string(m.id), rcpts...)
	consumer(r.t, r.script.bus, m.ref.Stream, policyDurable, "")
	return m
}

// accept stores a message and has policy enter it in the books.
func (r *recoveryRig) accept(rcpts ...string) *letterbox {
	r.t.Helper()
	m := r.store(rcpts...)
	r.record(with(accepted(string(m.id), rcpts...), func(e *event.Record) { e.Message.Content = m.ref }))
	return m
}

// letterbox is a message that a test has stored.
type letterbox struct {
	id    mail.QueueID
	ref   event.ContentRef
	rcpts []string
}

// failed records that a message failed, as delivery does, and returns what
// delivery then asks bounce for.
func (r *recoveryRig) failed(m *letterbox, reason string) *event.Failure {
	r.t.Helper()
	rec := with(outcome(event.Failed, string(m.id), 2, said(m.rcpts[0], 550, "unknown")), func(e *event.Record) { e.Reason, e.Drive = reason, 1 })
	r.record(rec)
	f := &event.Failure{
		Schema: event.Schema, Kind: event.KindFailed, ID: event.AttemptID(rec.Job, 2, 1), QueueID: m.id, AcceptedAt: noon, At: rec.At,
		Env:       mail.Envelope{ReversePath: accepted("", m.rcpts...).Message.ReversePath, Recipients: envelope(m.rcpts[0]).Recipients},
		MessageID: "<" + string(m.id) + "@campus.test>", Content: event.ContentRef{Stream: m.ref.Stream, Seq: m.ref.Seq, Size: 1000},
		Recipients: rec.Recipients, Device: "prn-1", Owner: "chem",
	}
	if reason != "" {
		f.Kind = event.KindExpired
	}
	return f
}

// recover looks as the leader does.
func (r *recoveryRig) recover() {
	r.t.Helper()
	if err := r.look(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// planned is the plan as it is asked for.
func (r *recoveryRig) planned() *books.Plan {
	r.t.Helper()
	_, plan, err := r.plan(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}

// confirm carries the plan out that was read.
func (r *recoveryRig) confirm(plan *books.Plan) {
	r.t.Helper()
	p, now, err := r.plan(r.t.Context())
	if err == nil && now.ID != plan.ID {
		r.t.Fatalf("plan changed from %s to %s", plan.ID, now.ID)
	}
	if err == nil {
		err = r.carryOut(r.t.Context(), p, "ann", func(int, int) {})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// messages are what a stream holds.
func (r *recoveryRig) messages(stream string) (out [][]byte) {
	r.t.Helper()
	err := r.script.bus.List(r.t.Context(), stream, "", 0, func(m *jetstream.RawStreamMsg) error {
		out = append(out, m.Data)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// admittedEvents are the events of ADMITTED.
func (r *recoveryRig) admittedEvents() (out []*event.Admitted) {
	r.t.Helper()
	for _, data := range r.messages(queue.StreamAdmitted) {
		e, err := event.Decode[event.Admitted](data)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func addresses(e mail.Envelope) (out []string) {
	for _, rcpt := range e.Recipients {
		out = append(out, rcpt.Address.String())
	}
	return out
}

// rollBack makes LEDGER anew with the first records that it had.
func (r *recoveryRig) rollBack(keep int) {
	r.t.Helper()
	js := r.script.bus.JS
	records := r.messages(queue.StreamLedger)
	if err := js.DeleteStream(r.t.Context(), queue.StreamLedger); err != nil {
		r.t.Fatal(err)
	}
	if err := queue.Ensure(r.t.Context(), js, 1, keepLedger); err != nil {
		r.t.Fatal(err)
	}
	for _, data := range records[:keep] {
		records, err := event.DecodeRecords(data)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, rec := range records {
			r.record(*rec)
		}
	}
}

// states are the states of the recipients of a message, by address.
func (r *recoveryRig) states(id mail.QueueID) map[string]string {
	r.t.Helper()
	if _, err := r.caughtUp(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.index.rows(r.t.Context(), "SELECT "+messageColumns+", "+recipientColumns+" FROM recipients r CROSS JOIN messages m ON m.id = r.message WHERE m.queue_id = ?", []any{string(id)})
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range rows {
		out[p.address] = books.States[p.state]
	}
	return out
}

// TestDrive: what is in no stream and has no end is driven again, for all who
// wait, under the next number; what is somewhere is not.
func TestDrive(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	m := r.accept("a@example.org", "b@example.org", "c@example.com", "d@example.com")
	r.record(outcome(event.Delivered, string(m.id), 1, to("a@example.org")))
	r.job(string(m.id), time.Hour, "c@example.com", "d@example.com")
	there := r.accept("x@example.org")
	r.job(string(there.id), 0, "x@example.org")
	arriving := r.mail(string(r.ids.Next()), "y@example.org")

	r.recover()
	r.recover() // ADMITTED has it now
	got := r.admittedEvents()
	if len(got) != 1 {
		t.Fatalf("%d messages were driven, want 1", len(got))
	}
	want := []string{"b@example.org", "c@example.com", "d@example.com"}
	e := got[0]
	if e.QueueID != m.id || e.Drive != 1 || !slices.Equal(addresses(e.Env), want) || e.Content != (event.ContentRef{Stream: m.ref.Stream, Seq: m.ref.Seq, Size: m.ref.Size}) ||
		e.Owner != "chem" || e.Device != "prn-1" || e.Class != mail.ClassScan {
		t.Errorf("driven %+v", e)
	}
	if arriving.Seq == 0 {
		t.Error("nothing arrives")
	}

	// Lost once more, it has the next number.
	consumer(t, bus, queue.StreamAdmitted, signerDurable+"normal", "admitted.normal.*")
	r.recover()
	if got := r.admittedEvents(); len(got) != 2 || got[1].Drive != 2 {
		t.Errorf("driven again %+v", got)
	}
	last, err := r.ledgerInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends, err := r.ends(t.Context(), books.EndsQuestion{QueueID: m.id, AtLeast: last.State.LastSeq})
	if err != nil || !ends.Known || ends.Drive != 2 || !reflect.DeepEqual(ends.Ends, map[string]string{"a@example.org": "delivered"}) {
		t.Errorf("ends %+v, %v", ends, err)
	}
}

// TestDriveTwice: the same step done twice is one drive.
func TestDriveTwice(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	lost, failed := r.accept("a@example.org"), r.accept("b@example.org")
	f := r.failed(failed, "")
	s, err := r.newSurvey(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	d := &driver{survey: s, actor: "ann", round: "1"}
	for range 2 {
		err := s.each(t.Context(), func(f *fact) error {
			for _, s := range decide(f) {
				if err := d.do(t.Context(), f, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := r.admittedEvents(); len(got) != 1 || got[0].QueueID != lost.id {
		t.Errorf("driven %+v", got)
	}
	if got := r.messages(queue.StreamReport); len(got) != 1 || string(got[0]) != string(event.Encode(f)) {
		t.Errorf("asked for %s\nwant %s", got, event.Encode(f))
	}
}

// TestReportAgain: bounce is asked again as delivery had asked, for what failed
// and what expired; where the report is in the books or in MAIL, only the
// record is written that says so.
func TestReportAgain(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	failed, expired, written, waiting := r.accept("a@example.org"), r.accept("b@example.org"), r.accept("c@example.org"), r.accept("d@example.org")
	want := map[mail.QueueID]string{
		failed.id: string(event.Encode(r.failed(failed, ""))), expired.id: string(event.Encode(r.failed(expired, event.ReasonExpired))),
	}
	r.record(accepted(string(r.failed(written, event.ReasonExpired).ReportID()), "prn@campus.test"))
	underway := r.accept("e@example.org")
	f := r.failed(underway, "")
	if err := r.publish(queue.ReportSubject(f.Kind), event.Encode(f)); err != nil {
		t.Fatal(err)
	}
	// Last, so that policy has not taken it.
	r.mail(string(r.failed(waiting, "").ReportID()), "prn@campus.test")
	for range 2 {
		r.recover()
	}
	asked := r.messages(queue.StreamReport)
	if len(asked) != 3 {
		t.Fatalf("bounce was asked %d times, want 3 with the one under way", len(asked))
	}
	for _, data := range asked[1:] {
		f, err := event.Decode[event.Failure](data)
		if err != nil || string(data) != want[f.QueueID] {
			t.Errorf("asked %s\nwant  %s", data, want[f.QueueID])
		}
	}
	if got := r.states(written.id)["c@example.org"]; got != string(event.Expired) {
		t.Errorf("the recipient whose report is written is %s", got)
	}
	if got := r.states(waiting.id)["d@example.org"]; got != string(event.Bounced) {
		t.Errorf("the recipient whose report is in MAIL is %s", got)
	}
}

// TestGone: without its content a message is not driven, and that is said.
func TestGone(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	m := r.accept("a@example.org")
	s, err := bus.JS.Stream(t.Context(), m.ref.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), m.ref.Seq); err != nil {
		t.Fatal(err)
	}
	r.recover()
	plan := r.planned()
	gone := plan.Of(books.ActionGone)
	if plan.ID != "" || gone.Recipients != 1 || gone.Examples[0].QueueID != m.id || gone.Examples[0].Reason == "" || len(r.admittedEvents()) != 0 {
		t.Errorf("plan %s", asJSON(t, plan))
	}
	st, err := r.status(t.Context(), struct{}{})
	if err != nil || st.Recovery.Gone != 1 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestKept: a content that was moved to KEEP is driven.
func TestKept(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	m := r.accept("a@example.org")
	if err := bus.Keep(t.Context(), m.id, m.ref.Stream, m.ref.Seq); err != nil {
		t.Fatal(err)
	}
	s, err := bus.JS.Stream(t.Context(), m.ref.Stream)
	if err == nil {
		err = s.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	r.recover()
	if got := r.admittedEvents(); len(got) != 1 || got[0].QueueID != m.id {
		t.Errorf("driven %+v", got)
	}
}

// TestHeld: more than 100 messages wait for a person; what was not planned
// then is not driven with them.
func TestHeld(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	for n := range books.MaxUnconfirmed + 1 {
		r.accept(fmt.Sprintf("u%d@example.org", n))
	}
	r.recover()
	plan := r.planned()
	if plan.Held == "" || plan.Of(books.ActionDrive).Messages != books.MaxUnconfirmed+1 || len(r.admittedEvents()) != 0 || !r.held() {
		t.Fatalf("plan %s, %d driven", asJSON(t, plan), len(r.admittedEvents()))
	}
	st, err := r.status(t.Context(), struct{}{})
	if err != nil || st.Recovery.Plan != plan.ID {
		t.Errorf("status %+v, %v", st, err)
	}
	p, _, err := r.plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := r.accept("late@example.org")
	if err := r.carryOut(t.Context(), p, "ann", func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.admittedEvents() {
		if e.QueueID == late.id {
			t.Error("what nobody confirmed was driven")
		}
	}
	if n := len(r.admittedEvents()); n != books.MaxUnconfirmed+1 || r.held() {
		t.Errorf("%d were driven, held %v", n, r.held())
	}
}

// TestRolledBack: LEDGER is made anew with fewer records. Nothing moves before
// a person has confirmed; then the books know again what they knew.
func TestRolledBack(t *testing.T) {
	bus, dir := queuetest.Start(t), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	before := r.accept("a@example.org", "b@example.org")
	kept := len(r.messages(queue.StreamLedger))
	r.record(outcome(event.Delivered, string(before.id), 1, said("a@example.org", 250, "ok")))
	after := r.accept("c@example.org", "d@example.org")
	r.record(outcome(event.Delivered, string(after.id), 1, said("c@example.org", 250, "ok")))
	r.job(string(before.id), time.Hour, "b@example.org")
	purged := r.accept("e@example.org")
	if _, err := r.caughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bus.MarkLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := bus.JS.Stream(t.Context(), purged.ref.Stream)
	if err == nil {
		err = s.DeleteMsg(t.Context(), purged.ref.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.rollBack(kept)

	r = newRecoveryRig(t, bus, dir)
	if err := bus.CheckLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Fatalf("LEDGER was checked: %v", err)
	}
	r.recover()
	if n := len(r.admittedEvents()); n != 0 {
		t.Fatalf("%d were driven unasked", n)
	}
	plan := r.planned()
	for action, want := range map[books.Action]int{
		books.ActionEnter: 2, books.ActionSettle: 2, books.ActionDrive: 1, books.ActionGone: 1, books.ActionResume: 1, books.ActionReport: 0,
	} {
		if got := plan.Of(action).Recipients; got != want {
			t.Errorf("%s %d recipients, want %d: %s", action, got, want, asJSON(t, plan))
		}
	}
	if len(plan.Evidence) != 1 || plan.Evidence[0].Problem != "" || plan.RolledBack == "" {
		t.Errorf("evidence %+v", plan.Evidence)
	}
	r.confirm(plan)
	if err := bus.CheckLedger(t.Context()); err != nil {
		t.Errorf("LEDGER after it was confirmed: %v", err)
	}
	if got := r.admittedEvents(); len(got) != 1 || got[0].QueueID != after.id || !slices.Equal(addresses(got[0].Env), []string{"d@example.org"}) {
		t.Errorf("driven %+v", got)
	}
	if got := r.states(after.id); got["c@example.org"] != "delivered" || got["d@example.org"] != "queued" {
		t.Errorf("states %v", got)
	}
	if got := r.states(before.id); got["a@example.org"] != "delivered" || got["b@example.org"] != "queued" {
		t.Errorf("states %v", got)
	}
	b, err := r.balance(t.Context(), books.BalanceQuestion{Wait: time.Nanosecond})
	if err != nil || !b.Balances() {
		t.Errorf("balance %s, %v", asJSON(t, b), err)
	}
	if plan := r.planned(); plan.ID != "" {
		t.Errorf("a plan is left: %s", asJSON(t, plan))
	}
	files, _ := filepath.Glob(filepath.Join(dir, "ledger-*.db"))
	if len(files) != 1 {
		t.Errorf("evidence %v", files)
	}
}

// TestRolledBackAlone: without an earlier index, and without a mark that was
// restored with it, the plan says what would be sent again.
func TestRolledBackAlone(t *testing.T) {
	bus, dir := queuetest.Start(t), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	m, waiting := r.accept("a@example.org"), r.accept("b@example.org")
	r.record(outcome(event.Delivered, string(m.id), 1, said("a@example.org", 250, "ok")))
	r.job(string(waiting.id), time.Hour, "b@example.org")
	if err := bus.MarkLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	os.Remove(filepath.Join(dir, "ledger.db"))
	r.rollBack(2)
	r = newRecoveryRig(t, bus, dir)
	plan := r.planned()
	if plan.Held == "" || plan.Of(books.ActionDrive).Recipients != 1 || plan.Of(books.ActionDrive).Examples[0].QueueID != m.id ||
		plan.Of(books.ActionResume).Recipients != 1 || len(plan.Evidence) != 0 {
		t.Errorf("plan %s", asJSON(t, plan))
	}
}

// TestAccused: the index alone knows that LEDGER was rolled back, since the
// mark was with it; an index that slept through it does not accuse again.
func TestAccused(t *testing.T) {
	bus, dir, other := queuetest.Start(t), t.TempDir(), t.TempDir()
	r := newRecoveryRig(t, bus, dir)
	sleeper := newRecoveryRig(t, bus, other)
	r.accept("a@example.org")
	for _, x := range []*recoveryRig{r, sleeper} {
		if _, err := x.caughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.stop()
	}
	r.rollBack(0)
	if err := bus.MarkLedger(t.Context()); err != nil { // the first mark there is
		t.Fatal(err)
	}
	r = newRecoveryRig(t, bus, dir)
	if err := bus.CheckLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Fatalf("nobody was told: %v", err)
	}
	r.confirm(r.planned())
	newRecoveryRig(t, bus, other)
	if err := bus.CheckLedger(t.Context()); err != nil {
		t.Errorf("after it was confirmed: %v", err)
	}
}

// TestStreamsReplaced: a stream that is deleted while services run comes back.
func TestStreamsReplaced(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	for _, want := range []bool{false, true, false} {
		if want {
			if err := bus.JS.DeleteStream(t.Context(), queue.StreamReport); err != nil {
				t.Fatal(err)
			}
		}
		again, err := r.tend(t.Context())
		if err != nil || again != want {
			t.Errorf("replaced %v, %v, want %v", again, err, want)
		}
	}
	if _, err := bus.JS.Stream(t.Context(), queue.StreamReport); err != nil {
		t.Error(err)
	}
}

// TestRecoverQuestion: who leads answers; a plan that has changed is not
// carried out.
func TestRecoverQuestion(t *testing.T) {
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	for n := range books.MaxUnconfirmed + 1 {
		r.accept(fmt.Sprintf("u%d@example.org", n))
	}
	r.stop()
	start(t, bus, t.TempDir())
	ask := func(q books.RecoverQuestion) (plan *books.Plan, told int, err error) {
		for { // until one leads
			plan, err = books.Client(bus).Recover(t.Context(), q, func(int, int) { told++ })
			if !errors.Is(err, books.ErrUnreachable) && !errors.Is(err, books.ErrBehind) {
				return plan, told, err
			}
		}
	}
	plan, _, err := ask(books.RecoverQuestion{})
	if err != nil || plan.ID == "" || plan.Done {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if _, _, err := ask(books.RecoverQuestion{Confirm: "other"}); !errors.Is(err, books.ErrPlanChanged) {
		t.Errorf("another plan: %v", err)
	}
	if n := len(r.admittedEvents()); n != 0 {
		t.Fatalf("%d were driven", n)
	}
	done, told, err := ask(books.RecoverQuestion{Confirm: plan.ID, Actor: "ann"})
	if err != nil || !done.Done || told == 0 || len(r.admittedEvents()) != books.MaxUnconfirmed+1 {
		t.Errorf("confirmed %+v, told %d times, %v", done, told, err)
	}
	if plan, _, err = ask(books.RecoverQuestion{}); err != nil || plan.ID != "" {
		t.Errorf("afterwards %+v, %v", plan, err)
	}
}
