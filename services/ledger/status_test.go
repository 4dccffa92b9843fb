package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// The status says what the books do not do as they should: an index that
// cannot be written, recipients that do not add up, and content that should be
// gone.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRecoveryRig(t, queuetest.Start(t), t.TempDir())
	r.retention = time.Hour
	status := func() *books.Status {
		t.Helper()
		s, err := r.status(t.Context(), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	id := r.accept("a@example.org").id
	if s := status(); s.Residual != 0 || s.Stuck != "" || s.Overdue != nil {
		t.Errorf("nothing is wrong yet: %+v", s)
	}
	r.watchBalance(t.Context(), &watchedBalance{}) // nobody has it in hand
	r.retention = -time.Hour
	if s := status(); s.Residual != 1 || s.Overdue == nil || s.Overdue.Stream != queue.MailStream(queue.ShardOf(id)) || s.Overdue.Seq != 1 || s.Overdue.Seconds < 3600 {
		t.Errorf("%+v, %+v", s, s.Overdue)
	}
	// The volume of the index is full, until it is not.
	if _, err := r.index.conn.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("a%d@example.org", i)
	}
	r.record(accepted(string(r.ids.Next()), many...))
	timetest.Await(t, "the status says that the index is stuck", func() bool { return strings.Contains(status().Stuck, "full") })
	if _, err := r.index.conn.ExecContext(t.Context(), "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the index follows again", func() bool { s := status(); return s.Stuck == "" && s.Lag() == 0 })
}
