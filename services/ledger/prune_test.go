package ledger

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/shared/event"
)

// TestPrune: what LEDGER has forgotten is forgotten, unless somebody is still
// queued; the running balance follows.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	x, _, err := openIndex(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var records []stored
	add := func(r event.Record) {
		records = append(records, stored{place: placeOf(uint64(len(records)+1), 0), record: &r})
	}
	const messages = 2*pruneBatch + 10
	for n := range messages {
		add(accepted(fmt.Sprintf("M%05d", n), "a@example.org"))
	}
	const open = 7 // is never settled
	for n := range messages {
		if n != open {
			add(outcome(event.Delivered, fmt.Sprintf("M%05d", n), 1, to("a@example.org")))
		}
	}
	at, err := x.foldBatch(t.Context(), checkpoint{stream: "x"}, records)
	if err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		var rcpts int
		if err := x.conn.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM recipients)").Scan(&n, &rcpts); err != nil {
			t.Fatal(err)
		}
		if n != rcpts {
			t.Errorf("%d messages but %d recipients are left", n, rcpts)
		}
		return n
	}
	if err := x.prune(t.Context(), messages+1); err != nil { // every accepted record is gone
		t.Fatal(err)
	}
	if n := left(); n != messages {
		t.Errorf("%d messages left, want all that have a record", n)
	}
	if err := x.prune(t.Context(), at.seq-2); err != nil { // three delivered records are left
		t.Fatal(err)
	}
	if n := left(); n != 4 {
		t.Errorf("%d messages left, want the open one and three", n)
	}
	x.close()
	checkTally(t, dir)
}
