package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

const retention = 24 * time.Hour

// purgeRig is a purger on its own, with a clock that the test sets.
type purgeRig struct {
	script
	ids    *mail.QueueIDs
	ledger *Ledger
	*purger
}

func newPurgeRig(t testing.TB, bus *queue.Bus) *purgeRig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &Ledger{
		bus: bus, log: queuetest.Log(t), dir: t.TempDir(), instance: "test", retention: retention,
		position: newPosition(), metrics: newMetrics(prometheus.NewRegistry()),
	}
	if err := l.open(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.keep(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.index.close()
	})
	r := &purgeRig{script: script{t, bus}, ids: mail.NewQueueIDs(), ledger: l, purger: newPurger(l)}
	r.purger.room = func(context.Context) (queue.Room, error) { return queue.Room{Used: 1, Limit: 100}, nil }
	for n := range queue.Shards {
		r.durable(queue.MailStream(n), policyDurable, "")
	}
	for _, lane := range admittedLanes {
		r.durable(queue.StreamAdmitted, signerDurable+string(lane), "admitted."+string(lane)+".*")
	}
	return r
}

func (r *purgeRig) durable(stream, name, filter string) {
	r.t.Helper()
	config := jetstream.ConsumerConfig{Durable: name, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1 << 20}
	if _, err := r.script.bus.JS.CreateOrUpdateConsumer(r.t.Context(), stream, config); err != nil {
		r.t.Fatal(err)
	}
}

// read acknowledges everything a durable has not.
func (r *purgeRig) read(stream, durable string) {
	r.t.Helper()
	c, err := r.script.bus.JS.Consumer(r.t.Context(), stream, durable)
	if err != nil {
		r.t.Fatal(err)
	}
	for last := r.state(stream).LastSeq; c.CachedInfo().AckFloor.Stream < last; {
		batch, err := c.Fetch(1)
		if err != nil {
			r.t.Fatal(err)
		}
		for m := range batch.Messages() {
			if err := m.DoubleAck(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
		}
		if _, err := c.Info(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// letter is a message of MAIL.
type letter struct {
	id      mail.QueueID
	ref     event.ContentRef
	content []byte
}

// store stores a message in shard 0 and has policy acknowledge it.
func (r *purgeRig) store(size int) letter {
	r.t.Helper()
	m := r.submit(size)
	r.read(queue.MailStream(0), policyDurable)
	return m
}

func (r *purgeRig) submit(size int) letter {
	r.t.Helper()
	m := letter{id: r.id(), content: make([]byte, size)}
	rand.Read(m.content)
	w := r.script.bus.NewContent(r.t.Context(), m.id)
	if _, err := w.Write(m.content); err != nil {
		r.t.Fatal(err)
	}
	var err error
	if m.ref, err = w.Commit(&event.Accepted{At: time.Now(), Env: envelope("a@example.org")}); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// id is one of shard 0.
func (r *purgeRig) id() mail.QueueID {
	for {
		if id := r.ids.Next(); queue.ShardOf(id) == 0 {
			return id
		}
	}
}

// enter writes the accepted record.
func (r *purgeRig) enter(m letter, rcpts ...string) {
	r.t.Helper()
	r.record(with(accepted(string(m.id), rcpts...), func(e *event.Record) {
		e.At = time.Now()
		e.Message.AcceptedAt, e.Message.Content, e.Message.Size = e.At, m.ref, m.ref.Size
	}))
}

// settle settles recipients, that much later than now.
func (r *purgeRig) settle(m letter, after time.Duration, rcpts ...string) {
	r.t.Helper()
	r.record(with(outcome(event.Delivered, string(m.id), 1, to(rcpts...)), func(e *event.Record) { e.At = time.Now().Add(after) }))
}

// settled stores a message that is settled now.
func (r *purgeRig) settled(size int) letter {
	r.t.Helper()
	m := r.store(size)
	r.enter(m, "a@example.org")
	r.settle(m, 0, "a@example.org")
	return m
}

// queued stores a message that is not settled.
func (r *purgeRig) queued(size int) letter {
	r.t.Helper()
	m := r.store(size)
	r.enter(m, "a@example.org")
	return m
}

// after makes a round that much later than now.
func (r *purgeRig) after(d time.Duration) {
	r.t.Helper()
	r.clock = func() time.Time { return time.Now().Add(d) }
	r.rounds = 0 // each looks into KEEP
	if err := r.round(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *purgeRig) inMail(m letter) bool {
	r.t.Helper()
	_, err := r.script.bus.Read(r.t.Context(), m.ref.Stream, m.ref.Seq)
	if err != nil && !errors.Is(err, queue.ErrContentGone) {
		r.t.Fatal(err)
	}
	return err == nil
}

func (r *purgeRig) inKeep(m letter) bool {
	r.t.Helper()
	kept, err := r.script.bus.ListKept(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	_, found := kept[m.id]
	return found
}

// where is MAIL, KEEP, both, or nowhere. What is anywhere can be read.
func (r *purgeRig) where(m letter) string {
	r.t.Helper()
	at := ""
	if r.inMail(m) {
		at = "MAIL"
	}
	if r.inKeep(m) {
		at += "KEEP"
	}
	_, content, err := r.script.bus.Content(r.t.Context(), m.id, m.ref)
	if err != nil {
		if at != "" || !errors.Is(err, queue.ErrContentGone) {
			r.t.Errorf("%s is in %q and cannot be read: %v", m.id, at, err)
		}
		return at
	}
	defer content.Close()
	if data, err := io.ReadAll(content); err != nil || !bytes.Equal(data, m.content) {
		r.t.Errorf("%s is in %q and has other content: %v", m.id, at, err)
	}
	return at
}

func (r *purgeRig) expect(want string, messages ...letter) {
	r.t.Helper()
	for i, m := range messages {
		if at := r.where(m); at != want {
			r.t.Errorf("message %d is in %q, want %q", i, at, want)
		}
	}
}

func (r *purgeRig) state(stream string) jetstream.StreamState {
	r.t.Helper()
	s, err := r.script.bus.JS.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State
}

// chunks is how many are left in BODY_0.
func (r *purgeRig) chunks() int { return int(r.state(queue.BodyStream(0)).Msgs) }

// large is the size of a content in chunks, octets.
const large = queue.MaxInline + 3<<20
