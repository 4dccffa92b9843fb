package ledger

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// TestDrive: what is in no stream and has no end is driven again, for all who
// wait, under the next number; what is somewhere is not.
func TestDrive(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

// TestStreamsReplaced: a stream that is deleted while services run comes back.
func TestStreamsReplaced(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
