package ledger

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// soon is the wait of counts that will not become equal.
const soon = 300 * time.Millisecond

func balance(t *testing.T, bus *queue.Bus, wait time.Duration) *books.Balance {
	t.Helper()
	b, err := books.Client(bus).Balance(t.Context(), books.BalanceQuestion{Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBalance(t *testing.T) {
	const a, b = "a@example.org", "b@example.org"
	// letGo makes the consumer of a stage acknowledge what there is.
	letGo := func(s script, stream, durable, filter string) {
		c, err := s.bus.JS.CreateOrUpdateConsumer(s.t.Context(), stream, jetstream.ConsumerConfig{Durable: durable, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			s.t.Fatal(err)
		}
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := m.DoubleAck(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		happened func(script)
		want     books.BalanceRow // totals
		residual int
		arriving int
		problem  books.Problem
	}{
		{"nothing", func(script) {}, books.BalanceRow{}, 0, 0, ""},
		{"in MAIL, entered", func(s script) { s.mail("M", a, b); s.record(accepted("M", a, b)) },
			books.BalanceRow{Accepted: 2, Queued: 2}, 0, 0, ""},
		{"in MAIL, not entered", func(s script) { s.mail("M", a, b) },
			books.BalanceRow{}, 0, 1, ""},
		{"in MAIL, acknowledged, and nowhere else", func(s script) {
			ref := s.mail("M", a)
			s.record(accepted("M", a))
			letGo(s, ref.Stream, policyDurable, "")
		}, books.BalanceRow{Accepted: 1, Difference: 1}, 1, 0, books.ProblemLost},
		{"in ADMITTED", func(s script) { s.record(accepted("M", a, b)); s.admitted("M", a, b) },
			books.BalanceRow{Accepted: 2, Queued: 2}, 0, 0, ""},
		{"in ADMITTED, acknowledged, and nowhere else", func(s script) {
			s.record(accepted("M", a))
			s.admitted("M", a)
			letGo(s, queue.StreamAdmitted, "signer-normal", "admitted.normal.*")
		}, books.BalanceRow{Accepted: 1, Difference: 1}, 1, 0, books.ProblemLost},
		{"ready and deferred", func(s script) {
			s.record(accepted("M", a))
			s.record(accepted("N", b))
			s.job("M", 0, a)
			s.job("N", time.Hour, b)
		}, books.BalanceRow{Accepted: 2, Queued: 2}, 0, 0, ""},
		{"failed and before its report", func(s script) {
			s.record(accepted("M", a))
			s.record(outcome(event.Failed, "M", 1, to(a)))
			s.failure("M", a)
		}, books.BalanceRow{Accepted: 1, Queued: 1}, 0, 0, ""},
		{"in several streams at once", func(s script) {
			s.mail("M", a)
			s.record(accepted("M", a))
			s.admitted("M", a)
			s.job("M", 0, a)
			s.failure("M", a)
		}, books.BalanceRow{Accepted: 1, Queued: 1}, 0, 0, ""},
		{"every terminal state", func(s script) {
			for id, o := range map[string]event.Outcome{"D": event.Delivered, "B": event.Bounced, "E": event.Expired, "R": event.Removed, "X": event.Discarded} {
				s.record(accepted(id, a))
				s.record(outcome(o, id, 0, to(a)))
			}
		}, books.BalanceRow{Accepted: 5, Delivered: 1, Bounced: 1, Expired: 1, Removed: 1, Discarded: 1}, 0, 0, ""},
		{"settled, its job not acknowledged yet", func(s script) {
			s.record(accepted("M", a))
			s.job("M", 0, a)
			s.record(outcome(event.Delivered, "M", 1, to(a)))
		}, books.BalanceRow{Accepted: 1, Delivered: 1}, 0, 0, ""},
		{"one recipient settled, the job for the other", func(s script) {
			s.record(accepted("M", a, b))
			s.record(outcome(event.Delivered, "M", 1, to(a)))
			s.job("M", time.Hour, b)
		}, books.BalanceRow{Accepted: 2, Delivered: 1, Queued: 1}, 0, 0, ""},
		{"lost", func(s script) { s.record(accepted("M", a)) },
			books.BalanceRow{Accepted: 1, Difference: 1}, 1, 0, books.ProblemLost},
		{"one of two lost", func(s script) { s.record(accepted("M", a, b)); s.job("M", 0, a) },
			books.BalanceRow{Accepted: 2, Queued: 1, Difference: 1}, 1, 0, books.ProblemLost},
		{"a job of mail that was never accepted", func(s script) { s.job("M", 0, a) },
			books.BalanceRow{Queued: 1, Difference: -1}, 1, 0, books.ProblemUnknown},
		{"settled without having been accepted", func(s script) { s.record(outcome(event.Delivered, "M", 1, to(a))) },
			books.BalanceRow{Delivered: 1, Difference: -1}, 1, 0, books.ProblemUnaccepted},
		{"two errors do not hide each other", func(s script) {
			s.record(accepted("M", a))
			s.job("N", 0, a)
		}, books.BalanceRow{Accepted: 1, Queued: 1}, 2, 0, books.ProblemLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bus := queuetest.Start(t)
			c.happened(script{t, bus})
			start(t, bus, t.TempDir())
			got := balance(t, bus, soon)
			if got.Total != c.want || got.Residual != c.residual || got.Arriving != c.arriving {
				t.Errorf("got %s", asJSON(t, got))
			}
			if (c.problem == "") != (len(got.Offending) == 0) || c.problem != "" && got.Offending[0].Problem != c.problem {
				t.Errorf("offending %+v, want %q", got.Offending, c.problem)
			}
		})
	}
}

// TestBalanceWaits: work in flight is waited for, not reported.
func TestBalanceWaits(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	start(t, bus, t.TempDir())
	s.record(accepted("M", "a@example.org"))
	go s.record(outcome(event.Delivered, "M", 1, to("a@example.org")))
	if got := balance(t, bus, 0); !got.Balances() || got.Total.Delivered != 1 {
		t.Errorf("got %s", asJSON(t, got))
	}
	ref := s.mail("N", "b@example.org")
	go func() {
		s.admitted("N", "b@example.org")
		s.record(with(accepted("N", "b@example.org"), func(r *event.Record) { r.Message.Content = ref }))
	}()
	if got := balance(t, bus, 0); !got.Balances() || got.Arriving != 0 || got.Total.Queued != 1 {
		t.Errorf("got %s", asJSON(t, got))
	}
}

// TestBalanceRows: rows are by owner and destination.
func TestBalanceRows(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	physics := func(r *event.Record) { r.Message.Owner = "physics" }
	s.record(with(accepted("M", "a@example.org", "b@example.com"), physics))
	s.record(outcome(event.Delivered, "N", 1, to("a@example.org"))) // before its owner is known
	s.record(accepted("N", "a@example.org"))
	s.job("M", 0, "a@example.org")
	s.job("M", 0, "b@example.com")
	start(t, bus, t.TempDir())
	got := balance(t, bus, soon)
	want := []books.BalanceRow{
		{Owner: "chem", Destination: "example.org", Accepted: 1, Delivered: 1},
		{Owner: "physics", Destination: "example.com", Accepted: 1, Queued: 1},
		{Owner: "physics", Destination: "example.org", Accepted: 1, Queued: 1},
	}
	if asJSON(t, got.Rows) != asJSON(t, want) || !got.Balances() {
		t.Errorf("got %s", asJSON(t, got))
	}
}

// TestBalanceTrimmed: what happened before the first record that LEDGER still
// has is not held against it.
func TestBalanceTrimmed(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	s.record(accepted("OLD", "a@example.org"))
	stream, err := bus.JS.Stream(t.Context(), queue.StreamLedger)
	if err != nil {
		t.Fatal(err)
	}
	short := stream.CachedInfo().Config
	short.MaxMsgs = 1
	if _, err := bus.JS.UpdateStream(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	s.record(outcome(event.Delivered, "0000000000000000", 1, to("a@example.org"))) // an id of the year 2020
	start(t, bus, t.TempDir())
	if got := balance(t, bus, soon); got.Residual != 0 || got.Total.Delivered != 0 {
		t.Errorf("got %s", asJSON(t, got))
	}
}
