package ledger

import (
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// A consumer of LEDGER that lives and gives nothing is given up: the books go
// on with another. A paused one stands for it.
func TestSilentConsumer(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	start(t, bus, t.TempDir())
	silence(t, bus)
	script{t, bus}.record(accepted("M1", "a@example.org"))
	timetest.Await(t, "the books have the record", func() bool {
		rows := 0
		err := books.Client(bus).Export(t.Context(), books.Filter{}, func(books.Row) error { rows++; return nil })
		return err == nil && rows == 1
	})
}

// silence pauses the consumers of LEDGER, when there is one.
func silence(t *testing.T, bus *queue.Bus) {
	t.Helper()
	ledger, err := bus.JS.Stream(t.Context(), queue.StreamLedger)
	if err != nil {
		t.Fatal(err)
	}
	paused := 0
	timetest.Await(t, "LEDGER is followed", func() bool {
		for name := range ledger.ConsumerNames(t.Context()).Name() {
			if _, err := bus.JS.PauseConsumer(t.Context(), queue.StreamLedger, name, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			paused++
		}
		return paused > 0
	})
}
