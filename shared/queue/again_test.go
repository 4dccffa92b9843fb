package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// A consumer, and a whole stream, that vanish while a worker runs are no end of
// its work.
func TestConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	source := queue.Source{Stream: queue.StreamReport, Durable: "worker", Concurrency: 4}
	handled := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Work(ctx, source, time.Second, func(_ context.Context, m queue.Message) error {
			handled <- string(m.Data)
			return nil
		})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	n := 0
	work := func(what string) {
		t.Helper()
		n++
		text := fmt.Sprint("message ", n)
		if _, err := bus.Publish(t.Context(), "report.failed", text, []byte(text)); err != nil {
			t.Fatal(err)
		}
		for late := time.After(60 * time.Second); ; {
			select {
			case got := <-handled:
				if got == text {
					return
				}
				// The word that one before was handled may have come to a consumer
				// that was no more: it comes twice.
			case <-late:
				t.Fatalf("%s: nothing is handled", what)
			}
		}
	}
	work("at first")
	before, err := bus.Life(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := bus.Life(t.Context(), source); err != nil || again != before {
		t.Errorf("another life without a reason: %v %s %s", err, before, again)
	}
	if err := bus.JS.DeleteConsumer(t.Context(), queue.StreamReport, "worker"); err != nil {
		t.Fatal(err)
	}
	work("after the consumer was deleted")
	if after, err := bus.Life(t.Context(), source); err != nil || after == before {
		t.Errorf("a consumer made anew leads the same life: %v %s", err, after)
	}
	if err := bus.JS.DeleteStream(t.Context(), queue.StreamReport); err != nil {
		t.Fatal(err)
	}
	if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	work("after the stream was deleted")
}

// A derived stream that is made anew goes on beyond the one before, so that a
// late acknowledgement hits nothing; also after the server was started again.
func TestDerivedStreamsNeverRepeatASequence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := queuetest.Server(t, dir)
	bus := queuetest.Connect(t, server)
	last := uint64(0)
	publish := func(what string) {
		t.Helper()
		if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			pos, err := bus.Publish(t.Context(), "report.failed", fmt.Sprint(what, n), []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if pos.Seq <= last {
				t.Errorf("%s: %d after %d", what, pos.Seq, last)
			}
			last = pos.Seq
		}
	}
	publish("at first")
	if last != 3 {
		t.Errorf("a new relay begins at %d", last-2)
	}
	if err := bus.Record(t.Context(), "", recordOf("X", event.StageBounce, event.Bounced, "a")); err != nil {
		t.Fatal(err)
	}
	if err := bus.JS.DeleteStream(t.Context(), queue.StreamReport); err != nil {
		t.Fatal(err)
	}
	publish("made anew")
	bus.Close()
	server.Stop()
	bus = queuetest.Connect(t, queuetest.Server(t, dir))
	s, err := bus.JS.Stream(t.Context(), queue.StreamReport)
	if err != nil || s.CachedInfo().State.Msgs != 3 {
		t.Fatalf("%v: %+v", err, s.CachedInfo().State)
	}
	publish("after a restart")
}
