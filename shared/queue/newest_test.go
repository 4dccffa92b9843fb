package queue_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// The newest come first, all of them once, with gaps in between and over more
// than one window.
func TestListNewest(t *testing.T) {
	bus := queuetest.Start(t)
	list := func(stop int) (seqs []uint64) {
		t.Helper()
		enough := errors.New("enough")
		err := bus.ListNewest(t.Context(), queue.StreamRefused, func(m *jetstream.RawStreamMsg) error {
			seqs = append(seqs, m.Sequence)
			if len(seqs) == stop {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			t.Fatal(err)
		}
		return seqs
	}
	if got := list(0); len(got) != 0 {
		t.Fatalf("an empty stream has %v", got)
	}
	const n = 5000
	for i := range n {
		if _, err := bus.JS.PublishAsync(queue.RefusedSubject("rcpt"), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 499 {
			<-bus.JS.PublishAsyncComplete()
		}
	}
	s, err := bus.JS.Stream(t.Context(), queue.StreamRefused)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []uint64{1, 2, 2904, 2953, n} {
		if err := s.DeleteMsg(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	got := list(0)
	if len(got) != n-5 || got[0] != n-1 || got[len(got)-1] != 3 {
		t.Fatalf("%d messages, from %d to %d", len(got), got[0], got[len(got)-1])
	}
	for i := 1; i < len(got); i++ {
		if got[i] >= got[i-1] {
			t.Fatalf("%d after %d", got[i], got[i-1])
		}
	}
	if got := list(3); len(got) != 3 {
		t.Errorf("%d messages after enough", len(got))
	}
}
