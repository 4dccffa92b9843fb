package delivery

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

const body = "From: prn@campus.test\r\nMessage-ID: <1@campus.test>\r\n\r\n.a dot\r\nend\r\n"

// rig is a delivery worker on a real bus, with a DNS and whatever MXs a test
// starts.
type rig struct {
	t       *testing.T
	dir     string
	server  *natsd.Server
	config  *config.Config
	options options
	bus     *queue.Bus
	ids     *mail.QueueIDs
	dns     *dnstest.Server
	metrics *prometheus.Registry
	worker  *worker
	ledger  jetstream.MessagesContext
	seen    []event.Record
	stop    context.CancelFunc
	done    chan error
	jobs    atomic.Int64
}

// options are what a test changes.
type options struct {
	zone   string
	port   int // of MXs
	roots  *x509.CertPool
	config func(*config.Config)
	idle   bool // the worker is not run
}

func start(t *testing.T, o options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), options: o, ids: mail.NewQueueIDs(), dns: dnstest.Start(t, o.zone), metrics: prometheus.NewRegistry()}
	r.server = queuetest.Server(t, r.dir)
	r.bus = queuetest.Connect(t, r.server)
	if err := queue.Ensure(t.Context(), r.bus.JS, 1, 400*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	r.config = config.Defaults()
	r.config.Relay.Hostname = "relay.campus.test"
	r.config.Delivery.Retry = []config.Duration{config.Duration(time.Second)}
	if o.config != nil {
		o.config(r.config)
	}
	r.worker = r.hire(r.bus, r.metrics)
	r.follow()
	if !o.idle {
		r.run()
	}
	return r
}

// follow begins to read the ledger.
func (r *rig) follow() {
	r.t.Helper()
	consumer, err := r.bus.JS.OrderedConsumer(r.t.Context(), queue.StreamLedger, jetstream.OrderedConsumerConfig{})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.ledger, err = consumer.Messages(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.ledger.Stop)
}

// hire makes a worker that has the bus for itself.
func (r *rig) hire(bus *queue.Bus, metrics *prometheus.Registry) *worker {
	r.t.Helper()
	w, err := newWorker(&service.Env{Config: r.config, Bus: bus, Log: queuetest.Log(r.t), Metrics: metrics},
		settings{dns: resolve(r.t, r.dns), port: uint16(r.options.port), roots: r.options.roots, ttl: queue.WorkerTTL, grace: 5 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

// run runs the worker until the test ends, or stop is called.
func (r *rig) run() {
	r.t.Helper()
	r.stop, r.done = r.work(r.worker, "worker")
}

// work runs a worker until the test ends, or stop is called.
func (r *rig) work(w *worker, name string) (stop context.CancelFunc, done chan error) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{}, 100)
	done = make(chan error, 1)
	go func() { done <- w.run(ctx, name, func() { ready <- struct{}{} }) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		done <- nil
	})
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		r.t.Fatal("worker is not ready")
	}
	return cancel, done
}

// stopped stops a worker and waits until it ended.
func (r *rig) stopped(stop context.CancelFunc, done chan error) {
	r.t.Helper()
	stop()
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	done <- nil
}

// alone makes the worker a member without running it, for tests that call its
// handler.
func (r *rig) alone() {
	r.t.Helper()
	m, err := join(r.t.Context(), r.bus, "worker", queue.WorkerTTL)
	if err != nil {
		r.t.Fatal(err)
	}
	r.worker.member = m
	r.t.Cleanup(r.worker.mta.pool.close)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.worker.settled.Follow(ctx)
	}()
	r.t.Cleanup(func() {
		stop()
		<-done
	})
}

