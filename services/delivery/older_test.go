package delivery

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
)

// shelf is a ledger service that answers what it is told to.
type shelf struct {
	asked  atomic.Int64
	answer atomic.Pointer[books.Ends]
	trace  books.Trace
}

var errShelf = errors.New("nobody answers")

func (s *shelf) Ends(context.Context, mail.QueueID, uint64) (*books.Ends, error) {
	s.asked.Add(1)
	if a := s.answer.Load(); a != nil {
		return a, nil
	}
	return nil, errShelf
}

func (s *shelf) Trace(context.Context, string) (*books.Trace, error) { return &s.trace, nil }

// older is a rig whose worker remembers nothing of what was before now.
func older(t *testing.T) (*rig, *smtptest.MX, *shelf) {
	t.Helper()
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	s := &shelf{}
	r.worker.earlier.books = s
	r.alone()
	if err := r.worker.settled.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, server, s
}

// scheduled is the job as it comes again.
func (r *rig) scheduled(j *event.Job) *event.Job {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamDeliver)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(r.t.Context(), queue.LaterSubject(j.Destination, waitingName(j)))
	if err != nil {
		r.t.Fatal(err)
	}
	later, err := event.Decode[event.Job](m.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	return later
}

// An older job waits as a schedule while nobody knows what became of its recipients, and is
// sent to those only whom the ledger service does not call settled.
func TestOlderJobIsLookedUp(t *testing.T) {
	r, server, s := older(t)
	job := r.job("done@example.test", "reported@example.test", "gone@example.test", "open@example.test")
	job.AcceptedAt = time.Now().Add(-2 * time.Hour)
	covers := r.worker.earlier.covers
	r.worker.earlier.covers = func(at time.Time) bool { return covers(at) && time.Since(at) < queue.SettledFor }
	others := r.job("other@example.test")
	others.AcceptedAt = job.AcceptedAt
	// Each gets an appointment, once, and leaves the stream for the others.
	for seq, j := range []*event.Job{job, job, others} {
		for range 2 {
			if err := r.worker.handle(t.Context(), message(j, uint64(seq+1), 1), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.asked.Load() != 1 || len(server.Deliveries()) != 0 || r.stored(queue.StreamLedger) != 0 {
		t.Errorf("asked %d times, sent %d, %d records", s.asked.Load(), len(server.Deliveries()), r.stored(queue.StreamLedger))
	}
	if n := r.stored(queue.StreamDeliver); n != 2 {
		t.Errorf("%d schedules", n)
	}
	// A doubt goes with it.
	if err := r.worker.setAside(t.Context(), message(others, 4, 1), others, true); err != nil {
		t.Fatal(err)
	}
	if later := r.scheduled(others); len(later.Doubt) != 1 || later.Doubt[0] != others.Env.Recipients[0].Address || later.Attempt != others.Attempt {
		t.Errorf("%+v", later)
	}
	r.worker.earlier.mute = time.Time{}
	s.answer.Store(&books.Ends{Known: true, Ends: map[string]string{
		"done@example.test": "delivered", "reported@example.test": "failed", "gone@example.test": "removed",
	}})
	if err := r.worker.handle(t.Context(), message(job, 7, 1), nil); err != nil {
		t.Fatal(err)
	}
	rec := r.await(job, event.Delivered)
	if len(rec.Recipients) != 1 || rec.Recipients[0].Address.Local != "open" || rec.Attempt != 1 {
		t.Errorf("%+v", rec)
	}
	// A fresh job costs no question.
	asked := s.asked.Load()
	if err := r.worker.handle(t.Context(), message(r.job("a@example.test"), 2, 1), nil); err != nil || s.asked.Load() != asked {
		t.Errorf("%v; asked %d times", err, s.asked.Load()-asked)
	}
}

// Recovery drove some recipients of a message: their jobs of a lower drive are
// dropped, wherever they come from, and those of the others are not.
func TestJobOfALowerDriveIsDropped(t *testing.T) {
	r, server, s := older(t)
	job := r.job("lost@example.test", "kept@example.test")
	driven := event.Record{
		Stage: event.StageLedger, Outcome: event.Driven, QueueID: job.QueueID, Drive: 1,
		Recipients: []event.RecipientRecord{{Address: path(t, "lost@example.test")}},
	}
	if err := r.bus.Record(t.Context(), "drive-1", driven); err != nil {
		t.Fatal(err)
	}
	again := *job
	again.Drive, again.Env.Recipients = 1, job.Env.Recipients[:1]
	old := *job
	old.ID = string(job.QueueID) + "-7" // another job of the message
	for seq, j := range []*event.Job{&old, &again} {
		// Somebody else had it: LEDGER is read to its end first.
		if err := r.worker.handle(t.Context(), message(j, uint64(seq+1), 2), nil); err != nil {
			t.Fatal(err)
		}
	}
	first, second := r.await(&old, event.Delivered), r.await(&again, event.Delivered)
	if len(first.Recipients) != 1 || first.Recipients[0].Address.Local != "kept" || first.Drive != 0 {
		t.Errorf("%+v", first)
	}
	if len(second.Recipients) != 1 || second.Recipients[0].Address.Local != "lost" || second.Drive != 1 {
		t.Errorf("%+v", second)
	}
	// What is known only to the ledger service counts as much.
	aged := r.job("lost@example.test", "kept@example.test")
	driven.QueueID = aged.QueueID
	s.trace.Records = []books.Record{{Record: driven}}
	s.answer.Store(&books.Ends{Known: true, Drive: 1})
	r.worker.earlier.covers = func(time.Time) bool { return false }
	if err := r.worker.handle(t.Context(), message(aged, 9, 1), nil); err != nil {
		t.Fatal(err)
	}
	if rec := r.await(aged, event.Delivered); len(rec.Recipients) != 1 || rec.Recipients[0].Address.Local != "kept" {
		t.Errorf("%+v", rec)
	}
	if n := len(server.Deliveries()); n != 3 {
		t.Errorf("%d messages", n)
	}
}

// While LEDGER is not what it was, nothing is sent; when a person has confirmed
// it, everything goes on by itself.
func TestNothingWhileTheLedgerIsRolledBack(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	end, err := r.bus.LedgerEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end.Seq, end.Time = end.Seq+1000, time.Now().UTC()
	if err := r.bus.Accuse(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	job := r.submit(r.job("a@example.test"))
	r.run()
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.worker.settled.Wait(short); err == nil || len(server.Deliveries()) != 0 {
		t.Fatalf("%v; sent %d", err, len(server.Deliveries()))
	}
	if err := r.bus.AcceptLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := r.await(job, event.Delivered); rec.Attempt != 1 || rec.Recipients[0].PossibleDuplicate {
		t.Errorf("%+v", rec)
	}
}

// A new epoch begins when nothing is in hand any more that was begun before.
func TestNewEpoch(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{At: map[smtptest.Stage]string{smtptest.StagePredata: "pause-1h"}, Without: []string{"CHUNKING"}})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.worker.settings.grace = 500 * time.Millisecond
	r.run()
	j := r.submit(r.job("a@x.test"))
	if err := server.WaitFor(t.Context(), func(c smtptest.Counts) bool { return c.Connections == 1 }); err != nil {
		t.Fatal(err)
	}
	n, err := r.bus.NextEpoch(t.Context())
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := r.bus.AwaitEpoch(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	// The mailbox is silent for an hour and does not see that we hung up: what is
	// open here counts. The job may be on its way again.
	if n := r.metric(r.worker.metrics.open); n > 1 {
		t.Errorf("what was begun before is still under way: %v connections", n)
	}
	// It was handed back, and serving goes on.
	if err := server.WaitFor(t.Context(), func(c smtptest.Counts) bool { return c.Connections == 2 }); err != nil {
		t.Fatal(err)
	}
	if r.stored(queue.StreamLedger) != 0 {
		t.Errorf("job %s: the attempt counted", j.ID)
	}
	// Who joins is in the epoch that it finds.
	_, _ = r.work(r.hire(r.bus, prometheus.NewRegistry()), "second")
	if err := r.bus.AwaitEpoch(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}
