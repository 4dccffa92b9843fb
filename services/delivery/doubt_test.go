package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// entry writes what another worker says in the rota.
func (r *rig) entry(partition int, owner string, e entry) {
	r.t.Helper()
	kv, err := r.bus.JS.KeyValue(r.t.Context(), queue.BucketServed)
	if err != nil {
		r.t.Fatal(err)
	}
	value, err := json.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := kv.Put(r.t.Context(), fmt.Sprintf("p%02d.%s.earlier", partition, owner), value); err != nil {
		r.t.Fatal(err)
	}
}

// tenure begins to serve a partition, for tests that call the handler.
func (r *rig) tenure(partition int) *tenure {
	r.t.Helper()
	rota, err := openRota(r.t.Context(), r.bus, "worker", r.worker.member.lives)
	if err != nil {
		r.t.Fatal(err)
	}
	r.worker.rota = rota
	done := make(chan struct{})
	go func() {
		defer close(done)
		rota.follow(r.t.Context())
	}()
	r.t.Cleanup(func() { <-done })
	te, err := rota.begin(r.t.Context(), r.bus, partition)
	if err != nil {
		r.t.Fatal(err)
	}
	return te
}

// others waits until the tenure knows of so many.
func (r *rig) others(te *tenure, living, dead int) {
	r.t.Helper()
	timetest.Await(r.t, fmt.Sprintf("%d living, %d dead", living, dead), func() bool {
		l, d := te.rota.others(te.partition)
		return len(l) == living && len(d) == dead
	})
}

// A job that a worker had which was killed may have been sent. A job that a
// worker handed back which ended cleanly was not.
func TestRedeliveredAfterADeathIsAPossibleDuplicate(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.alone()
	p := queue.PartitionOf("x.test")
	te := r.tenure(p)
	send := func(seq uint64, delivered uint64) event.Record {
		t.Helper()
		j := r.job("a@x.test")
		if err := r.worker.handle(t.Context(), message(j, seq, delivered), te); err != nil {
			t.Fatal(err)
		}
		return r.await(j, event.Delivered)
	}
	if rec := send(1, 2); rec.Recipients[0].PossibleDuplicate {
		t.Errorf("nobody died: %+v", rec)
	}
	r.entry(p, "killed", entry{Life: te.life})
	r.others(te, 0, 1)
	if rec := send(2, 2); !rec.Recipients[0].PossibleDuplicate {
		t.Errorf("a worker died with it: %+v", rec)
	}
	if rec := send(3, 1); rec.Recipients[0].PossibleDuplicate {
		t.Errorf("nobody had it before: %+v", rec)
	}
}

// A job that a living worker may have in hand waits until it has finished.
func TestJobOfALivingPredecessorWaits(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.alone()
	p := queue.PartitionOf("x.test")
	old, err := join(t.Context(), r.bus, "old", queue.WorkerTTL)
	if err != nil {
		t.Fatal(err)
	}
	te := r.tenure(p)
	te.upTo = 9
	r.worker.member.seen[old.name] = sign{at: time.Now(), serving: true}
	r.entry(p, "old", entry{Life: te.life})
	r.others(te, 1, 0)
	redelivered, fired, forgotten, mine := r.job("a@x.test"), r.job("b@x.test"), r.job("c@x.test"), r.job("d@x.test")
	fired.Attempt = 1
	waits := func(j *event.Job, seq, delivered uint64) {
		t.Helper()
		err := r.worker.handle(t.Context(), message(j, seq, delivered), te)
		if err == nil || len(server.Deliveries()) != 0 {
			t.Errorf("%v; sent %d", err, len(server.Deliveries()))
		}
	}
	waits(redelivered, 1, 2)
	waits(fired, 2, 1)
	r.entry(p, "old", entry{Life: "before the bus forgot"})
	timetest.Await(r.t, "the bus forgot", func() bool {
		l, _ := te.rota.others(p)
		return len(l) == 1 && l[0].Life != te.life
	})
	for n := range uint64(5) { // however often it comes
		waits(forgotten, 3, n+1)
	}
	if err := r.worker.handle(t.Context(), message(mine, 10, 1), te); err != nil || len(server.Deliveries()) != 1 {
		t.Fatalf("a job that came later waited, too: %v", err)
	}
	if err := te.rota.kv.Delete(t.Context(), fmt.Sprintf("p%02d.old.earlier", p)); err != nil { // it has finished
		t.Fatal(err)
	}
	r.others(te, 0, 0)
	for seq, j := range []*event.Job{redelivered, fired, forgotten} {
		if err := r.worker.handle(t.Context(), message(j, uint64(seq+1), 3), te); err != nil {
			t.Fatal(err)
		}
		if rec := r.await(j, event.Delivered); rec.Recipients[0].PossibleDuplicate {
			t.Errorf("a clean end left a doubt: %+v", rec)
		}
	}
}

