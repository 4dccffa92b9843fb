package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtptest"
)

// A worker that was killed between its record and its acknowledgement leaves
// the job behind. Whoever gets it sends only to those whom LEDGER does not
// know to be settled, and asks for the reports that are not written.
func TestSettledByAnother(t *testing.T) {
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	job := r.job("done@example.test", "refused@example.test", "open@example.test")
	record := func(outcome event.Outcome, address string) {
		t.Helper()
		err := r.bus.Record(t.Context(), "killed", event.Record{
			Stage: event.StageDelivery, Outcome: outcome, QueueID: job.QueueID, Job: job.ID, Attempt: 1,
			Recipients: []event.RecipientRecord{{Address: path(t, address)}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	record(event.Delivered, "done@example.test")
	record(event.Failed, "refused@example.test")
	r.submit(job)
	r.run()
	got := deliveries(t, server, 1)
	if len(got) != 1 || len(got[0].Recipients) != 1 || got[0].Recipients[0].String() != "open@example.test" {
		t.Errorf("sent %d messages, the first to %v", len(got), got[0].Recipients)
	}
	f := r.failure(event.KindFailed)
	if len(f.Recipients) != 1 || f.Recipients[0].Address.String() != "refused@example.test" {
		t.Errorf("report asked for %v", f.Recipients)
	}
	r.drained()
}

// Nothing is sent before LEDGER was read to its end.
func TestNothingBeforeTheLedgerIsRead(t *testing.T) {
	r := start(t, options{idle: true})
	s := &subtraction{newMemory(), r.bus.NewSettled()} // nobody reads
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if rcpts, err := s.Outstanding(ctx, r.job("x@example.test")); err == nil {
		t.Errorf("%v are outstanding", rcpts)
	}
}

// routeTo routes everything to an MX.
func routeTo(mx *smtptest.MX) func(*config.Config) {
	return func(c *config.Config) {
		c.Delivery.Routes = []config.Route{{Domain: "*", To: "smtp://" + mx.Addr()}}
	}
}
