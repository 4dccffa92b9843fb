package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/budget"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
)

// turns is a leader that has just begun.
func (r *rig) turns() *turns {
	r.t.Helper()
	w := &turns{Policy: r.Policy, lifetime: config.Defaults().Delivery.Lifetime, lines: map[string]*line{}, drops: map[string]dropped{}}
	var err error
	if w.budgets, err = budget.Open(r.t.Context(), r.bus); err == nil {
		w.holdings, err = r.bus.FollowHoldings(r.t.Context())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

// limited gives the device limits by the hour.
func (r *rig) limited(messages, recipients int) {
	r.reg = known(registry.ScopeAnywhere)
	d, _ := r.reg.Device("prn.campus.test")
	own := *d
	own.Limits.MessagesPerHour, own.Limits.RecipientsPerHour = messages, recipients
	r.reg = r.reg.With(r.reg.Revision+1, []registry.Item{&own}, nil)
}

// over is a message that a limit holds.
func (r *rig) over(to ...string) mail.QueueID {
	r.t.Helper()
	a := accepted(to...)
	a.Facts.Over = []string{"messages_per_hour"}
	_, h := r.hold(a)
	if h.Rule != ruleLimit {
		r.t.Fatalf("held by %s", h.Rule)
	}
	return h.Message.QueueID
}

func (w *turns) look1(t *testing.T, now time.Time) {
	t.Helper()
	if err := w.round(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

// decided are those about whom that was decided.
func (r *rig) decided(verb event.Verb) (ids []mail.QueueID) {
	r.t.Helper()
	err := r.bus.ListDecisions(r.t.Context(), 0, func(d *event.Decision) error {
		if d.Verb == verb && d.Actor == actorPolicy {
			ids = append(ids, d.QueueID)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}

// What a limit holds has its turn, the oldest first, not before its pace, not
// more than the hour allows, and once, whoever leads.
func TestTurns(t *testing.T) {
	r := start(t)
	r.limited(60, 0)
	var want []mail.QueueID
	for range 5 {
		want = append(want, r.over("x@example.test"))
	}
	h, err := r.bus.HeldOf(t.Context(), want[0])
	if err != nil || h.Pace != time.Minute {
		t.Fatalf("pace %v, %v", h.Pace, err)
	}
	now := time.Now()
	w := r.turns()
	w.look1(t, now)
	w.look1(t, now)
	if got := r.decided(event.Release); fmt.Sprint(got) != fmt.Sprint(want[:1]) {
		t.Fatalf("released %v, want %v", got, want[:1])
	}
	w.look1(t, now.Add(30*time.Second))
	if n := len(r.decided(event.Release)); n != 1 {
		t.Fatalf("%d before their time", n)
	}
	w.look1(t, now.Add(2*time.Minute))
	r.turns().look1(t, now.Add(2*time.Minute)) // another leads
	if got := r.decided(event.Release); fmt.Sprint(got) != fmt.Sprint(want[:3]) {
		t.Fatalf("released %v, want %v", got, want[:3])
	}
	r.twice(r.decision(want[0]))
	records, _ := r.records()
	last := records[len(records)-1]
	if events, _ := r.admitted(); last.Outcome != event.Released || last.Actor != "policy" || last.Reason != "its turn" || len(events) != 6 || !events[5].Released.IsZero() {
		t.Errorf("%+v; %d admitted", last, len(events))
	}
}

// decision is what was decided as the worker would hand it over.
func (r *rig) decision(id mail.QueueID) queue.Message {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamHeld)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(r.t.Context(), queue.DecisionSubject(id, ""))
	if err != nil {
		r.t.Fatal(err)
	}
	return queue.Message{Data: m.Data, Subject: m.Subject, Seq: m.Sequence}
}

// The budget is that of ingress: where it took everything, nothing has its turn
// in that hour. A message of more recipients than an hour allows takes an hour.
func TestTurnsKeepTheLimit(t *testing.T) {
	r := start(t)
	r.limited(0, 4)
	ingress, err := budget.Open(t.Context(), r.bus)
	if err != nil {
		t.Fatal(err)
	}
	r.over("a@example.test", "b@example.test")
	r.over("a@example.test", "b@example.test", "c@example.test", "d@example.test", "e@example.test")
	if _, ok, err := ingress.Take(t.Context(), "device/prn.campus.test/recipients", 4, 3); !ok || err != nil {
		t.Fatal(ok, err)
	}
	now := time.Now()
	w := r.turns()
	w.look1(t, now)
	w.look1(t, now.Add(5*time.Second))
	if n := len(r.decided(event.Release)); n != 0 {
		t.Fatalf("%d have their turn over the limit", n)
	}
	r.limited(0, 5)
	w.look1(t, now.Add(2*time.Minute))
	if n := len(r.decided(event.Release)); n != 1 {
		t.Fatalf("%d have their turn with a higher limit", n)
	}
	if due := w.lines["prn.campus.test"].due.Sub(now.Add(2 * time.Minute)); due < 20*time.Minute || due > 24*time.Minute {
		t.Errorf("two of five are an hour's %v", due)
	}
	r.limited(0, 0)
	w.look1(t, now.Add(time.Hour))
	if n := len(r.decided(event.Release)); n != 2 {
		t.Errorf("%d have their turn without a limit", n)
	}
}

// What waits too long goes back, with a report that says so; what people held,
// and what a device sent that is suspended, waits for a person.
func TestTurnsEnd(t *testing.T) {
	r := start(t)
	r.limited(1, 0)
	id := r.over("x@example.test")
	d, _ := r.reg.Device("prn.campus.test")
	own := *d
	own.State = registry.StateSuspended
	active := r.reg
	r.reg = r.reg.With(r.reg.Revision+1, []registry.Item{&own}, nil)
	now := time.Now()
	w := r.turns()
	w.look1(t, now)
	if n := len(r.decided(event.Release)); n != 0 {
		t.Fatal("released although its device is suspended")
	}
	w.look1(t, now.Add(25*time.Hour)) // an alert
	if got := r.decided(event.Expire); len(got) != 1 || got[0] != id {
		t.Fatalf("expired %v", got)
	}
	r.twice(r.decision(id))
	reports, subjects := r.reports()
	if len(reports) != 1 || subjects[0] != "report.expired" || reports[0].Recipients[0].Reply.Status() != "5.4.7" {
		t.Fatalf("%v %+v", subjects, reports)
	}
	records, _ := r.records()
	if last := records[len(records)-1]; last.Outcome != event.Failed || last.Reason != event.ReasonExpired || last.Actor != "policy" {
		t.Errorf("%+v", last)
	}

	r.reg = active
	r.over("y@example.test")
	if err := r.bus.PutHolding(t.Context(), &event.Holding{At: time.Now().Add(time.Second), Rule: event.RuleContain, By: "anna", Device: own.Name}); err != nil {
		t.Fatal(err)
	}
	w = r.turns()
	w.look1(t, now.Add(time.Hour))
	w.look1(t, now.Add(26*time.Hour))
	if r, e := len(r.decided(event.Release)), len(r.decided(event.Expire)); r != 0 || e != 1 {
		t.Errorf("contained, and %d released, %d expired", r, e)
	}
}

// A look at what waits reads only what is new.
func TestTurnsReadOnce(t *testing.T) {
	r := start(t)
	r.limited(1, 0)
	first := r.over("x@example.test")
	w := r.turns()
	w.look1(t, time.Now())
	upTo := w.next
	w.look1(t, time.Now()) // reads what it decided
	if upTo == 0 || w.next != upTo+1 || !strings.Contains(fmt.Sprint(r.decided(event.Release)), string(first)) {
		t.Errorf("read up to %d, then %d", upTo, w.next)
	}
}

// A job that people held comes back as it was, more than once, each time once.
func TestReleaseJob(t *testing.T) {
	r := start(t)
	id := r.ids.Next()
	j := &event.Job{Schema: event.Schema, ID: string(id) + "-1", QueueID: id, Destination: "example.test", Attempt: 3, Class: mail.ClassDefault}
	j.Env.Recipients = []mail.Recipient{{Address: path("x@example.test")}}
	for n := range 2 {
		h := event.HeldJob(j, event.RuleHold, "by anna", time.Now().UTC())
		if err := r.bus.Hold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		d := event.Decision{QueueID: id, Part: h.Part(), Verb: event.Release, Actor: "anna"}
		if err := r.bus.Decide(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		s, _ := r.bus.JS.Stream(t.Context(), queue.StreamHeld)
		m, err := s.GetLastMsgForSubject(t.Context(), queue.DecisionSubject(id, h.Part()))
		if err != nil {
			t.Fatal(err)
		}
		r.twice(queue.Message{Data: m.Data, Seq: m.Sequence})
		var jobs []queue.JobEntry
		r.bus.ListJobs(t.Context(), func(e queue.JobEntry) error { jobs = append(jobs, e); return nil })
		if len(jobs) != n+1 {
			t.Fatalf("%d jobs", len(jobs))
		}
		j = jobs[n].Job
		if j.Attempt != 3 || j.Held != n+1 || j.Released.IsZero() || j.ID != string(id)+"-1" {
			t.Errorf("%+v", j)
		}
		if again := (&event.Holding{At: j.Released, Jobs: []string{j.ID}}); again.Covers(j) {
			t.Error("a holding from before concerns what was released")
		}
	}
}

// An undo that comes between the leader's look and its final word holds, and so
// does a drop after it for as long as it can be undone itself.
func TestUndoAtTheLastMoment(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	for _, verbs := range [][]event.Verb{{event.Undo}, {event.Undo, event.Drop}} {
		r.decide(h, event.Drop, false)
		w := r.turns()
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, verb := range verbs {
			r.decide(h, verb, false)
		}
		if err := w.finalize(t.Context(), time.Now().Add(event.UndoFor+time.Minute)); err != nil {
			t.Fatal(err)
		}
		if e, err := r.bus.HeldOf(t.Context(), h.Message.QueueID); err != nil || e.Decision.Final || e.Decision.Verb != verbs[len(verbs)-1] {
			t.Errorf("after %v: %+v, %v", verbs, e.Decision, err)
		}
	}
}

// Who drops by a clock that is behind has ten minutes, too.
func TestDropByAnotherClock(t *testing.T) {
	r := start(t)
	a := suspect("x@example.test")
	a.At = time.Now().Add(-time.Hour)
	_, h := r.hold(a)
	if err := r.bus.Decide(t.Context(), event.Decision{QueueID: h.Message.QueueID, Verb: event.Drop, At: a.At.Add(time.Minute), Actor: "anna"}); err != nil {
		t.Fatal(err)
	}
	w := r.turns()
	w.look1(t, time.Now().Add(event.UndoFor/2))
	if e, err := r.bus.HeldOf(t.Context(), h.Message.QueueID); err != nil || e.Decision.Final {
		t.Errorf("%+v, %v", e, err)
	}
	w.look1(t, time.Now().Add(event.UndoFor+time.Minute))
	if e, err := r.bus.HeldOf(t.Context(), h.Message.QueueID); err != nil || !e.Decision.Final {
		t.Errorf("%+v, %v", e, err)
	}
}
