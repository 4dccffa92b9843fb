package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/service"
)

// history is some mail in every state.
func history(s script, from, to_ int) {
	for n := from; n < to_; n++ {
		id, rcpt := fmt.Sprintf("M%05d", n), fmt.Sprintf("u%d@d%d.test", n, n%7)
		s.record(accepted(id, rcpt))
		switch n % 5 {
		case 0:
			s.record(outcome(event.Delivered, id, 1, said(rcpt, 250, "ok")))
		case 1:
			s.record(outcome(event.Delayed, id, 1, said(rcpt, 451, "busy")))
			s.record(outcome(event.Delivered, id, 2, said(rcpt, 250, "ok")))
		case 2:
			s.record(outcome(event.Failed, id, 1, said(rcpt, 550, "unknown")))
			s.record(outcome(event.Bounced, id, 0, to(rcpt)))
		case 3:
			s.record(outcome(event.Delayed, id, 1, said(rcpt, 451, "busy")))
		}
	}
}

func TestExportFields(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	s.record(accepted("LATE", "a@example.org"))
	s.record(with(outcome(event.Delivered, "LATE", 2, said("a@example.org", 250, "ok")), func(r *event.Record) { r.Recipients[0].PossibleDuplicate = true }))
	s.record(accepted("OPEN", "b@example.org"))
	start(t, bus, t.TempDir())
	got := asJSON(t, export(t, bus, books.Filter{}))
	want := `[
 {
  "queue_id": "LATE",
  "message_id": "<LATE@campus.test>",
  "submission_id": "token-LATE",
  "sender": "prn@campus.test",
  "recipient": "a@example.org",
  "device": "prn-1",
  "owner": "chem",
  "state": "delivered",
  "remote_mta": "mx.test [192.0.2.1]",
  "status": "2.1.1",
  "diagnostic": "250 2.1.1 ok",
  "attempts": 2,
  "possible_duplicate": true,
  "late_accept": true,
  "accepted_at": "2026-11-20T12:00:00Z",
  "settled_at": "2026-11-20T12:02:00Z",
  "actor": "",
  "reason": ""
 },
 {
  "queue_id": "OPEN",
  "message_id": "<OPEN@campus.test>",
  "submission_id": "token-OPEN",
  "sender": "prn@campus.test",
  "recipient": "b@example.org",
  "device": "prn-1",
  "owner": "chem",
  "state": "queued",
  "remote_mta": "",
  "status": "",
  "diagnostic": "",
  "attempts": 0,
  "possible_duplicate": false,
  "late_accept": false,
  "accepted_at": "2026-11-20T12:00:00Z",
  "settled_at": null,
  "actor": "",
  "reason": ""
 }
]`
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestExportFilter(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	history(s, 0, 20)
	physics := func(r *event.Record) { r.Message.Owner, r.Message.AcceptedAt = "physics", noon.Add(time.Hour) }
	s.record(with(accepted("P", "p@example.org"), physics))
	start(t, bus, t.TempDir())
	for _, c := range []struct {
		name   string
		filter books.Filter
		want   int
	}{
		{"all", books.Filter{}, 21},
		{"delivered", books.Filter{States: []string{"delivered"}}, 8},
		{"delivered or bounced", books.Filter{States: []string{"delivered", "bounced"}}, 12},
		{"queued", books.Filter{States: []string{books.StateQueued}}, 9},
		{"owner", books.Filter{Owner: "physics"}, 1},
		{"destination", books.Filter{Destination: "d3.test"}, 3},
		{"since", books.Filter{Since: noon.Add(time.Minute)}, 1},
		{"since is included", books.Filter{Since: noon}, 21},
		{"until is not", books.Filter{Until: noon}, 0},
		{"between", books.Filter{Since: noon, Until: noon.Add(time.Hour)}, 20},
	} {
		if got := export(t, bus, c.filter); len(got) != c.want {
			t.Errorf("%s: %d rows, want %d", c.name, len(got), c.want)
		}
	}
	err := books.Client(bus).Export(t.Context(), books.Filter{States: []string{"gone"}}, nil)
	if !errors.Is(err, books.ErrQuestion) {
		t.Errorf("unknown state: %v", err)
	}
}

// TestExportMany: more rows than fit a window of parts, and a message with
// more recipients than fit a page.
func TestExportMany(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	const messages, recipients = 4, 1300
	want := map[string]bool{}
	for n := range messages {
		var rcpts []string
		for i := range recipients {
			rcpts = append(rcpts, fmt.Sprintf("%d.%d@example.org", n, i))
			want[rcpts[i]] = true
		}
		s.record(accepted(fmt.Sprint("M", n), rcpts...))
	}
	start(t, bus, t.TempDir())
	got := export(t, bus, books.Filter{})
	for _, r := range got {
		delete(want, r.Recipient)
	}
	if len(got) != messages*recipients || len(want) != 0 {
		t.Errorf("%d rows, %d recipients missing", len(got), len(want))
	}
	// A client that loses interest does not hold the service up.
	enough := errors.New("enough")
	if err := books.Client(bus).Export(t.Context(), books.Filter{}, func(books.Row) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// TestResume: a service that was stopped goes on from its checkpoint, and one
// whose file is gone makes the same again. So does another instance.
func TestResume(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s, dir := script{t, bus}, t.TempDir()
	history(s, 0, 100)
	stop := start(t, bus, dir)
	first := export(t, bus, books.Filter{})
	stop()

	history(s, 100, 150)
	s.record(outcome(event.Delivered, "M00003", 2, said("u3@d3.test", 250, "ok"))) // was queued when it stopped
	stop = start(t, bus, dir)
	resumed := export(t, bus, books.Filter{})
	if len(first) != 100 || len(resumed) != 150 {
		t.Fatalf("%d rows, then %d", len(first), len(resumed))
	}
	if resumed[3].State != "delivered" || resumed[3].Attempts != 2 || resumed[3].Owner != "chem" {
		t.Errorf("settled after the stop: %+v", resumed[3])
	}
	checkTally(t, dir)
	stop()

	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(filepath.Join(dir, "ledger.db"+suffix))
	}
	stop = start(t, bus, dir)
	if again := export(t, bus, books.Filter{}); asJSON(t, again) != asJSON(t, resumed) {
		t.Error("an index made again from LEDGER differs")
	}
	stop()

	start(t, bus, t.TempDir())
	if other := export(t, bus, books.Filter{}); asJSON(t, other) != asJSON(t, resumed) {
		t.Error("another instance answers differently")
	}
}

// checkTally compares the running balance with counting every recipient.
func checkTally(t *testing.T, dir string) {
	t.Helper()
	x, _, err := openIndex(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	const counted = `SELECT owner, destination, state, count(*) FROM recipients JOIN messages ON id = message GROUP BY 1, 2, 3
		UNION ALL SELECT owner, destination, 10, count(*) FROM recipients JOIN messages ON id = message WHERE accepted GROUP BY 1, 2
		UNION ALL SELECT '', '', 14, count(*) FROM messages`
	var differ int
	err = x.reader.QueryRowContext(t.Context(), "WITH counted AS ("+counted+") SELECT (SELECT count(*) FROM (SELECT * FROM counted EXCEPT SELECT * FROM tally)) + (SELECT count(*) FROM (SELECT * FROM tally EXCEPT SELECT * FROM counted))").Scan(&differ)
	if err != nil || differ != 0 {
		t.Errorf("%d rows of the tally differ from what is counted, %v", differ, err)
	}
}

func TestTwoInstances(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	history(s, 0, 60)
	for n := 3; n < 60; n += 5 {
		s.job(fmt.Sprintf("M%05d", n), time.Hour, fmt.Sprintf("u%d@d%d.test", n, n%7))
	}
	for n := 4; n < 60; n += 5 {
		s.job(fmt.Sprintf("M%05d", n), 0, fmt.Sprintf("u%d@d%d.test", n, n%7))
	}
	start(t, bus, t.TempDir())
	start(t, bus, t.TempDir())
	var answers []string
	for range 12 { // either of them answers
		b := balance(t, bus, soon)
		if !b.Balances() || b.Total.Accepted != 60 || b.Total.Queued != 24 {
			t.Fatalf("got %s", asJSON(t, b))
		}
		b.AsOf = time.Time{}
		answers = append(answers, asJSON(t, b)+asJSON(t, export(t, bus, books.Filter{})))
	}
	if len(slices.Compact(answers)) != 1 {
		t.Error("two instances answer differently")
	}
}

// TestOneFile: two instances do not share a file.
func TestOneFile(t *testing.T) {
	t.Parallel()
	bus, dir := queuetest.Start(t), t.TempDir()
	start(t, bus, dir)
	env := &service.Env{Config: &config.Config{Relay: config.Relay{Data: dir}}, Bus: bus, Log: queuetest.Log(t), Metrics: prometheus.NewRegistry()}
	err := Run(t.Context(), env)
	if !errors.Is(err, errInUse) || service.ExitCode(err) != service.ExitConflict {
		t.Errorf("second instance on a file: %v", err)
	}
}

// TestOtherStream: an index of another LEDGER is made again, also when it
// happens while the service runs.
func TestOtherStream(t *testing.T) {
	t.Parallel()
	bus, dir := queuetest.Start(t), t.TempDir()
	s := script{t, bus}
	history(s, 0, 10)
	stop := start(t, bus, dir)
	if got := export(t, bus, books.Filter{}); len(got) != 10 {
		t.Fatalf("%d rows", len(got))
	}
	stop()
	if err := bus.JS.DeleteStream(t.Context(), queue.StreamLedger); err != nil {
		t.Fatal(err)
	}
	if err := queue.Ensure(t.Context(), bus.JS, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	history(s, 10, 12)
	start(t, bus, dir)
	if got := export(t, bus, books.Filter{}); len(got) != 2 || got[0].QueueID != "M00010" {
		t.Errorf("index of the new stream: %s", asJSON(t, got))
	}
}

// TestDamagedFile: a file that is no index is replaced.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"no database": strings.Repeat("This is not a database. ", 1000),
		"empty":       "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus, dir := queuetest.Start(t), t.TempDir()
			history(script{t, bus}, 0, 5)
			if err := os.WriteFile(filepath.Join(dir, "ledger.db"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, bus, dir)
			if got := export(t, bus, books.Filter{}); len(got) != 5 {
				t.Errorf("%d rows", len(got))
			}
		})
	}
}

// TestOtherVersion: so is one of another schema version.
func TestOtherVersion(t *testing.T) {
	dir := t.TempDir()
	x, fresh, err := openIndex(t.Context(), dir)
	if err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	if _, err := x.conn.ExecContext(t.Context(), "CREATE TABLE old (x); PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	x.close()
	x, fresh, err = openIndex(t.Context(), dir)
	if err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	x.close()
	x, fresh, err = openIndex(t.Context(), dir)
	if err != nil || fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	x.close()
}

// TestUnreadable: a record that cannot be read is counted and passed over.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	history(s, 0, 1)
	for _, data := range []string{"no record", `{"v": 99}`, `{"v": 1}`} {
		if err := s.publish("ledger.policy.accepted", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	history(s, 1, 2)
	start(t, bus, t.TempDir())
	if got := export(t, bus, books.Filter{}); len(got) != 2 {
		t.Errorf("%d rows", len(got))
	}
	st, err := books.Client(bus).Status(t.Context())
	if err != nil || st.Unreadable != 3 || st.Lag() != 0 || st.Messages != 2 || st.States["delivered"] != 2 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestNobodyAnswers: without a ledger there is an error at once.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	if _, err := books.Client(bus).Status(t.Context()); !errors.Is(err, books.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// TestBehind: an export does not show old books as if they were current.
func TestBehind(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	history(script{t, bus}, 0, 1)
	l := &Ledger{bus: bus, position: newPosition()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.caughtUp(ctx); !errors.Is(err, books.ErrBehind) {
		t.Errorf("got %v", err)
	}
}

// TestStreamReplacedWhileRunning: the follower notices that LEDGER is another.
func TestStreamReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	history(s, 0, 3)
	start(t, bus, t.TempDir())
	if got := export(t, bus, books.Filter{}); len(got) != 3 {
		t.Fatalf("%d rows", len(got))
	}
	if err := bus.JS.DeleteStream(t.Context(), queue.StreamLedger); err != nil {
		t.Fatal(err)
	}
	if err := queue.Ensure(t.Context(), bus.JS, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	history(s, 3, 10)
	// An answer from before it noticed says that it is behind; ask again.
	for {
		var got []books.Row
		err := books.Client(bus).Export(t.Context(), books.Filter{}, func(r books.Row) error { got = append(got, r); return nil })
		if err != nil && !errors.Is(err, books.ErrBehind) {
			t.Fatal(err)
		}
		if len(got) == 7 && got[0].QueueID == "M00003" {
			return
		}
	}
}
