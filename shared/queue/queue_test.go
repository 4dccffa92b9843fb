package queue_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

func TestPublishTwiceIsOnce(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	subject := queue.AdmittedSubject(mail.LaneNormal, 1)
	first, err := bus.Publish(t.Context(), subject, "id", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := bus.Publish(t.Context(), subject, "id", []byte("x"))
	if err != nil || !second.Duplicate || second.Seq != first.Seq {
		t.Errorf("second publish: %+v, %v; first %+v", second, err, first)
	}
}

func TestPublishSaysFull(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s, err := bus.JS.Stream(t.Context(), queue.MailStream(0))
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxBytes = 10 << 10
	if _, err := bus.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	_, err = bus.Publish(t.Context(), queue.MailSubject(mail.LaneNormal, 0), "big", make([]byte, 20<<10))
	if !errors.Is(err, queue.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

func TestPublishSaysUnavailable(t *testing.T) {
	t.Parallel()
	server := queuetest.Server(t, t.TempDir())
	bus := queuetest.Connect(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := bus.Publish(ctx, "mail.normal.0", "id", []byte("no stream has this subject"))
	if !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestContentRoundTrip(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ids := mail.NewQueueIDs()
	for _, size := range []int{0, 1, 10 << 10, queue.MaxInline, queue.MaxInline + 1, queue.MaxChunk + queue.MaxInline, 5<<20 + 17} {
		want := make([]byte, size)
		rand.Read(want)
		id := ids.Next()
		w := bus.NewContent(t.Context(), id)
		if _, err := io.Copy(w, iotestReader{bytes.NewReader(want)}); err != nil {
			t.Fatal(err)
		}
		a := event.Accepted{At: time.Now(), Class: mail.ClassScan, MessageID: "<m@x>"}
		ref, err := w.Commit(&a)
		if err != nil || ref.Size != int64(size) {
			t.Fatalf("%d octets: %+v %v", size, ref, err)
		}
		got, content, err := bus.Content(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		content.Close()
		if err != nil || !bytes.Equal(data, want) {
			t.Errorf("%d octets came back as %d, %v", size, len(data), err)
		}
		alone, err := bus.Open(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		data, err = io.ReadAll(alone)
		alone.Close()
		if err != nil || !bytes.Equal(data, want) {
			t.Errorf("%d octets came back as %d without their event, %v", size, len(data), err)
		}
		other := ref
		other.Size++
		if _, err := bus.Open(t.Context(), id, other); !errors.Is(err, queue.ErrContentSize) {
			t.Errorf("%d octets and another size: %v", size, err)
		}
		if _, err := bus.Open(t.Context(), ids.Next(), ref); !errors.Is(err, queue.ErrContentGone) {
			t.Errorf("%d octets and another id: %v", size, err)
		}
		if got.QueueID != id || got.Size != int64(size) || got.MessageID != "<m@x>" {
			t.Errorf("%d octets: event %+v", size, got)
		}
		if inline := len(got.Chunks) == 0; inline != (size <= queue.MaxInline) {
			t.Errorf("%d octets: inline %v", size, inline)
		}
	}
}

// iotestReader hides WriterTo, so that io.Copy writes pieces of 32 KiB.
type iotestReader struct{ io.Reader }

func TestCommitTwiceStoresOnce(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	id := mail.NewQueueIDs().Next()
	var seqs []uint64
	for range 2 {
		w := bus.NewContent(t.Context(), id)
		w.Write([]byte("Subject: x\r\n\r\n"))
		ref, err := w.Commit(&event.Accepted{})
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, ref.Seq)
	}
	if seqs[0] != seqs[1] {
		t.Errorf("stored at %v", seqs)
	}
}

// What was never published leaves nothing behind; what was, or may have been,
// keeps its chunks.
func TestDiscardedContentIsDeleted(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ids := mail.NewQueueIDs()
	stored := func(id mail.QueueID) uint64 {
		t.Helper()
		s, err := bus.JS.Stream(t.Context(), queue.BodyStream(queue.ShardOf(id)))
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	keptID, id := ids.Next(), ids.Next()
	kept := bus.NewContent(t.Context(), keptID)
	w := bus.NewContent(t.Context(), id)
	for _, c := range []*queue.ContentWriter{kept, w} {
		if _, err := c.Write(make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := kept.Commit(&event.Accepted{})
	if err != nil {
		t.Fatal(err)
	}
	before := stored(id)
	w.Discard()
	timetest.Await(t, "the chunks of a discarded content go", func() bool { return stored(id) <= before-3 })
	_, content, err := bus.Content(t.Context(), keptID, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if n, err := io.Copy(io.Discard, content); err != nil || n != 4<<20 {
		t.Errorf("the kept content has %d octets, %v", n, err)
	}
}

func TestContentGone(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	_, _, err := bus.Content(t.Context(), "NONE", event.ContentRef{Stream: queue.MailStream(0), Seq: 7})
	if !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("got %v", err)
	}
}

func TestWorkSettlesByError(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	for _, id := range []string{"good", "later", "panic", "ours"} {
		if _, err := bus.Publish(t.Context(), queue.ReadySubject(mail.LaneNormal, 3), id, []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	settled := make(chan string, 16)
	go func() {
		done <- bus.Work(ctx, queue.Source{Stream: queue.StreamDeliver, Durable: "p03", Filter: queue.ReadySubject(mail.LaneNormal, 3), Concurrency: 4}, time.Second,
			func(_ context.Context, m queue.Message) error {
				if m.Delivered == 1 {
					switch string(m.Data) {
					case "later":
						return queue.Later(50*time.Millisecond, "not yet")
					case "panic":
						panic("handler broke")
					case "ours":
						return errors.New("our trouble")
					}
				}
				settled <- string(m.Data)
				return nil
			})
	}()
	seen := map[string]int{}
	for range 4 {
		seen[<-settled]++
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"good", "later", "panic", "ours"} {
		if seen[id] != 1 {
			t.Errorf("%s settled %d times", id, seen[id])
		}
	}
}

// A worker takes no more than it can handle: nothing is dropped on its way,
// nothing waits in a buffer until it is delivered again.
func TestWorkTakesEachOnce(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	const total = 500
	subject := queue.ReadySubject(mail.LaneNormal, 5)
	for i := range total {
		if _, err := bus.JS.PublishAsync(subject, []byte{byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
	}
	<-bus.JS.PublishAsyncComplete()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	seen := map[string]int{}
	again, most, running := 0, 0, 0
	err := bus.Work(ctx, queue.Source{Stream: queue.StreamDeliver, Durable: "p05", Filter: subject, Concurrency: 3}, time.Second,
		func(_ context.Context, m queue.Message) error {
			mu.Lock()
			running++
			most = max(most, running)
			seen[string(m.Data)]++
			if m.Delivered > 1 {
				again++
			}
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			defer mu.Unlock()
			running--
			if len(seen) == total {
				cancel()
			}
			return nil
		})
	if err != nil || len(seen) != total || again > 0 || most > 3 {
		t.Errorf("%d of %d seen, %d delivered again, %d at once, %v", len(seen), total, again, most, err)
	}
	if err := bus.NC.LastError(); err != nil {
		t.Error(err)
	}
}

func TestWorkHandsBackOnStop(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	source := queue.Source{Stream: queue.StreamReport, Durable: "bounce", Concurrency: 1}
	for _, id := range []string{"a", "b", "c"} {
		if _, err := bus.Publish(t.Context(), queue.ReportSubject(event.KindFailed), id, []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{}, 3)
	done := make(chan error, 1)
	go func() {
		done <- bus.Work(ctx, source, time.Second, func(work context.Context, m queue.Message) error {
			started <- struct{}{}
			<-work.Done() // longer than the grace
			return work.Err()
		})
	}()
	<-started
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Everything is handed back at once: another worker finds all three
	// without waiting for the acknowledgement deadline.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var n atomic.Int32
	err := bus.Work(ctx, source, time.Second, func(context.Context, queue.Message) error {
		if n.Add(1) == 3 {
			cancel()
		}
		return nil
	})
	if err != nil || n.Load() != 3 {
		t.Errorf("second worker got %d of 3, %v", n.Load(), err)
	}
}

func TestPublishLaterArrives(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ready := queue.ReadySubject(mail.LaneAlert, queue.PartitionOf("x.test"))
	_, err := bus.PublishLater(t.Context(), queue.LaterSubject("x.test", "J-0"), ready, "J-0/1", []byte("job"), time.Now().Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := ""
	err = bus.Work(ctx, queue.Source{Stream: queue.StreamDeliver, Durable: "alert", Filter: ready, Concurrency: 1}, time.Second,
		func(_ context.Context, m queue.Message) error {
			got = string(m.Data)
			cancel()
			return nil
		})
	if err != nil || got != "job" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEnsureIsRepeatable(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	s, err := bus.JS.Stream(t.Context(), queue.StreamLedger)
	if err != nil || s.CachedInfo().Config.MaxAge != 24*time.Hour || !s.CachedInfo().Config.DenyPurge {
		t.Errorf("%+v %v", s.CachedInfo().Config, err)
	}
}

func TestForgetWorkers(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	kv, err := bus.JS.KeyValue(t.Context(), queue.BucketWorkers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "killed-1", "x"); err != nil {
		t.Fatal(err)
	}
	if err := queue.ForgetWorkers(t.Context(), bus.JS); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), "killed-1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestLaterSubjectIsOneDestinationToken(t *testing.T) {
	if got := queue.LaterSubject("mx.example.test", "ID-0"); strings.Count(got, ".") != 4 || !strings.Contains(got, "mx~example~test") {
		t.Error(got)
	}
}
