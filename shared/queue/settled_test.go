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
)

func recordOf(id mail.QueueID, stage event.Stage, outcome event.Outcome, local string) event.Record {
	to := smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: "x.test"}}
	return event.Record{Stage: stage, Outcome: outcome, QueueID: id, Job: string(id) + "-0", Attempt: 1, Recipients: []event.RecipientRecord{{Address: to}}}
}

func TestSettled(t *testing.T) {
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

	s := bus.NewSettled()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	wait, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if err := s.Wait(wait); err != nil {
		t.Fatal(err)
	}
	ends, failed := s.Ends(early)
	for local, want := range map[string]event.Outcome{"a": event.Delivered, "b": "", "c": event.Failed, "d": event.Bounced} {
		if got := ends[smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: "x.test"}}]; got != want {
			t.Errorf("%s is %q, want %q", local, got, want)
		}
	}
	if len(failed) != 2 {
		t.Errorf("%d failures", len(failed))
	}
	// What is written later is seen, too.
	write(recordOf(late, event.StageDelivery, event.Delivered, "z"))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ends, _ := s.Ends(late); len(ends) == 1 {
			break
		}
		select {
		case <-tick.C:
		case <-wait.Done():
			t.Fatal("a later record is not seen")
		}
	}
}

// An empty ledger is read to its end at once.
func TestSettledOfAnEmptyLedger(t *testing.T) {
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
