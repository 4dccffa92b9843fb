package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// BenchmarkFold is the rate at which records enter the index: per message one
// accepted, one signed and one delivered record with one recipient.
func BenchmarkFold(b *testing.B) {
	x, _, err := openIndex(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer x.close()
	at, n := checkpoint{stream: "bench"}, 0
	for b.Loop() {
		batch := make([]stored, 0, batchRecords)
		for len(batch) < batchRecords-2 {
			id, rcpt := fmt.Sprintf("%016d", n), fmt.Sprintf("user%d@d%d.test", n, n%100)
			signed := event.Record{Stage: event.StageSigner, Outcome: event.Signed, QueueID: accepted(id, rcpt).QueueID, Recipients: to(rcpt)}
			for _, r := range []event.Record{accepted(id, rcpt), signed, outcome(event.Delivered, id, 1, said(rcpt, 250, "ok"))} {
				batch = append(batch, stored{place: placeOf(at.seq+uint64(len(batch))+1, 0), record: &r})
			}
			n++
		}
		if at, err = x.foldBatch(b.Context(), at, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(at.seq)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkFoldApart is the same with the records of a message in different
// batches, as in a relay with a backlog.
func BenchmarkFoldApart(b *testing.B) {
	x, _, err := openIndex(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer x.close()
	at, n := checkpoint{stream: "bench"}, 0
	for b.Loop() {
		for _, build := range []func(id, rcpt string) event.Record{
			func(id, rcpt string) event.Record { return accepted(id, rcpt) },
			func(id, rcpt string) event.Record { return outcome(event.Delivered, id, 1, said(rcpt, 250, "ok")) },
		} {
			batch := make([]stored, batchRecords)
			for i := range batch {
				r := build(fmt.Sprintf("%016d", n+i), fmt.Sprintf("user%d@d%d.test", n+i, (n+i)%100))
				batch[i] = stored{place: placeOf(at.seq+uint64(i)+1, 0), record: &r}
			}
			if at, err = x.foldBatch(b.Context(), at, batch); err != nil {
				b.Fatal(err)
			}
		}
		n += batchRecords
	}
	b.ReportMetric(float64(at.seq)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRebuild is the rate at which an index is made again from LEDGER,
// reading and decoding included.
func BenchmarkRebuild(b *testing.B) {
	bus := queuetest.Start(b)
	const messages = 10_000
	for n := range messages {
		id, rcpt := fmt.Sprintf("%016d", n), fmt.Sprintf("user%d@d%d.test", n, n%100)
		for _, r := range []event.Record{accepted(id, rcpt), outcome(event.Delivered, id, 1, said(rcpt, 250, "ok"))} {
			r.Schema = event.Schema
			if _, err := bus.JS.PublishAsync(queue.LedgerSubject(r.Stage, r.Outcome), event.Encode(&r), jetstream.WithStallWait(time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
	}
	<-bus.JS.PublishAsyncComplete()
	for b.Loop() {
		stop := start(b, bus, b.TempDir())
		l := &Ledger{bus: bus}
		info, err := l.ledgerInfo(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for s := (&books.Status{Last: info.State.LastSeq}); s.Lag() > 0; {
			if s, err = books.Client(bus).Status(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		stop()
	}
	b.ReportMetric(2*messages*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
