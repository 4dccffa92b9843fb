package ledger

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// A message that cannot be read does not keep recovery from the others.
func TestBadMessageAmongTheLost(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	id := r.ids.Next()
	at, err := bus.JS.Publish(t.Context(), queue.MailSubject(mail.LaneNormal, queue.ShardOf(id)), []byte("neither content nor event"), jetstream.WithMsgID(string(id)))
	if err != nil {
		t.Fatal(err)
	}
	consumer(t, bus, at.Stream, policyDurable, "")
	r.record(with(accepted(string(id), "bad@example.org"), func(e *event.Record) {
		e.Message.Content = event.ContentRef{Stream: at.Stream, Seq: at.Sequence, Size: 1}
	}))
	good := r.accept("a@example.org")
	r.recover()
	if got := r.admittedEvents(); len(got) != 1 || got[0].QueueID != good.id {
		t.Errorf("driven %+v", got)
	}
}
