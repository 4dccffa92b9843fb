package ledger

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// enterPHI writes the accepted record of health data.
func (r *purgeRig) enterPHI(m letter, rcpts ...string) {
	r.t.Helper()
	r.record(with(accepted(string(m.id), rcpts...), func(e *event.Record) {
		e.At = time.Now()
		e.Message.AcceptedAt, e.Message.Content, e.Message.Size, e.Message.PHI = e.At, m.ref, m.ref.Size, true
	}))
}

// erase makes a round of the eraser once the index has all there is.
func (r *purgeRig) erase(e *eraser) {
	r.t.Helper()
	if _, err := r.ledger.caughtUp(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if err := e.round(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// Health data goes when its last recipient is settled, from between other mail;
// not before, and not what policy has not acknowledged.
func TestEraseAtOnce(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	e := &eraser{Ledger: r.ledger}
	before, plain := r.queued(100), r.settled(100)
	small, big, half := r.store(100), r.store(large), r.store(200)
	r.enterPHI(small, "a@example.org")
	r.enterPHI(big, "a@example.org")
	r.enterPHI(half, "a@example.org", "b@example.org")
	r.erase(e)
	r.expect("MAIL", small, big, half)
	r.settle(small, 0, "a@example.org")
	r.settle(big, 0, "a@example.org")
	r.settle(half, 0, "a@example.org")
	for range 2 {
		r.erase(e)
		r.expect("", small, big)
		r.expect("MAIL", before, plain, half)
		if n := r.chunks(); n != 0 {
			t.Errorf("%d chunks are left", n)
		}
	}
	r.settle(half, 0, "b@example.org")
	unread := r.submit(100)
	r.enterPHI(unread, "a@example.org")
	r.settle(unread, 0, "a@example.org")
	r.erase(e)
	r.expect("", half)
	r.expect("MAIL", unread)
	r.read(queue.MailStream(0), policyDurable)
	r.erase(e)
	r.expect("", unread)
	// Another instance that leads finds nothing left to do.
	r.erase(&eraser{Ledger: r.ledger})
	r.expect("MAIL", before, plain)
	// The purge of the rest goes on over the gaps.
	r.after(retention + time.Minute)
	r.expect("", plain)
	r.expect("KEEP", before)
}

// What was moved to KEEP does not wait either.
func TestEraseKept(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	m, plain := r.store(large), r.queued(100)
	r.enterPHI(m, "a@example.org")
	r.after(retention + time.Minute)
	r.expect("KEEP", m, plain)
	r.settle(m, retention, "a@example.org")
	r.settle(plain, retention, "a@example.org")
	if _, err := r.ledger.caughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The next round, though it is none of those that look into KEEP.
	r.rounds = 1
	if err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expect("", m)
	r.expect("KEEP", plain)
}

// Nor what was moved there by a round that did not look into KEEP.
func TestEraseKeptSince(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	m := r.store(100)
	r.enterPHI(m, "a@example.org")
	r.clock = func() time.Time { return time.Now().Add(retention + time.Minute) }
	r.rounds = 1
	if err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expect("KEEP", m)
	r.settle(m, retention, "a@example.org")
	if _, err := r.ledger.caughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expect("", m)
}

// While LEDGER is in doubt nothing is erased.
func TestEraseWaitsForRecovery(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	m := r.store(100)
	r.enterPHI(m, "a@example.org")
	r.settle(m, 0, "a@example.org")
	r.ledger.holding.Store(true)
	e := &eraser{Ledger: r.ledger}
	r.erase(e)
	r.expect("MAIL", m)
	r.ledger.holding.Store(false)
	r.erase(e)
	r.expect("", m)
}

// What is erased is not on the disk any more.
func TestErasedFromTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bus := queuetest.Connect(t, queuetest.Server(t, dir))
	if err := queue.Ensure(t.Context(), bus.JS, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	r := newPurgeRig(t, bus)
	const secret = "diagnosis of a patient"
	m := letter{id: r.id()}
	w := bus.NewContent(t.Context(), m.id)
	if _, err := w.Write([]byte(secret)); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.ref, err = w.Commit(&event.Accepted{At: time.Now(), Env: envelope("a@example.org")}); err != nil {
		t.Fatal(err)
	}
	behind := r.store(10) // the last message of a block may be cut off
	if !readable(t, dir, secret) {
		t.Fatal("it never was")
	}
	if err := bus.Erase(context.WithoutCancel(t.Context()), m.id, m.ref.Stream, m.ref.Seq); err != nil {
		t.Fatal(err)
	}
	if readable(t, dir, secret) || !r.inMail(behind) {
		t.Error("it still is, or what is behind it is not")
	}
}

func readable(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the server moves files
		}
		data, err := os.ReadFile(path)
		found = found || err == nil && strings.Contains(string(data), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
