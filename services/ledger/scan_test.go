package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// Who looked through a stream leaves nobody there: each consumer costs every
// message that is stored after it.
func TestListingLeavesNoConsumer(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	want := map[mail.QueueID]bool{}
	ids := mail.NewQueueIDs()
	for len(want) < 20 {
		id := ids.Next()
		s.mail(string(id), "u@at-once.test")
		want[id] = true
	}
	enough := errors.New("enough")
	for n := range queue.Shards {
		stream := queue.MailStream(n)
		if err := mailFrom(t.Context(), bus, stream, 1, func(id mail.QueueID, _ uint64) error {
			if !want[id] {
				t.Errorf("%s lists %s", stream, id)
			}
			delete(want, id)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		mailFrom(t.Context(), bus, stream, 1, func(mail.QueueID, uint64) error { return enough })
		at, err := bus.JS.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if left := at.CachedInfo().State.Consumers; left != 0 {
			t.Errorf("%d consumers of %s are left", left, stream)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

// A scan that gets no more of what is there says so, and does not end as if it
// had seen all.
func TestScanBrokenOff(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	ids := mail.NewQueueIDs()
	stream := queue.MailStream(0)
	for n := 0; n < 3; {
		if id := ids.Next(); queue.ShardOf(id) == 0 {
			s.mail(string(id), "u@at-once.test")
			n++
		}
	}
	seen := 0
	err := scanHeads(t.Context(), bus, stream, 1, mostHeads, func(head) (bool, error) {
		seen++
		at, err := bus.JS.Stream(t.Context(), stream)
		if err != nil {
			return false, err
		}
		for name := range at.ConsumerNames(t.Context()).Name() {
			if _, err := at.PauseConsumer(t.Context(), name, time.Now().Add(time.Hour)); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if !errors.Is(err, errScan) || seen != 1 {
		t.Errorf("ended after %d of 3 with %v", seen, err)
	}
}
