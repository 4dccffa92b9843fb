package delivery

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtptest"
)

// message is the job as the bus delivers it.
func message(j *event.Job, seq, delivered uint64) queue.Message {
	return queue.Message{Data: event.Encode(j), Seq: seq, Delivered: delivered}
}

func TestLostReplyToTheDot(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.submit(r.job("once-drop-after-dot@x.test"))
	if rec := r.await(j, event.Delayed); rec.Recipients[0].Reply.Status() != "4.4.2" || rec.Recipients[0].RemoteMTA != "" {
		t.Errorf("%+v", rec)
	}
	rec := r.await(j, event.Delivered)
	if !rec.Recipients[0].PossibleDuplicate || rec.Attempt != 2 {
		t.Errorf("%+v", rec)
	}
	r.drained()
	if n := len(deliveries(t, server, 2)); n != 2 {
		t.Errorf("%d copies", n)
	}
}

func TestHandledTwice(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true, config: func(c *config.Config) {
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
	}})
	r.alone()
	j := r.job("a@x.test", "450@x.test", "550@x.test")
	for delivered := range uint64(3) {
		if err := r.worker.handle(t.Context(), message(j, 1, delivered+1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if c := server.Counts(); c.Stored != 1 || c.RefusedRcpt != 2 {
		t.Errorf("sent again: %+v", c)
	}
	r.await(j, event.Delivered)
	r.await(j, event.Failed)
	r.await(j, event.Delayed)
	if l, d, f := r.stored(queue.StreamLedger), r.stored(queue.StreamDeliver), r.stored(queue.StreamReport); l != 3 || d != 1 || f != 1 {
		t.Errorf("%d records, %d jobs, %d reports", l, d, f)
	}
}

// What another process settled is told by identities: storing it again
// changes nothing.
func TestStoredTwice(t *testing.T) {
	t.Parallel()
	r := start(t, options{zone: zone, idle: true})
	j := r.job("a@x.test", "b@x.test", "c@x.test")
	at := witness{mta: "mx"}
	endings := []ending{
		{Recipient: j.Env.Recipients[0], fate: delivered, at: at},
		{Recipient: j.Env.Recipients[1], fate: failed, at: at},
		{Recipient: j.Env.Recipients[2], fate: delayed, at: at},
	}
	s := conclude(j, endings, conclusion{now: time.Now().Add(time.Hour), schedule: r.worker.schedule})
	for range 2 {
		if err := store(t.Context(), r.bus, s); err != nil {
			t.Fatal(err)
		}
	}
	if l, d, f := r.stored(queue.StreamLedger), r.stored(queue.StreamDeliver), r.stored(queue.StreamReport); l != 3 || d != 1 || f != 1 {
		t.Errorf("%d records, %d jobs, %d reports", l, d, f)
	}
}

func TestLapsedWorkerSendsNoDot(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.alone()
	r.worker.member.beat = time.Now().Add(-queue.WorkerTTL * 9 / 10)
	j := r.job("a@x.test")
	if err := r.worker.handle(t.Context(), message(j, 1, 1), nil); !errors.Is(err, errLapsed) {
		t.Fatal(err)
	}
	if n := len(server.Deliveries()); n != 0 || r.stored(queue.StreamLedger) != 0 {
		t.Fatalf("%d messages completed, %d records", n, r.stored(queue.StreamLedger))
	}
	if err := r.worker.member.say(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if err := r.worker.handle(t.Context(), message(j, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	if rec := r.await(j, event.Delivered); rec.Attempt != 1 || rec.Recipients[0].PossibleDuplicate {
		t.Errorf("an attempt cut short counted: %+v", rec)
	}
}

func TestContentIsGone(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), idle: true, config: func(c *config.Config) {
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
	}})
	r.alone()
	j := r.job("a@x.test")
	j.Content.Seq = 999
	if err := r.worker.handle(t.Context(), message(j, 1, 1), nil); err != nil {
		t.Fatal(err)
	}
	rec := r.await(j, event.Delayed)
	if rec.Recipients[0].Reply != replyContentGone || !strings.Contains(rec.Reason, "no longer stored") {
		t.Errorf("%+v", rec)
	}
	j = r.job("a@x.test")
	j.Content.Size++
	if err := r.worker.handle(t.Context(), message(j, 2, 1), nil); err != nil {
		t.Fatal(err)
	}
	if rec := r.await(j, event.Delayed); rec.Recipients[0].Reply != replyContentGone {
		t.Errorf("%+v", rec)
	}
	if n := len(server.Deliveries()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func TestUnreadableJob(t *testing.T) {
	t.Parallel()
	r := start(t, options{zone: zone, idle: true})
	if err := r.worker.handle(t.Context(), queue.Message{Data: []byte("{")}, nil); err == nil {
		t.Error("no error")
	}
}

// What a stopping worker cuts short is handed back at once, counts as no
// attempt, and leaves no doubt.
func TestStoppedBeforeTheDot(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{At: map[smtptest.Stage]string{smtptest.StagePredata: "pause-1h"}, Without: []string{"CHUNKING"}})
	r := start(t, options{zone: zone, port: server.Port(), idle: true})
	r.worker.settings.grace = 100 * time.Millisecond
	r.run()
	j := r.submit(r.job("a@x.test"))
	if err := server.WaitFor(t.Context(), func(c smtptest.Counts) bool { return c.Connections == 1 }); err != nil {
		t.Fatal(err)
	}
	r.stopped(r.stop, r.done)
	if n := r.stored(queue.StreamLedger); n != 0 || r.stored(queue.StreamDeliver) != 1 {
		t.Errorf("%d records; job %s is not handed back", n, j.ID)
	}
	kv, err := r.bus.JS.KeyValue(t.Context(), queue.BucketWorkers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), memberPrefix+"worker"); err == nil {
		t.Error("the worker that stopped is still a member")
	}
	if left := r.served(); len(left) != 0 {
		t.Errorf("left in the rota: %v", left)
	}
	patient := mx(t, 1, 0, smtptest.Options{})
	r.options.port = patient.Port()
	r.work(r.hire(r.bus, prometheus.NewRegistry()), "next")
	if rec := r.await(j, event.Delivered); rec.Attempt != 1 || rec.Recipients[0].PossibleDuplicate {
		t.Errorf("an attempt cut short counted, or left a doubt: %+v", rec)
	}
}

func TestOneDestinationDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	// All destinations are in one partition, and one of them answers RCPT late.
	slow := "x.test"
	fast := ""
	for i := 0; fast == ""; i++ {
		if d := fmt.Sprintf("fast%d.test", i); queue.PartitionOf(d) == queue.PartitionOf(slow) {
			fast = d
		}
	}
	tarpit := mx(t, 1, 0, smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageRcpt: "pause-500ms"}})
	server := mx(t, 3, tarpit.Port(), smtptest.Options{})
	const connections, jobs = 2, 12
	r := start(t, options{zone: zone + fast + " MX 10 mx3.test\n", port: tarpit.Port(), idle: true, config: func(c *config.Config) {
		c.Delivery.Connections = connections
	}})
	var all []*event.Job
	for range jobs {
		all = append(all, r.submit(r.job("a@"+slow)))
	}
	other := r.submit(r.job("a@" + fast))
	r.run()
	r.await(other, event.Delivered)
	if n := len(tarpit.Deliveries()); n >= jobs {
		t.Errorf("the other destination came after all %d jobs of the slow one", n)
	}
	for _, j := range all {
		if rec := r.await(j, event.Delivered); rec.Attempt != 1 {
			t.Errorf("an appointment counted as an attempt: %+v", rec)
		}
	}
	r.drained()
	if peak := tarpit.Counts().PeakOpen; peak > connections {
		t.Errorf("%d sessions at a time", peak)
	}
	if n := len(tarpit.Deliveries()); n != jobs {
		t.Errorf("%d copies of %d", n, jobs)
	}
	if r.metric(r.worker.metrics.turned) == 0 {
		t.Error("nobody was turned away")
	}
	if len(server.Deliveries()) != 1 {
		t.Errorf("%d copies", len(server.Deliveries()))
	}
}

