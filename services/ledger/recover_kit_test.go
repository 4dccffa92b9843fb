package ledger

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

const keepLedger = 400 * 24 * time.Hour

// recoveryRig is recovery without the loop around it.
type recoveryRig struct {
	script
	*recovery
	ids  *mail.QueueIDs
	stop func()
}

func newRecoveryRig(t *testing.T, bus *queue.Bus, dir string) *recoveryRig {
	t.Helper()
	for n := range queue.Shards {
		consumer(t, bus, queue.MailStream(n), policyDurable, "")
	}
	for _, lane := range admittedLanes {
		consumer(t, bus, queue.StreamAdmitted, signerDurable+string(lane), "admitted."+string(lane)+".*")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &Ledger{
		bus: bus, log: queuetest.Log(t), dir: dir, instance: "test", position: newPosition(), metrics: newMetrics(prometheus.NewRegistry()),
		unbalanced: make(chan struct{}, 1),
		ensure:     func(ctx context.Context) error { return queue.Ensure(ctx, bus.JS, 1, keepLedger) },
	}
	if err := errors.Join(l.open(ctx), l.compare(ctx)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.keep(ctx) }()
	r := &recoveryRig{script: script{t, bus}, ids: mail.NewQueueIDs(), recovery: &recovery{Ledger: l, one: make(chan struct{}, 1)}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.index.close()
	}
	t.Cleanup(r.stop)
	return r
}

// consumer is a durable that has acknowledged everything there is.
func consumer(t testing.TB, bus *queue.Bus, stream, durable, filter string) {
	t.Helper()
	var last uint64
	s, err := bus.JS.Stream(t.Context(), stream)
	if err == nil {
		m, none := s.GetLastMsgForSubject(t.Context(), cmp.Or(filter, ">"))
		if none == nil {
			last = m.Sequence
		}
	}
	c, failed := bus.JS.CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: durable, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy})
	for err = errors.Join(err, failed); err == nil && c.CachedInfo().AckFloor.Stream < last; {
		var m jetstream.Msg
		if m, err = c.Next(); err == nil {
			err = m.DoubleAck(t.Context())
		}
		if err == nil {
			_, err = c.Info(t.Context())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// store stores a message in MAIL, and has policy let go of it.
func (r *recoveryRig) store(rcpts ...string) *letterbox {
	r.t.Helper()
	m := &letterbox{id: r.ids.Next(), rcpts: rcpts}
	m.ref = r.mail(string(m.id), rcpts...)
	consumer(r.t, r.script.bus, m.ref.Stream, policyDurable, "")
	return m
}

// accept stores a message and has policy enter it in the books.
func (r *recoveryRig) accept(rcpts ...string) *letterbox {
	r.t.Helper()
	m := r.store(rcpts...)
	r.record(with(accepted(string(m.id), rcpts...), func(e *event.Record) { e.Message.Content = m.ref }))
	return m
}

// letterbox is a message that a test has stored.
type letterbox struct {
	id    mail.QueueID
	ref   event.ContentRef
	rcpts []string
}

// failed records that a message failed, as delivery does, and returns what
// delivery then asks bounce for.
func (r *recoveryRig) failed(m *letterbox, reason string) *event.Failure {
	r.t.Helper()
	rec := with(outcome(event.Failed, string(m.id), 2, said(m.rcpts[0], 550, "unknown")), func(e *event.Record) { e.Reason, e.Drive = reason, 1 })
	r.record(rec)
	f := &event.Failure{
		Schema: event.Schema, Kind: event.KindFailed, ID: event.AttemptID(rec.Job, 2, 1), QueueID: m.id, AcceptedAt: noon, At: rec.At,
		Env:       mail.Envelope{ReversePath: accepted("", m.rcpts...).Message.ReversePath, Recipients: envelope(m.rcpts[0]).Recipients},
		MessageID: "<" + string(m.id) + "@campus.test>", Content: event.ContentRef{Stream: m.ref.Stream, Seq: m.ref.Seq, Size: 1000},
		Recipients: rec.Recipients, Device: "prn-1", Owner: "chem",
	}
	if reason != "" {
		f.Kind = event.KindExpired
	}
	return f
}

// recover looks as the leader does.
func (r *recoveryRig) recover() {
	r.t.Helper()
	if err := r.look(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// planned is the plan as it is asked for.
func (r *recoveryRig) planned() *books.Plan {
	r.t.Helper()
	_, plan, err := r.plan(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}

// confirm carries the plan out that was read.
func (r *recoveryRig) confirm(plan *books.Plan) {
	r.t.Helper()
	p, now, err := r.plan(r.t.Context())
	if err == nil && now.ID != plan.ID {
		r.t.Fatalf("plan changed from %s to %s", plan.ID, now.ID)
	}
	if err == nil {
		err = r.carryOut(r.t.Context(), p, "ann", func(int, int) {})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// messages are what a stream holds.
func (r *recoveryRig) messages(stream string) (out [][]byte) {
	r.t.Helper()
	err := r.script.bus.List(r.t.Context(), stream, "", 0, func(m *jetstream.RawStreamMsg) error {
		out = append(out, m.Data)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// admittedEvents are the events of ADMITTED.
func (r *recoveryRig) admittedEvents() (out []*event.Admitted) {
	r.t.Helper()
	for _, data := range r.messages(queue.StreamAdmitted) {
		e, err := event.Decode[event.Admitted](data)
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func addresses(e mail.Envelope) (out []string) {
	for _, rcpt := range e.Recipients {
		out = append(out, rcpt.Address.String())
	}
	return out
}

// states are the states of the recipients of a message, by address.
func (r *recoveryRig) states(id mail.QueueID) map[string]string {
	r.t.Helper()
	if _, err := r.caughtUp(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.index.rows(r.t.Context(), "SELECT "+messageColumns+", "+recipientColumns+" FROM recipients r CROSS JOIN messages m ON m.id = r.message WHERE m.queue_id = ?", []any{string(id)})
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range rows {
		out[p.address] = books.States[p.state]
	}
	return out
}
