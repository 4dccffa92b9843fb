package queue_test

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// BenchmarkKeep is one content moved to KEEP and deleted there, beside 10,000
// that stay. The figures of docs/adr/0006 come from these benchmarks.
func BenchmarkKeep(b *testing.B) {
	for _, size := range []int{4 << 10, 10 << 20} {
		b.Run(fmt.Sprintf("octets=%d", size), func(b *testing.B) {
			bus, ids := queuetest.Start(b), mail.NewQueueIDs()
			flood(b, bus, 10_000, nil, func(int) string { return queue.KeepSubject(ids.Next()) })
			id := ids.Next()
			ref, _ := message(b, bus, id, size)
			var keeping time.Duration
			for b.Loop() {
				begun := time.Now()
				if err := bus.Keep(b.Context(), id, ref.Stream, ref.Seq); err != nil {
					b.Fatal(err)
				}
				keeping += time.Since(begun)
				if err := bus.Unkeep(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(keeping.Microseconds())/1000/float64(b.N), "ms/keep")
			b.ReportMetric(float64((b.Elapsed()-keeping).Microseconds())/1000/float64(b.N), "ms/unkeep")
		})
	}
}

// BenchmarkListKept names all of 50,000 that are kept, and tells what they take
// of the server's memory.
func BenchmarkListKept(b *testing.B) {
	const all = 50_000
	bus, ids := queuetest.Start(b), mail.NewQueueIDs()
	before := heap()
	flood(b, bus, all, nil, func(int) string { return queue.KeepSubject(ids.Next()) })
	taken := heap() - before
	for b.Loop() {
		if kept, err := bus.ListKept(b.Context()); err != nil || len(kept) != all {
			b.Fatalf("%d are kept, %v", len(kept), err)
		}
	}
	b.ReportMetric(float64(taken)/all, "B/kept")
}

// BenchmarkPurge is one purge request of that many messages of 4 KiB, and how
// long a publish to the same stream waited meanwhile at most.
func BenchmarkPurge(b *testing.B) {
	for _, n := range []int{20_000, 60_000} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			bus := queuetest.Start(b)
			content := make([]byte, 4<<10)
			rand.Read(content)
			var longest time.Duration
			for b.Loop() {
				b.StopTimer()
				flood(b, bus, n, content, func(int) string { return queue.MailSubject(mail.LaneNormal, 0) })
				b.StartTimer()
				longest = max(longest, waits(b, bus, func() {
					s, err := bus.JS.Stream(b.Context(), queue.MailStream(0))
					if err == nil {
						err = s.Purge(b.Context(), jetstream.WithPurgeSequence(s.CachedInfo().State.LastSeq))
					}
					if err != nil {
						b.Error(err)
					}
				}))
			}
			b.ReportMetric(float64(longest.Microseconds())/1000, "ms-publish-waits")
		})
	}
}

// waits publishes to shard 0 of MAIL as long as something else is done, and
// returns the longest that an acknowledgement took.
func waits(b *testing.B, bus *queue.Bus, do func()) (longest time.Duration) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		begun := time.Now()
		if _, err := bus.JS.Publish(b.Context(), queue.MailSubject(mail.LaneNormal, 0), nil); err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(begun))
		select {
		case <-done:
			return longest
		default:
		}
	}
}

// flood stores n messages.
func flood(b *testing.B, bus *queue.Bus, n int, data []byte, subject func(int) string) {
	b.Helper()
	for i := range n {
		if _, err := bus.JS.PublishAsync(subject(i), data, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-bus.JS.PublishAsyncComplete():
	case <-b.Context().Done():
	}
}

// heap is what is in use, of the server too, which is in this process.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
