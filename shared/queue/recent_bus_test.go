package queue_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Signer and delivery read what ingress stored in the same process without the
// store; whoever comes then asks it.
func TestRecentContent(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	bus.Recent = queue.NewRecent(1 << 20)
	want := random(1, 10<<10)
	const id = "1JMDV7YR800AQBXA"
	ref := store(t, bus, id, want)
	s, err := bus.JS.Stream(t.Context(), ref.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), ref.Seq); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		content, err := bus.Open(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(content); err != nil || string(got) != string(want) {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
	if _, err := bus.Open(t.Context(), id, ref); !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("the third: %v", err)
	}
}

// What had no room when it came is read from the store once for both.
func TestReadOnceForBoth(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	want := random(1, 10<<10)
	const id = "1JMDV7YR800AQBXA"
	ref := store(t, bus, id, want)
	bus.Recent = queue.NewRecent(1 << 20)
	read := func(open func(context.Context, mail.QueueID, event.ContentRef) (io.ReadCloser, error)) {
		t.Helper()
		content, err := open(t.Context(), id, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(content); err != nil || string(got) != string(want) {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
	read(bus.Open) // by one who is the last
	read(bus.OpenFirst)
	s, err := bus.JS.Stream(t.Context(), ref.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), ref.Seq); err != nil {
		t.Fatal(err)
	}
	read(bus.Open)
	if _, err := bus.Open(t.Context(), id, ref); !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("the third: %v", err)
	}
}
