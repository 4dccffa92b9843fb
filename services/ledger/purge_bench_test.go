package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// BenchmarkPurgePlan reads the headers of 10,000 messages of 4 KiB and finds
// each in the books: what it takes to know that they may go.
func BenchmarkPurgePlan(b *testing.B) {
	const messages = 10_000
	bus := queuetest.Start(b)
	r := newPurgeRig(b, bus)
	publish := func(subject, id string, data []byte) {
		if _, err := bus.JS.PublishAsync(subject, data, jetstream.WithMsgID(id), jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	for range messages {
		id, rcpt := string(r.id()), "a@example.org"
		publish(queue.MailSubject(mail.LaneNormal, 0), id, make([]byte, 4<<10))
		for n, rec := range []event.Record{accepted(id, rcpt), outcome(event.Delivered, id, 1, to(rcpt))} {
			rec.Schema = event.Schema
			publish(queue.LedgerSubject(rec.Stage, rec.Outcome), fmt.Sprint(id, n), event.Encode(&rec))
		}
	}
	<-bus.JS.PublishAsyncComplete()
	for {
		if _, err := r.ledger.caughtUp(b.Context()); err == nil {
			break
		}
	}
	r.now = time.Now().Add(retention + time.Minute)
	for b.Loop() {
		if p, err := r.plan(b.Context(), queue.MailStream(0), unread{seq: messages + 1}); err != nil || len(p.gone) != messages || len(p.moves) != 0 {
			b.Fatalf("%d of %d may go, %d have to move, %v", len(p.gone), messages, len(p.moves), err)
		}
	}
}
