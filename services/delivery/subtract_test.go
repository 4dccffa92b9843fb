package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
)

// A worker that was killed between its record and its acknowledgement leaves
// the job behind. Whoever gets it sends only to those whom LEDGER does not
// know to be settled, and asks for the reports that are not written.
func TestSettledByAnother(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	r := start(t, options{idle: true})
	s := &subtraction{memory: newMemory(), settled: r.bus.NewSettled()} // nobody reads
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if rcpts, _, err := s.outstanding(ctx, r.job("x@example.test"), false); err == nil {
		t.Errorf("%v are outstanding", rcpts)
	}
}

// routeTo routes everything to an MX.
func routeTo(mx *smtptest.MX) func(*config.Config) {
	return func(c *config.Config) {
		c.Delivery.Routes = []config.Route{{Domain: "*", To: "smtp://" + mx.Addr()}}
	}
}

// A run that was killed after one failure left another recipient to the next,
// who fails, too: each failure has its record and its report.
func TestFailureAfterAFailure(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	r.alone()
	job := r.job("first@example.test", "550@example.test")
	first := job.Env.Recipients[0]
	s := conclude(job, []ending{{Recipient: first, fate: failed}}, conclusion{now: time.Now(), run: "killed", schedule: r.worker.schedule})
	if err := store(t.Context(), r.bus, s); err != nil {
		t.Fatal(err)
	}
	if err := r.worker.handle(t.Context(), message(job, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	one, two := r.await(job, event.Failed), r.await(job, event.Failed)
	if one.Attempt != 1 || two.Attempt != 2 || len(two.Recipients) != 1 || two.Recipients[0].Address != job.Env.Recipients[1].Address {
		t.Errorf("%+v\n%+v", one, two)
	}
	if n := r.stored(queue.StreamReport); n != 2 {
		t.Errorf("%d reports", n)
	}
	if f := r.failure(event.KindFailed); len(f.Recipients) != 1 || f.Recipients[0].Address != two.Recipients[0].Address {
		t.Errorf("%+v", f)
	}
}

// A schedule may fire twice, and an earlier copy of a job may lie beside a
// later one: nobody gets a second message, whoever handles them.
func TestCopiesOfOneJob(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	r.alone()
	job := r.job("a@example.test", "b@example.test")
	fired := *job
	fired.Attempt = 1
	for seq, j := range []*event.Job{&fired, &fired, job} {
		if err := r.worker.handle(t.Context(), message(j, uint64(seq+1), 1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(server.Deliveries()); n != 1 {
		t.Fatalf("%d messages", n)
	}
	r.await(&fired, event.Delivered)
	r.worker.memory = newMemory() // another process
	r.worker.earlier.memory = r.worker.memory
	for seq, j := range []*event.Job{&fired, job} {
		if err := r.worker.handle(t.Context(), message(j, uint64(seq+7), 2), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(server.Deliveries()); n != 1 {
		t.Errorf("%d messages", n)
	}
}