func TestSessionsAreReused(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: func(c *config.Config) { c.Delivery.Connections = 2 }})
	var all []*event.Job
	for range 20 {
		all = append(all, r.submit(r.job("a@x.test")))
	}
	for _, j := range all {
		r.await(j, event.Delivered)
	}
	if c := server.Counts(); c.Connections > 2 || c.Stored != 20 {
		t.Errorf("%+v", c)
	}
	if r.metric(r.worker.metrics.reused) < 18 {
		t.Errorf("reused %v", r.metric(r.worker.metrics.reused))
	}
	// Another policy does not share them.
	if s := r.worker.mta.pool.take(endpoint{}); s != nil {
		t.Error("a session for nothing")
	}
}

func TestIdleSessionThatIsGoneCostsNoAttempt(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{MaxTransactions: 1})
	r := start(t, options{zone: zone, port: server.Port()})
	for range 3 {
		if rec := r.await(r.submit(r.job("a@x.test")), event.Delivered); rec.Attempt != 1 {
			t.Errorf("%+v", rec)
		}
	}
}

func TestAlertLane(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port()})
	j := r.job("greylist@x.test")
	j.Class = mail.ClassAlert
	r.submit(j)
	r.await(j, event.Delayed)
	if rec := r.await(j, event.Delivered); rec.Attempt != 2 {
		t.Errorf("%+v", rec)
	}
}
