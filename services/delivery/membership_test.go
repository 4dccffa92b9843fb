package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// member runs a membership; what it owns comes on the channel.
func member(t *testing.T, bus *queue.Bus, name string, ttl time.Duration) (m *membership, owned <-chan []int, stop func()) {
	t.Helper()
	m, err := join(t.Context(), bus, name, ttl)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	news, done := make(chan []int, 1000), make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx, func(mine []int) { news <- mine }, func() <-chan struct{} { return nil })
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return m, news, stop
}

// until waits for as many partitions.
func until(t *testing.T, owned <-chan []int, n int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case mine := <-owned:
			if len(mine) == n {
				return
			}
		case <-limit:
			t.Fatalf("never had %d partitions", n)
		}
	}
}

func TestMembership(t *testing.T) {
	bus := queuetest.Start(t)
	const ttl = 1500 * time.Millisecond
	_, first, _ := member(t, bus, "first", ttl)
	until(t, first, queue.Partitions)

	second, others, stop := member(t, bus, "second", ttl)
	until(t, first, queue.Partitions/2)
	until(t, others, queue.Partitions/2)

	// One who leaves hands over at once, while he still shows signs of life.
	stop()
	gone := second.leave(t.Context())
	until(t, first, queue.Partitions)
	if second.left() <= 0 {
		t.Error("one who leaves must be able to finish")
	}
	gone()

	// One who dies is missed after ttl.
	_, others, stop = member(t, bus, "third", ttl)
	until(t, first, queue.Partitions/2)
	until(t, others, queue.Partitions/2)
	stop()
	until(t, first, queue.Partitions)
}
