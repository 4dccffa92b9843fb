package queue_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// TestManyContentsSideBySide reads more contents at once than chunks are read
// ahead, in turns: whoever is not read ahead for comes to its end as well, and
// those that are closed early make room.
func TestManyContentsSideBySide(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	want := random(1, 4*queue.MaxInline+17)
	id := mail.NewQueueIDs().Next()
	ref := store(t, bus, id, want)
	for round := range 2 {
		var readers []io.ReadCloser
		got := make([]bytes.Buffer, 100)
		for range got {
			_, content, err := bus.Content(t.Context(), id, ref)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, content)
		}
		for i, content := range readers {
			if i%2 == round {
				content.Close()
			}
		}
		for done := 0; done < len(readers)/2; {
			for i, content := range readers {
				if i%2 == round || got[i].Len() == len(want) {
					continue
				}
				if _, err := io.CopyN(&got[i], content, 100_000); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				if got[i].Len() == len(want) {
					done++
				}
			}
		}
		for i, content := range readers {
			if i%2 != round && !bytes.Equal(got[i].Bytes(), want) {
				t.Errorf("content %d came back changed", i)
			}
			content.Close()
		}
	}
}

// TestContentErrorIsFinal: a reader that could not get one chunk does not go
// on with the next.
func TestContentErrorIsFinal(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	id := mail.NewQueueIDs().Next()
	ref := store(t, bus, id, random(2, 5*queue.MaxInline))
	ctx, cancel := context.WithCancel(t.Context())
	_, content, err := bus.Content(ctx, id, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if _, err := io.CopyN(io.Discard, content, queue.MaxInline+1); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, first := io.Copy(io.Discard, content)
	n, second := io.Copy(io.Discard, content)
	if !errors.Is(first, context.Canceled) || !errors.Is(second, context.Canceled) || n > 0 {
		t.Errorf("errors %v, then %v with %d octets", first, second, n)
	}
}

// TestContentOfSmallPieces: the buffers of a content grow as it arrives.
func TestContentOfSmallPieces(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	ids := mail.NewQueueIDs()
	for i, size := range []int{64 << 10, 64<<10 + 1, 256 << 10, 256<<10 + 1, queue.MaxInline - 1, queue.MaxInline, queue.MaxInline + 256<<10, queue.MaxInline + 256<<10 + 1} {
		id, want := ids.Next(), random(uint64(i), size)
		w := bus.NewContent(t.Context(), id)
		if _, err := io.CopyBuffer(w, struct{ io.Reader }{iotest.HalfReader(bytes.NewReader(want))}, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		ref, err := w.Commit(&event.Accepted{})
		if err != nil {
			t.Fatal(err)
		}
		_, content, err := bus.Content(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(content, want); err != nil {
			t.Errorf("%d octets: %v", size, err)
		}
		content.Close()
	}
}

func random(seed uint64, size int) []byte {
	out := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(out)
	return out
}

func store(t *testing.T, bus *queue.Bus, id mail.QueueID, content []byte) event.ContentRef {
	t.Helper()
	w := bus.NewContent(t.Context(), id)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	ref, err := w.Commit(&event.Accepted{})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