// Worker and bus are killed at the same moment: the bus has forgotten what it
// had handed out, and the next worker does not send it as if nobody had.
func TestWorkerAndBusKilled(t *testing.T) {
	t.Parallel()
	slow, err := smtptest.New(smtptest.Options{
		Addrs: []string{"127.0.0.1:0"}, Hostname: "mx1.test", Transcripts: true, At: map[smtptest.Stage]string{smtptest.StageData: "pause-1h"},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve, hangUp := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- slow.Run(serve) }()
	r := start(t, options{zone: zone, port: slow.Port(), idle: true, config: func(c *config.Config) { c.Delivery.Connections = 5 }})
	killed := queuetest.Connect(t, r.server)
	first := r.hire(killed, prometheus.NewRegistry())
	r.work(first, "first")
	var all []*event.Job
	for range 3 {
		all = append(all, r.submit(r.job("a@x.test")))
	}
	if err := slow.WaitFor(t.Context(), func(c smtptest.Counts) bool { return c.Connections == 3 }); err != nil {
		t.Fatal(err)
	}
	timetest.Await(r.t, "all are at the dot", func() bool { return lines(slow, "C: BDAT") >= 3 })
	killed.Close() // what it does from now on, nobody knows
	hangUp()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	for _, l := range lanes() {
		durable := l.source(queue.PartitionOf("x.test"), nil).Durable
		if err := r.bus.JS.DeleteConsumer(t.Context(), queue.StreamDeliver, durable); err != nil {
			t.Fatal(err)
		}
	}
	r.bus.Close()
	r.server.Stop()

	r.server = queuetest.Server(t, r.dir)
	r.bus = queuetest.Connect(t, r.server)
	if err := queue.ForgetWorkers(t.Context(), r.bus.JS); err != nil {
		t.Fatal(err)
	}
	r.follow()
	later := r.submit(r.job("later@x.test"))
	next := mx(t, 1, 0, smtptest.Options{})
	r.options.port = next.Port()
	second := r.hire(r.bus, prometheus.NewRegistry())
	stop, done := r.work(second, "second")
	for _, j := range all {
		if rec := r.await(j, event.Delivered); !rec.Recipients[0].PossibleDuplicate {
			t.Errorf("%+v", rec)
		}
	}
	r.await(later, event.Delivered)
	fresh := r.submit(r.job("b@x.test"))
	if rec := r.await(fresh, event.Delivered); rec.Recipients[0].PossibleDuplicate {
		t.Errorf("nobody can have had it: %+v", rec)
	}
	r.stopped(stop, done)
	// What the first left is told to the third, too, until it is certain that
	// all of it was seen.
	p := queue.PartitionOf("x.test")
	found := 0
	for _, key := range r.served() {
		if at, owner, _, _ := parseKey(key); at == p && owner == "first" {
			found++
		} else if owner != "first" {
			t.Errorf("the second ended cleanly and left %s", key)
		}
	}
	if found != 1 {
		t.Errorf("left in the rota: %v", r.served())
	}
}

// The bus forgets alone: the worker that lives knows what it has in hand, and
// neither sends it again nor doubts it.
func TestOnlyTheBusForgets(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageData: "pause-5s"}})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("a@x.test"))
	timetest.Await(r.t, "it is at the dot", func() bool { return lines(server, "C: BDAT") >= 1 })
	durable := lanes()[1].source(queue.PartitionOf("x.test"), nil).Durable
	if err := r.bus.JS.DeleteConsumer(t.Context(), queue.StreamDeliver, durable); err != nil {
		t.Fatal(err)
	}
	if rec := r.await(j, event.Delivered); rec.Recipients[0].PossibleDuplicate {
		t.Errorf("%+v", rec)
	}
	r.drained()
	if n := len(server.Deliveries()); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// What the bus forgot is bounded by what a worker has in hand.
func TestInheritanceIsBounded(t *testing.T) {
	t.Parallel()
	r := start(t, options{zone: zone, idle: true})
	r.alone()
	p := queue.PartitionOf("x.test")
	r.entry(p, "killed", entry{Life: "another"})
	te := r.tenure(p)
	te.upTo = 1 << 20
	r.others(te, 0, 1)
	n := 0
	for seq := range uint64(1000) {
		if te.doubt(queue.Message{Seq: seq + 1, Delivered: 1}, &event.Job{Class: mail.ClassDefault}) {
			n++
		}
	}
	if n != te.lanes[mail.LaneNormal].most {
		t.Errorf("%d in doubt", n)
	}
	if !te.doubt(queue.Message{Seq: 1, Delivered: 1}, &event.Job{Class: mail.ClassAlert}) {
		t.Error("the other lane has none")
	}
	if te.doubt(queue.Message{Seq: te.upTo + 1, Delivered: 1}, &event.Job{Class: mail.ClassAlert}) {
		t.Error("a job that came later")
	}
	te.begun = time.Now().Add(-heirloom)
	if done, err := te.resolved(t.Context()); err != nil || !done {
		t.Errorf("not resolved: %v", err)
	}
	if err := te.rota.forget(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	r.others(te, 0, 0)
	te.end(t.Context(), newMemory())
	if left := r.served(); len(left) != 0 {
		t.Errorf("left in the rota: %v", left)
	}
}

// A worker that the others took for dead, and whose entry they forgot, writes
// it again while it serves.
func TestForgottenEntryIsWrittenAgain(t *testing.T) {
	t.Parallel()
	r := start(t, options{zone: zone, idle: true})
	r.alone()
	te := r.tenure(3)
	if err := te.rota.kv.Delete(t.Context(), te.rota.key(3)); err != nil {
		t.Fatal(err)
	}
	timetest.Await(r.t, "its entry is there again", func() bool { return len(r.served()) == 1 })
	memory := newMemory()
	memory.begin(&event.Job{ID: "x", Destination: "x.test"}, queue.Message{Seq: 1, Delivered: 1}, te)
	memory.mark(&event.Job{ID: "x"}, false)
	te.partition = queue.PartitionOf("x.test")
	te.end(t.Context(), memory)
	kept, err := te.rota.kv.Get(t.Context(), te.rota.key(te.partition))
	if err != nil {
		t.Fatal(err)
	}
	var e entry
	if err := json.Unmarshal(kept.Value(), &e); err != nil || !e.Doubt {
		t.Errorf("a doubt is not told: %s", kept.Value())
	}
}
