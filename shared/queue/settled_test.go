package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/timetest"
)

func recordOf(id mail.QueueID, stage event.Stage, outcome event.Outcome, local string) event.Record {
	to := smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: "x.test"}}
	return event.Record{Stage: stage, Outcome: outcome, QueueID: id, Job: string(id) + "-0", Attempt: 1, Recipients: []event.RecipientRecord{{Address: to}}}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := queuetest.Server(t, dir)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	ids := mail.NewQueueIDs()
	early, late := ids.Next(), ids.Next()
	write := func(r event.Record) {
		t.Helper()
		if err := bus.Record(t.Context(), r.Recipients[0].Address.Local, r); err != nil {
			t.Fatal(err)
		}
	}
	write(recordOf(early, event.StagePolicy, event.Entered, "a"))
	write(recordOf(early, event.StageDelivery, event.Delivered, "a"))
	write(recordOf(early, event.StageDelivery, event.Delayed, "b"))
	write(recordOf(early, event.StageDelivery, event.Failed, "c"))
	write(recordOf(early, event.StageDelivery, event.Failed, "d"))
	write(recordOf(early, event.StageBounce, event.Bounced, "d"))

	write(event.Record{Stage: event.StageLedger, Outcome: event.Driven, QueueID: early, Drive: 2, Recipients: []event.RecipientRecord{{Address: rcpt("e")}}})

	s, stop := follow(t, bus)
	defer stop()
	wait, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Wait(wait); err != nil {
		t.Fatal(err)
	}
	of := func(id mail.QueueID, drive int) *queue.Ends {
		t.Helper()
		ends, err := s.Of(wait, &event.Job{QueueID: id, ID: string(id) + "-0", Drive: drive})
		if err != nil {
			t.Fatal(err)
		}
		return ends
	}
	ends := of(early, 0)
	for local, want := range map[string]event.Outcome{"a": event.Delivered, "b": "", "c": event.Failed, "d": event.Bounced, "e": ""} {
		if got := ends.Outcomes[rcpt(local)]; got != want {
			t.Errorf("%s is %q, want %q", local, got, want)
		}
	}
	if len(ends.Failed) != 2 {
		t.Errorf("%d failures", len(ends.Failed))
	}
	for local, want := range map[string][3]bool{"a": {true, true, true}, "b": {}, "c": {true, true, true}, "e": {true, true, false}} {
		for drive := range want {
			if got := of(early, drive).Settled(rcpt(local), drive); got != want[drive] {
				t.Errorf("%s under drive %d: %v", local, drive, got)
			}
		}
	}
	if !s.Covers(time.Now().Add(-72 * time.Hour)) {
		t.Error("all there is was read, and something is not covered")
	}
	// What is written later is known when it was caught up with.
	if of(late, 0) != nil {
		t.Error("a message without an end has one")
	}
	write(recordOf(late, event.StageDelivery, event.Delivered, "z"))
	write(recordOf(late, event.StageDelivery, event.Delayed, "y")) // none of those that count
	if err := s.CatchUp(wait); err != nil {
		t.Fatal(err)
	}
	if got := of(late, 0); got == nil || got.Outcomes[rcpt("z")] != event.Delivered {
		t.Errorf("got %+v", got)
	}
}

// After a reconnect nobody is sure until LEDGER was read on; what was known
// before still is.
func TestSettledAfterAReconnect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := queuetest.Server(t, dir)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	ids := mail.NewQueueIDs()
	before := ids.Next()
	if err := bus.Record(t.Context(), "", recordOf(before, event.StageDelivery, event.Delivered, "a")); err != nil {
		t.Fatal(err)
	}
	s, stop := follow(t, bus)
	defer stop()
	wait, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := s.CatchUp(wait); err != nil {
		t.Fatal(err)
	}
	if err := bus.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	for s.CatchUp(wait) != nil { // there is no bus for a moment
		if wait.Err() != nil {
			t.Fatal(wait.Err())
		}
	}
	if bus.NC.Stats().Reconnects == 0 {
		t.Error("sure before it was connected again")
	}
	after := ids.Next()
	if err := bus.Record(t.Context(), "", recordOf(after, event.StageDelivery, event.Delivered, "b")); err != nil {
		t.Fatal(err)
	}
	if err := s.CatchUp(wait); err != nil {
		t.Fatal(err)
	}
	for _, id := range []mail.QueueID{before, after} {
		ends, err := s.Of(wait, &event.Job{QueueID: id, ID: string(id) + "-0"})
		if err != nil || ends == nil {
			t.Errorf("%s: %+v %v", id, ends, err)
		}
	}
}

// A consumer that lives and gives nothing is given up. A paused one stands for
// it.
func TestSettledOfASilentConsumer(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := bus.NewSettled()
	s.Check = 200 * time.Millisecond
	go s.Follow(t.Context())
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	ledger, err := bus.JS.Stream(t.Context(), queue.StreamLedger)
	if err != nil {
		t.Fatal(err)
	}
	for name := range ledger.ConsumerNames(t.Context()).Name() {
		if _, err := bus.JS.PauseConsumer(t.Context(), queue.StreamLedger, name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	id := mail.NewQueueIDs().Next()
	if err := bus.Record(t.Context(), "", recordOf(id, event.StageDelivery, event.Delivered, "a")); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the record is known", func() bool {
		ends, err := s.Of(t.Context(), &event.Job{QueueID: id, ID: string(id) + "-0"})
		return err == nil && ends != nil
	})
}

// follow follows LEDGER until stop.
func follow(t *testing.T, bus *queue.Bus) (s *queue.Settled, stop func()) {
	t.Helper()
	s = bus.NewSettled()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx) }()
	return s, func() {
		cancel()
		<-done
	}
}

func rcpt(local string) smtp.ForwardPath {
	return smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: "x.test"}}
}

// An empty ledger is read to its end at once.
func TestSettledOfAnEmptyLedger(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := bus.NewSettled()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx) }()
	if err := s.Wait(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}

// What was recorded before CatchUp was asked is known after it, each time: a
// consumer of LEDGER hears of a record a moment after its writer has the
// acknowledgement.
func TestCatchUpIsSure(t *testing.T) {
	t.Parallel()
	server := queuetest.Server(t, t.TempDir())
	bus, other := queuetest.Connect(t, server), queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	s, stop := follow(t, bus)
	defer stop()
	ids := mail.NewQueueIDs()
	for n := range 2000 {
		id := ids.Next()
		if err := other.Record(t.Context(), "", recordOf(id, event.StageDelivery, event.Delivered, "a")); err != nil {
			t.Fatal(err)
		}
		if err := s.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ends, err := s.Of(t.Context(), &event.Job{QueueID: id, ID: string(id) + "-0"}); err != nil || ends == nil {
			t.Fatalf("record %d is not known: %v", n, err)
		}
	}
}
