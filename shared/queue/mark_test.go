package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// ledgerRig is a LEDGER that a test writes, and sets back.
type ledgerRig struct {
	*testing.T
	bus *queue.Bus
}

func (r ledgerRig) write(n int) {
	r.Helper()
	for range n {
		if _, err := r.bus.JS.Publish(r.Context(), queue.LedgerSubject(event.StagePolicy, event.Entered), []byte("x")); err != nil {
			r.Fatal(err)
		}
	}
}

// anew makes another LEDGER.
func (r ledgerRig) anew() {
	r.Helper()
	err := r.bus.JS.DeleteStream(r.Context(), queue.StreamLedger)
	if err == nil {
		err = queue.Ensure(r.Context(), r.bus.JS, 1, time.Hour)
	}
	if err != nil {
		r.Fatal(err)
	}
}

// check checks LEDGER against its mark.
func (r ledgerRig) check(when string, rolledBack bool) {
	r.Helper()
	if err := r.bus.CheckLedger(r.Context()); errors.Is(err, queue.ErrRolledBack) != rolledBack || !rolledBack && err != nil {
		r.Errorf("%s: %v, want rolled back %v", when, err, rolledBack)
	}
}

func (r ledgerRig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	r := ledgerRig{t, queuetest.Start(t)}
	r.check("without a mark", false)
	r.must(r.bus.MarkLedger(t.Context()))
	r.check("empty", false)
	r.write(3)
	r.must(r.bus.MarkLedger(t.Context()))
	r.write(2)
	r.check("grown", false)
	r.anew()
	r.check("made anew", true)
	r.write(9)
	r.check("made anew and longer", true)
	if err := r.bus.MarkLedger(t.Context()); !errors.Is(err, queue.ErrRolledBack) {
		t.Errorf("the mark was moved: %v", err)
	}
	r.must(r.bus.AcceptLedger(t.Context()))
	r.check("accepted", false)
	r.write(1)
	r.must(r.bus.MarkLedger(t.Context()))
	if err := r.bus.JS.DeleteStream(t.Context(), queue.StreamLedger); err != nil {
		t.Fatal(err)
	}
	r.check("gone", true)
}

// TestAgrees: what a mark says is compared in each of its parts.
func TestAgrees(t *testing.T) {
	t.Parallel()
	r := ledgerRig{t, queuetest.Start(t)}
	r.write(3)
	end, err := r.bus.LedgerEnd(t.Context())
	r.must(err)
	if end.Seq != 3 || end.Time.IsZero() {
		t.Errorf("end %+v", end)
	}
	for name, c := range map[string]struct {
		change     func(*queue.Mark)
		rolledBack bool
	}{
		"the end":       {func(*queue.Mark) {}, false},
		"before":        {func(m *queue.Mark) { m.Seq, m.Time = 1, time.Time{} }, false},
		"beyond":        {func(m *queue.Mark) { m.Seq++ }, true},
		"another time":  {func(m *queue.Mark) { m.Time = m.Time.Add(time.Nanosecond) }, true},
		"another place": {func(m *queue.Mark) { m.Seq = 2 }, true},
		"another":       {func(m *queue.Mark) { m.Stream += "x" }, true},
	} {
		mark := end
		c.change(&mark)
		if err := r.bus.Agrees(t.Context(), mark); errors.Is(err, queue.ErrRolledBack) != c.rolledBack || !c.rolledBack && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What left LEDGER for its age is not held against it.
	s, err := r.bus.JS.Stream(t.Context(), queue.StreamLedger)
	r.must(err)
	short := s.CachedInfo().Config
	short.MaxMsgs = 1
	if _, err := r.bus.JS.UpdateStream(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	r.write(2)
	r.must(r.bus.Agrees(t.Context(), queue.Mark{Stream: end.Stream, Seq: 2, Time: end.Time.Add(-time.Hour)}))
}

// TestAccuse: who knows that LEDGER was further makes everybody know, unless
// that was accepted since.
func TestAccuse(t *testing.T) {
	t.Parallel()
	r := ledgerRig{t, queuetest.Start(t)}
	r.write(3)
	r.must(r.bus.MarkLedger(t.Context()))
	end, err := r.bus.LedgerEnd(t.Context())
	r.must(err)
	further := queue.Mark{Stream: end.Stream, Seq: 7, Time: time.Now().UTC()}
	for range 2 {
		r.must(r.bus.Accuse(t.Context(), further))
		r.check("accused", true)
	}
	r.must(r.bus.AcceptLedger(t.Context()))
	r.must(r.bus.Accuse(t.Context(), further))
	r.check("accused of what was accepted", false)
	r.write(1)
	r.must(r.bus.MarkLedger(t.Context())) // the mark remembers when
	r.must(r.bus.Accuse(t.Context(), further))
	r.check("accused once more", false)
	further.Time = time.Now().UTC().Add(time.Minute)
	r.must(r.bus.Accuse(t.Context(), further))
	r.check("accused of what came later", true)
	kv, err := r.bus.JS.KeyValue(t.Context(), queue.BucketSettings)
	r.must(err)
	if _, err := kv.Get(t.Context(), "ledger-mark"); errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Error("the mark is not where it is said to be")
	}
}
