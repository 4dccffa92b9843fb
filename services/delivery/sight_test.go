package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// What came while nothing was sent, after its worker had died, nobody can have
// sent: only what was there before is in doubt.
func TestMailThatOnlyWaitedIsInNoDoubt(t *testing.T) {
	server := smtptest.Start(t, smtptest.Options{})
	r := start(t, options{idle: true, config: routeTo(server)})
	before := r.submit(r.job("before@example.test"))
	p := queue.PartitionOf("example.test")
	r.entry(p, "killed", entry{Life: "before the bus forgot"})
	end, err := r.bus.LedgerEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end.Seq, end.Time = end.Seq+1000, time.Now().UTC()
	if err := r.bus.Accuse(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	r.run()
	timetest.Await(t, "the dead are seen", func() bool { return r.worker.rota.sighted(p) })
	meanwhile := r.submit(r.job("meanwhile@example.test"))
	// What recovery does when somebody confirms its plan.
	n, err := r.bus.NextEpoch(t.Context())
	if err == nil {
		err = r.bus.AwaitEpoch(t.Context(), n)
	}
	if err == nil {
		err = r.bus.AcceptLedger(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if rec := r.await(before, event.Delivered); !rec.Recipients[0].PossibleDuplicate {
		t.Errorf("the dead may have sent it: %+v", rec)
	}
	if rec := r.await(meanwhile, event.Delivered); rec.Recipients[0].PossibleDuplicate {
		t.Errorf("nobody can have sent it: %+v", rec)
	}
}

// What came after the dead were seen is in doubt all the same when another
// worker may have had it, and the bus has forgotten that.
func TestSightThatDoesNotHold(t *testing.T) {
	r := start(t, options{zone: zone, idle: true})
	r.alone()
	p := queue.PartitionOf("x.test")
	r.entry(p, "killed", entry{Life: "before the bus forgot"})
	te := r.tenure(p)
	r.others(te, 0, 1)
	sight := func() { // and then mail comes
		t.Helper()
		if err := te.rota.look(t.Context(), r.bus, p); err != nil || !te.rota.sighted(p) {
			t.Fatalf("not seen: %v", err)
		}
		r.submit(r.job("a@x.test"))
	}
	begin := func() (next *tenure, last uint64) {
		t.Helper()
		next, err := te.rota.begin(t.Context(), r.bus, p)
		if err != nil || te.rota.sighted(p) {
			t.Fatal("a sight serves once", err)
		}
		return next, next.upTo
	}
	doubtful := func(te *tenure, seq uint64) bool {
		return te.doubt(queue.Message{Seq: seq, Delivered: 1}, &event.Job{Class: mail.ClassDefault})
	}
	sight()
	next, last := begin()
	if doubtful(next, last) {
		t.Error("what came after the dead were seen is in doubt")
	}
	if !doubtful(next, last-1) {
		t.Error("what was there before them is not in doubt")
	}
	if next.server = "another"; !doubtful(next, last) {
		t.Error("the bus was started again since: somebody may have had it")
	}

	sight()
	r.entry(p, "later", entry{Life: te.life})
	r.others(te, 0, 2)
	if next, last = begin(); !doubtful(next, last) {
		t.Error("another worker served it since, and died")
	}

	r.worker.member.seen[memberPrefix+"later"] = sign{at: time.Now(), serving: true}
	r.others(te, 1, 1)
	if err := te.rota.look(t.Context(), r.bus, p); err != nil || te.rota.sighted(p) {
		t.Errorf("another worker lives: %v", err)
	}
}
