package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
)

// suspect is a message that content scanning wants held.
func suspect(to ...string) *event.Accepted {
	a := accepted(to...)
	a.Facts.Scan, a.Facts.Scanner = "hold", "rspamd: GTUBE"
	return a
}

// hold has a message held, and returns how it lies in HELD.
func (r *rig) hold(a *event.Accepted) (queue.Message, *queue.HeldEntry) {
	r.t.Helper()
	m := r.store(a)
	r.handle(m)
	b, _, err := queue.DecodeMail(m.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := r.bus.HeldOf(r.t.Context(), b.QueueID)
	if err != nil {
		r.t.Fatal(err)
	}
	return m, h
}

// decide decides about a held message, and returns the decision as the worker
// would hand it over.
func (r *rig) decide(h *queue.HeldEntry, verb event.Verb, final bool) queue.Message {
	r.t.Helper()
	id := h.Message.QueueID
	if err := r.bus.Decide(r.t.Context(), event.Decision{QueueID: id, Verb: verb, Actor: "anna", Reason: "ticket 7", Final: final}); err != nil {
		r.t.Fatal(err)
	}
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

// twice carries a decision out two times.
func (r *rig) twice(m queue.Message) {
	r.t.Helper()
	for range 2 {
		if err := r.HandleDecision(r.t.Context(), m); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) stillHeld(h *queue.HeldEntry) bool {
	r.t.Helper()
	_, err := r.bus.HeldOf(r.t.Context(), h.Message.QueueID)
	if err != nil && !errors.Is(err, queue.ErrNotHeld) {
		r.t.Fatal(err)
	}
	return err == nil
}

// outcomes are the subjects of LEDGER in order.
func (r *rig) outcomes() string {
	_, topics := r.records()
	return strings.ReplaceAll(strings.Join(topics, " "), "ledger.", "")
}

// What is to be held is admitted to nobody, stands in the books with its reason,
// and is held once, however often it is handled.
func TestHold(t *testing.T) {
	r := start(t)
	m, h := r.hold(suspect("x@example.test", "anna@campus.test"))
	r.handle(m)
	if h.Rule != "content" || !strings.Contains(h.Reason, "GTUBE") || addresses(h.Message.Env.Recipients) != "x@example.test anna@campus.test" ||
		h.Message.First != 2 || h.Message.Device != "prn.campus.test" || h.Message.Content.Seq != m.Seq {
		t.Errorf("held %+v", h)
	}
	events, _ := r.admitted()
	if len(events) != 1 || len(events[0].Env.Recipients) != 0 {
		t.Errorf("admitted %+v", events)
	}
	if got := r.outcomes(); got != "policy.accepted policy.held" {
		t.Errorf("records %s", got)
	}
	records, _ := r.records()
	if last := records[1]; len(last.Recipients) != 2 || !strings.HasPrefix(last.Reason, "content: ") || records[0].Message.Verdict.Outcome != "hold" || records[0].Message.Facts.Scanner != "rspamd: GTUBE" {
		t.Errorf("record %+v", last)
	}
}

// Those who are refused get their report, the others wait.
func TestHoldSome(t *testing.T) {
	r := start(t)
	r.reg = known(registry.ScopeHosted)
	_, h := r.hold(suspect("x@example.test", "anna@campus.test"))
	if addresses(h.Message.Env.Recipients) != "anna@campus.test" || len(h.Message.Refused) != 0 {
		t.Errorf("held %+v", h)
	}
	if reports, _ := r.reports(); len(reports) != 1 || reports[0].Recipients[0].Address != path("x@example.test") {
		t.Errorf("reports %+v", reports)
	}
}

func TestRelease(t *testing.T) {
	r := start(t)
	m, h := r.hold(suspect("x@example.test"))
	r.twice(r.decide(h, event.Release, false))
	if r.stillHeld(h) {
		t.Error("it is still held")
	}
	events, _ := r.admitted()
	if len(events) != 2 || addresses(events[1].Env.Recipients) != "x@example.test" || events[1].Rule != "released" || events[1].First != 1 || events[1].Class != mail.ClassAlert || events[1].Hold != nil {
		t.Errorf("admitted %+v", events)
	}
	records, _ := r.records()
	if last := records[len(records)-1]; r.outcomes() != "policy.accepted policy.held operator.released" || last.Actor != "anna" || last.Reason != "ticket 7" || !last.At.After(h.At) {
		t.Errorf("%s, last %+v", r.outcomes(), last)
	}
	// MAIL comes again, from a run that was killed before it acknowledged.
	m.Delivered = 2
	r.handle(m)
	if events, _ := r.admitted(); len(events) != 2 || r.stillHeld(h) {
		t.Errorf("%d admitted, held %v", len(events), r.stillHeld(h))
	}
}

// A release that was cut short is carried out to its end.
func TestReleaseCutShort(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	m := r.decide(h, event.Release, false)
	d, err := event.Decode[event.Decision](m.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.release(t.Context(), h, d); err != nil {
		t.Fatal(err)
	}
	if !r.stillHeld(h) {
		t.Fatal("it is held by nobody")
	}
	r.twice(m)
	if events, _ := r.admitted(); len(events) != 2 || r.stillHeld(h) || r.outcomes() != "policy.accepted policy.held operator.released" {
		t.Errorf("%d admitted; %s", len(events), r.outcomes())
	}
}

// A drop waits for the time in which it can be undone, and then is one.
func TestDrop(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	first := r.decide(h, event.Drop, false)
	r.twice(first)
	if !r.stillHeld(h) || r.outcomes() != "policy.accepted policy.held" {
		t.Fatalf("dropped at once: %s", r.outcomes())
	}
	r.twice(r.decide(h, event.Undo, false))
	r.twice(first) // late
	if !r.stillHeld(h) {
		t.Fatal("dropped although that was undone")
	}
	r.decide(h, event.Drop, false)
	w := r.turns()
	if err := w.round(t.Context(), time.Now().Add(event.UndoFor/2)); err != nil {
		t.Fatal(err)
	}
	if e, err := r.bus.HeldOf(t.Context(), h.Message.QueueID); err != nil || e.Decision.Final {
		t.Fatalf("final too early: %+v, %v", e, err)
	}
	if err := w.round(t.Context(), time.Now().Add(event.UndoFor+time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := r.bus.Decide(t.Context(), event.Decision{QueueID: h.Message.QueueID, Verb: event.Undo, Actor: "anna"}); !errors.Is(err, queue.ErrDecided) {
		t.Errorf("undo of a final drop: %v", err)
	}
	r.twice(r.decide(h, event.Drop, true))
	records, _ := r.records()
	if last := records[len(records)-1]; r.stillHeld(h) || r.outcomes() != "policy.accepted policy.held operator.removed" || last.Actor != "anna" || last.Reason != "ticket 7" {
		t.Errorf("%s, held %v", r.outcomes(), r.stillHeld(h))
	}
	if events, _ := r.admitted(); len(events) != 1 {
		t.Errorf("admitted %+v", events)
	}
}

func TestBounce(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	r.twice(r.decide(h, event.Bounce, false))
	reports, subjects := r.reports()
	if len(reports) != 1 || subjects[0] != "report.failed" || reports[0].Recipients[0].Reply.Code != 550 || reports[0].Content != h.Message.Content ||
		strings.Contains(reports[0].Recipients[0].Reply.Text, "ticket") || r.stillHeld(h) {
		t.Errorf("reports %+v", reports)
	}
	if got := r.outcomes(); got != "policy.accepted policy.held operator.failed" {
		t.Errorf("records %s", got)
	}
}

// Of several who decide, one does.
func TestDecideOnce(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	id := h.Message.QueueID
	r.decide(h, event.Release, false)
	r.decide(h, event.Release, false) // the same again is no error
	for _, d := range []event.Decision{{Verb: event.Drop, Actor: "anna"}, {Verb: event.Bounce, Actor: "bert"}, {Verb: event.Undo, Actor: "anna"}, {Verb: event.Release, Actor: "bert"}} {
		d.QueueID = id
		if err := r.bus.Decide(t.Context(), d); !errors.Is(err, queue.ErrDecided) {
			t.Errorf("%s by %s: %v", d.Verb, d.Actor, err)
		}
	}
	if err := r.bus.Decide(t.Context(), event.Decision{QueueID: r.ids.Next(), Verb: event.Release}); !errors.Is(err, queue.ErrNotHeld) {
		t.Errorf("about what is not held: %v", err)
	}
}

// What no scanner has looked into is not let go when patience ends: it is held.
func TestUnscannedIsHeld(t *testing.T) {
	r := start(t)
	a := accepted("x@example.test")
	a.Facts.Scan, a.Facts.Scanner, a.At = "later", "rspamd: no answer", time.Now().Add(-patience)
	_, h := r.hold(a)
	if h.Rule != "content" || !strings.Contains(h.Reason, "no answer") {
		t.Errorf("held %+v", h)
	}
}

// A decision that the bus shows to the worker before it shows it to who asks is
// carried out later: acknowledged, it would block every other for a week.
func TestDecisionNotSeenYet(t *testing.T) {
	r := start(t)
	_, h := r.hold(suspect("x@example.test"))
	d := event.Decision{Schema: event.Schema, QueueID: h.Message.QueueID, Verb: event.Release, At: time.Now(), Actor: "anna"}
	m := queue.Message{Data: event.Encode(&d), Subject: queue.DecisionSubject(d.QueueID, ""), Seq: h.Seq + 1}
	if err := r.HandleDecision(t.Context(), m); err == nil {
		t.Error("acknowledged, and not carried out")
	}
	r.twice(r.decide(h, event.Release, false))
	if r.stillHeld(h) {
		t.Error("it is still held")
	}
}

// A job with health data that is sent back asks for a report that is health data
// (W13).
func TestBounceOfAHeldJobWithPHI(t *testing.T) {
	r := start(t)
	j := &event.Job{Schema: event.Schema, ID: "Q-0", QueueID: "Q", PHI: true, Destination: "example.test", AcceptedAt: time.Now(),
		Env: mail.Envelope{ReversePath: accepted().Env.ReversePath, Recipients: accepted("x@example.test").Env.Recipients}}
	held := event.HeldJob(j, event.RuleHold, "", time.Now())
	if err := r.bus.Hold(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	d := event.Decision{QueueID: "Q", Part: held.Part(), Verb: event.Bounce, Actor: "anna"}
	if err := r.bus.Decide(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	h, err := r.bus.HeldPart(t.Context(), "Q", held.Part())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.HandleDecision(t.Context(), queue.Message{Data: event.Encode(h.Decision), Seq: h.DecidedSeq}); err != nil {
		t.Fatal(err)
	}
	if reports, _ := r.reports(); len(reports) != 1 || !reports[0].PHI {
		t.Errorf("reports %+v", reports)
	}
}