// job stores content and makes the job for recipients of one destination.
func (r *rig) job(recipients ...string) *event.Job {
	r.t.Helper()
	id := r.ids.Next()
	w := r.bus.NewContent(r.t.Context(), id)
	if _, err := w.Write([]byte(body)); err != nil {
		r.t.Fatal(err)
	}
	ref, err := w.Commit(&event.Accepted{Class: mail.ClassDefault, At: time.Now()})
	if err != nil {
		r.t.Fatal(err)
	}
	sender, _ := smtp.ParseReversePath("<prn@campus.test>")
	j := &event.Job{
		Schema: event.Schema, ID: string(id) + "-0", QueueID: id, AcceptedAt: time.Now(), Class: mail.ClassDefault,
		Env: mail.Envelope{ReversePath: sender}, Content: ref, Prepend: "X-Prepended: yes\r\n",
	}
	for _, s := range recipients {
		p := path(r.t, s)
		j.Destination = p.Domain
		j.Env.Recipients = append(j.Env.Recipients, mail.Recipient{Address: p})
	}
	return j
}

// submit gives a job to the bus.
func (r *rig) submit(j *event.Job) *event.Job {
	r.t.Helper()
	subject := queue.ReadySubject(j.Class.Lane(), queue.PartitionOf(j.Destination))
	if _, err := r.bus.Publish(r.t.Context(), subject, fmt.Sprint("test/", r.jobs.Add(1)), event.Encode(j)); err != nil {
		r.t.Fatal(err)
	}
	return j
}

// await reads the ledger until a record of the job has the outcome. Each
// record is found once.
func (r *rig) await(j *event.Job, outcome event.Outcome) event.Record {
	r.t.Helper()
	is := func(rec event.Record) bool { return rec.Job == j.ID && rec.Outcome == outcome }
	if i := slices.IndexFunc(r.seen, is); i >= 0 {
		rec := r.seen[i]
		r.seen = slices.Delete(r.seen, i, i+1)
		return rec
	}
	for {
		m, err := r.ledger.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			r.t.Fatalf("no record %s of %s: %v; have %+v", outcome, j.ID, err, r.seen)
		}
		records, err := event.DecodeRecords(m.Data())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, rec := range records {
			r.seen = append(r.seen, *rec)
		}
		if i := slices.IndexFunc(r.seen, is); i >= 0 {
			rec := r.seen[i]
			r.seen = slices.Delete(r.seen, i, i+1)
			return rec
		}
	}
}

// failure is the only event of its kind in REPORT.
func (r *rig) failure(kind event.FailureKind) *event.Failure {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamReport)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(r.t.Context(), queue.ReportSubject(kind))
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := event.Decode[event.Failure](m.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// stored is the number of messages in a stream.
func (r *rig) stored(stream string) int {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// drained waits until DELIVER is empty: every job is acknowledged.
func (r *rig) drained() {
	r.t.Helper()
	timetest.Await(r.t, "no job is left", func() bool { return r.stored(queue.StreamDeliver) == 0 })
}

// served are the keys of the rota.
func (r *rig) served() []string {
	r.t.Helper()
	kv, err := r.bus.JS.KeyValue(r.t.Context(), queue.BucketServed)
	if err != nil {
		r.t.Fatal(err)
	}
	keys, err := kv.Keys(r.t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		r.t.Fatal(err)
	}
	return keys
}

// metric is the value of a metric without labels.
func (r *rig) metric(c prometheus.Collector) float64 { return testutil.ToFloat64(c) }

// mx starts an MX on 127.0.0.<last>. Port 0 takes a free one.
func mx(t *testing.T, last, port int, o smtptest.Options) *smtptest.MX {
	t.Helper()
	o.Addrs = []string{fmt.Sprintf("127.0.0.%d:%d", last, port)}
	if o.Hostname == "" {
		o.Hostname = fmt.Sprintf("mx%d.test", last)
	}
	o.Transcripts = true
	return smtptest.Start(t, o)
}

// deliveries waits for n messages.
func deliveries(t *testing.T, mx *smtptest.MX, n int) []smtptest.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := mx.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// lines is how many lines of all sessions begin so.
func lines(mx *smtptest.MX, prefix string) (n int) {
	for _, t := range mx.Transcripts() {
		for _, l := range t.Lines() {
			if strings.HasPrefix(l, prefix) {
				n++
			}
		}
	}
	return n
}
