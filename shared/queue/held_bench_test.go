package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtp"
)

// BenchmarkHeld is what waits for a decision, 10,000 messages of it, in the stream
// HELD and in a bucket beside it: storing one, listing all, and seeing what is new.
// The figures of docs/adr/0009 come from here.
func BenchmarkHeld(b *testing.B) {
	const all = 10_000
	bus, ids := queuetest.Start(b), mail.NewQueueIDs()
	held := func() *event.Held {
		h := &event.Held{At: time.Now(), Rule: "content", Reason: "scanned: rspamd: reject", Message: event.Admitted{QueueID: ids.Next()}}
		for i := range 4 {
			h.Message.Env.Recipients = append(h.Message.Env.Recipients, mail.Recipient{Address: smtp.ForwardPath{Address: smtp.Address{Local: fmt.Sprint("anna-", i), Domain: "campus.test"}}})
		}
		return h
	}
	bucket, err := bus.JS.CreateKeyValue(b.Context(), jetstream.KeyValueConfig{Bucket: "compared", Storage: jetstream.FileStorage})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("stream/hold", func(b *testing.B) {
		for b.Loop() {
			if err := bus.Hold(b.Context(), held()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bucket/hold", func(b *testing.B) {
		for b.Loop() {
			h := held()
			if _, err := bucket.Create(b.Context(), string(h.Message.QueueID), event.Encode(h)); err != nil {
				b.Fatal(err)
			}
		}
	})
	flood(b, bus, all, event.Encode(held()), func(int) string { return queue.HeldSubject(ids.Next(), "") })
	flood(b, bus, all, event.Encode(held()), func(int) string { return "$KV.compared." + string(ids.Next()) })
	var next uint64
	b.Run("stream/list", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if next, err = bus.ListHeldNews(b.Context(), 0, func(queue.HeldNews) error { n++; return nil }); err != nil || n < all {
				b.Fatalf("%d, %v", n, err)
			}
		}
	})
	b.Run("bucket/list", func(b *testing.B) {
		for b.Loop() {
			if n := watched(b, bucket); n < all {
				b.Fatal(n)
			}
		}
	})
	b.Run("stream/news", func(b *testing.B) {
		for b.Loop() {
			if _, err := bus.ListHeldNews(b.Context(), next, func(queue.HeldNews) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// watched reads a whole bucket, as whoever has no watcher of his own must.
func watched(b *testing.B, bucket jetstream.KeyValue) (n int) {
	w, err := bucket.WatchAll(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	for e := range w.Updates() {
		if e == nil {
			return n
		}
		n++
	}
	return n
}
