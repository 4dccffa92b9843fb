package queue_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// message stores a content of that size.
func message(t testing.TB, bus *queue.Bus, id mail.QueueID, size int) (event.ContentRef, []byte) {
	t.Helper()
	want := make([]byte, size)
	rand.Read(want)
	w := bus.NewContent(t.Context(), id)
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	ref, err := w.Commit(&event.Accepted{MessageID: "<m@x>"})
	if err != nil {
		t.Fatal(err)
	}
	return ref, want
}

func state(t *testing.T, bus *queue.Bus, stream string) jetstream.StreamState {
	t.Helper()
	s, err := bus.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State
}

func purge(t *testing.T, bus *queue.Bus, stream string, opts ...jetstream.StreamPurgeOpt) {
	t.Helper()
	s, err := bus.JS.Stream(t.Context(), stream)
	if err == nil {
		err = s.Purge(t.Context(), opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A kept content is the same, whether it is read from MAIL, from KEEP, or was
// moved while it was read; keeping it twice is keeping it once; afterwards
// nothing is left.
func TestKeep(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ids := mail.NewQueueIDs()
	for _, size := range []int{0, 10 << 10, queue.MaxInline, 5<<20 + 17} {
		id := ids.Next()
		ref, want := message(t, bus, id, size)
		_, reading, err := bus.Content(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, min(size, 64<<10)) // the reader is one chunk ahead
		if _, err := io.ReadFull(reading, got); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := bus.Keep(t.Context(), id, ref.Stream, ref.Seq); err != nil {
				t.Fatal(err)
			}
		}
		if kept, body := state(t, bus, queue.StreamKeep).Msgs, state(t, bus, queue.BodyStream(queue.ShardOf(id))).Msgs; kept != body+1 {
			t.Errorf("%d chunks of BODY are %d messages of KEEP", body, kept)
		}
		purge(t, bus, ref.Stream)
		purge(t, bus, queue.BodyStream(queue.ShardOf(id)))
		rest, err := io.ReadAll(reading)
		if err != nil || !bytes.Equal(append(got, rest...), want) {
			t.Errorf("%d octets moved while they were read came as %d, %v", size, len(got)+len(rest), err)
		}
		a, content, err := bus.Content(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil || !bytes.Equal(data, want) || a.QueueID != id || a.Size != int64(size) || a.MessageID != "<m@x>" {
			t.Errorf("%d octets came back as %d, %v, %+v", size, len(data), err, a)
		}
		if kept, err := bus.ListKept(t.Context()); err != nil || len(kept) != 1 {
			t.Errorf("%v is kept, %v", kept, err)
		}
		for range 2 {
			if err := bus.Unkeep(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if s := state(t, bus, queue.StreamKeep); s.Msgs != 0 {
			t.Errorf("%d messages are left in KEEP", s.Msgs)
		}
		if _, _, err := bus.Content(t.Context(), id, ref); !errors.Is(err, queue.ErrContentGone) {
			t.Errorf("got %v", err)
		}
		if err := bus.Keep(t.Context(), id, ref.Stream, ref.Seq); !errors.Is(err, queue.ErrContentGone) {
			t.Errorf("kept what is gone: %v", err)
		}
	}
}

// A copy that ended before its commit leaves chunks that nobody reads, and that
// go with the rest.
func TestKeepAfterACrash(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	id := mail.NewQueueIDs().Next()
	ref, want := message(t, bus, id, 3<<20)
	if _, err := bus.JS.Publish(t.Context(), queue.KeepChunkSubject(id), []byte("half a copy")); err != nil {
		t.Fatal(err)
	}
	if kept, err := bus.ListKept(t.Context()); err != nil || len(kept) != 1 {
		t.Errorf("the half copy is not listed: %v, %v", kept, err)
	}
	if err := bus.Keep(t.Context(), id, ref.Stream, ref.Seq); err != nil {
		t.Fatal(err)
	}
	purge(t, bus, ref.Stream)
	purge(t, bus, queue.BodyStream(queue.ShardOf(id)))
	_, content, err := bus.Content(t.Context(), id, ref)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(content); err != nil || !bytes.Equal(data, want) {
		t.Errorf("%d octets, %v", len(data), err)
	}
	if err := bus.Unkeep(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if s := state(t, bus, queue.StreamKeep); s.Msgs != 0 {
		t.Errorf("%d messages are left in KEEP", s.Msgs)
	}
}

// In a stream that was made anew, another message may lie at the sequence.
func TestContentOfAnother(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ids := mail.NewQueueIDs()
	ref, _ := message(t, bus, ids.Next(), 10)
	other := ids.Next()
	if _, _, err := bus.Content(t.Context(), other, ref); !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("got %v", err)
	}
	if err := bus.Keep(t.Context(), other, ref.Stream, ref.Seq); !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("kept another message: %v", err)
	}
}
