//go:build recovery

package recovery

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

// derived are the streams that may be lost.
var derived = []string{queue.StreamAdmitted, queue.StreamDeliver, queue.StreamReport}

// The messages in flight, 1,000 with those that are not.
const (
	deferred  = 300 // in DELIVER, for an hour
	reported  = 150 // failed; their reports are in DELIVER, for an hour
	failed    = 150 // failed; no report is written, bounce is held
	delivered = 100
	partly    = 100 // one recipient has it, the other is deferred
	unsigned  = 200 // in ADMITTED, the signer is held
)

// slow mail is in a transaction that takes long.
const slow = 10

// inFlight fills a relay with mail, and returns the recipients who are to get
// one copy in the end, those of reports among them.
func inFlight(r *relay) (want []string) {
	never := time.Now().Add(24 * time.Hour)
	both := func(i int) []string {
		return append(to("u", "partly", "example.test")(i), to("first-1-450", "partly", "example.test")(i)...)
	}
	want = append(want, r.batch(deferred, "prn@campus.test", to("first-1-450", "deferred", "example.test"))...)
	r.batch(reported, "first-1-450+reported#@campus.test", to("550-5.1.1", "reported", "example.test"))
	want = append(want, addresses(reported, to("first-1-450", "reported", "campus.test"))...)
	want = append(want, r.batch(delivered, "prn@campus.test", to("u", "delivered", "example.test"))...)
	want = append(want, r.batch(partly, "prn@campus.test", both)...)
	r.states(map[string]int{string(event.Bounced): reported, string(event.Delivered): delivered + partly, books.StateQueued: deferred + reported + partly})
	r.jobs(deferred+reported+partly, 0)
	r.pause(queue.StreamReport, "bounce", never)
	r.batch(failed, "prn+failed#@campus.test", to("550-5.1.1", "failed", "example.test"))
	want = append(want, addresses(failed, to("prn", "failed", "campus.test"))...)
	r.holds(queue.StreamReport, failed)
	r.jobs(deferred+reported+partly, 0)
	return want
}

// unsign adds mail that waits for the signer.
func unsign(r *relay) []string {
	r.pause(queue.StreamAdmitted, "signer-normal", time.Now().Add(24*time.Hour))
	rcpts := r.batch(unsigned, "prn@campus.test", to("u", "unsigned", "example.test"))
	r.waits(queue.StreamAdmitted, "signer-normal", unsigned)
	return rcpts
}

// goOn lets the services go on that were held.
func goOn(r *relay) {
	r.pause(queue.StreamReport, "bounce", time.Now())
	r.pause(queue.StreamAdmitted, "signer-normal", time.Now())
}

// TestPurged: the derived streams are purged while everything runs.
func TestPurged(t *testing.T) {
	r := newRelay(t)
	want := inFlight(r)
	want = append(want, unsign(r)...)
	r.states(map[string]int{books.StateQueued: deferred + reported + partly + failed + unsigned})
	purge(r)
	goOn(r)
	recovered(r, want)
}

// TestPurgedInHand: the plan is confirmed while workers still have jobs in hand
// that no stream has any more. They count as lost, and are not driven when it
// turns out that they were not.
func TestPurgedInHand(t *testing.T) {
	r := newRelay(t)
	want := r.batch(deferred, "prn@campus.test", to("first-1-450", "deferred", "example.test"))
	r.jobs(deferred, 0)
	want = append(want, r.batch(slow, "prn@campus.test", to("tarpit-6s", "slow", "example.test"))...)
	r.jobs(deferred, slow)
	purge(r)
	plan := r.plan("the plan", func(p *books.Plan) bool { return p.Of(books.ActionDrive).Messages == deferred+slow })
	r.confirm(plan)
	r.holds(queue.StreamAdmitted, deferred)
	r.states(map[string]int{books.StateQueued: 0})
	once(t, copies(r.Backup), want)
	r.Balances()
}

// purge empties the derived streams.
func purge(r *relay) {
	for _, name := range derived {
		s, err := r.Bus.JS.Stream(r.t.Context(), name)
		if err == nil {
			err = s.Purge(r.t.Context())
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestDeleted: the derived streams are deleted with their consumers while the
// relay is stopped.
func TestDeleted(t *testing.T) {
	r := newRelay(t)
	want := inFlight(r)
	want = append(want, unsign(r)...)
	r.states(map[string]int{books.StateQueued: deferred + reported + partly + failed + unsigned})
	r.stop()
	r.serve()
	for _, name := range derived {
		if err := r.Bus.JS.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	recovered(r, want)
}

// TestDeletedRunning: they are deleted while everything runs, and come back by
// themselves.
func TestDeletedRunning(t *testing.T) {
	r := newRelay(t)
	want := inFlight(r)
	want = append(want, unsign(r)...)
	r.states(map[string]int{books.StateQueued: deferred + reported + partly + failed + unsigned})
	for _, name := range derived {
		if err := r.Bus.JS.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	recovered(r, want)
	// The services found their consumers again.
	after := r.batch(20, "prn@campus.test", to("u", "after", "example.test"))
	r.states(map[string]int{string(event.Delivered): len(want) + len(after)})
	once(t, copies(r.Backup), after)
}

// recovered reads the plan of what is lost, checks that nothing is sent before
// it is confirmed, and that nothing is lost nor sent twice after it.
func recovered(r *relay, want []string) {
	t := r.t
	driven := deferred + reported + partly + unsigned
	plan := r.plan("the plan", func(p *books.Plan) bool {
		return p.Of(books.ActionDrive).Messages == driven && p.Of(books.ActionReport).Messages == failed
	})
	if plan.Held == "" || plan.RolledBack != "" || plan.Of(books.ActionGone).Messages != 0 {
		t.Errorf("plan %+v", plan)
	}
	before := len(r.Backup.Deliveries()) + len(r.Campus.Deliveries())
	for range 3 {
		if again := r.plan("the plan again", func(*books.Plan) bool { return true }); again.ID != plan.ID {
			t.Errorf("the plan changed from %s to %s", plan.ID, again.ID)
		}
	}
	if n := len(r.Backup.Deliveries()) + len(r.Campus.Deliveries()); n != before {
		t.Errorf("%d messages were sent before the plan was confirmed", n-before)
	}
	r.confirm(plan)
	world.WaitFor(t, "the rest to be settled", func(ctx context.Context) error {
		s, err := books.Client(r.Bus).Status(ctx)
		if err == nil && s.States[books.StateQueued] != 0 {
			err = fmt.Errorf("states %v", s.States)
		}
		return err
	})
	once(t, copies(r.Backup, r.Campus), want)
	if n := len(r.Campus.Deliveries()); n != reported+failed {
		t.Errorf("%d reports for %d messages that failed", n, reported+failed)
	}
	r.Balances()
	r.plan("nothing to do", func(p *books.Plan) bool { return p.ID == "" })
}
