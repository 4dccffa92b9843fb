package ledger

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/timetest"
)

// deferred are the jobs of DELIVER by name: when they are due, zero for those
// that are ready.
func deferred(t testing.TB, bus *queue.Bus) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	if err := bus.ListJobs(t.Context(), func(e queue.JobEntry) error { out[e.Job.ID] = e.Next; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// leave has the server leave a job behind that was due longer ago than recovery
// waits: its time comes while the store is full. Then there is room again.
func leave(t testing.TB, r script) (job string, due time.Time) {
	t.Helper()
	body, err := r.bus.JS.Stream(t.Context(), queue.BodyStream(0))
	if err != nil {
		t.Fatal(err)
	}
	chunk := []byte(strings.Repeat("x", 256<<10))
	fill := func() (last uint64) {
		for {
			at, err := r.bus.Publish(t.Context(), queue.BodySubject(0), rand.Text(), chunk)
			if errors.Is(err, queue.ErrFull) {
				return last
			}
			if err != nil {
				t.Fatal(err)
			}
			last = at.Seq
		}
	}
	for n, last := 0, fill(); due.IsZero(); n++ { // until the server looks after that
		if err := body.DeleteMsg(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("STUCK%d", n)
		r.job(id, -overdueAfter-time.Minute, "a@x.test")
		last = fill()
		tried := time.Now()
		timetest.Await(t, "the server has tried", func() bool { return time.Since(tried) > 2*time.Second })
		job = id + "-0"
		due = deferred(t, r.bus)[job]
	}
	if err := body.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.job("NEXT", time.Second, "c@x.test")
	timetest.Await(t, "the server fires again", func() bool { return deferred(t, r.bus)["NEXT-0"].IsZero() })
	if deferred(t, r.bus)[job].IsZero() {
		t.Fatal("the server fires what it could not store: nothing is left to mend")
	}
	return job, due
}

// small is a bus whose store is soon full.
func small(t testing.TB) *queue.Bus {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Options{Dir: t.TempDir(), Purpose: "test", MaxStore: 8 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, keepLedger); err != nil {
		t.Fatal(err)
	}
	return bus
}

// A deferred job whose time came while the store was full is left where it is
// by the server, for ever. Recovery makes it ready, and leaves alone what is not
// late.
func TestOverdueJob(t *testing.T) {
	t.Parallel()
	bus := small(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	job, due := leave(t, r.script)
	r.job("LATER", time.Hour, "b@x.test")
	for _, c := range []struct {
		what string
		now  time.Time
		held bool
	}{
		{"not late enough", due.Add(overdueAfter - time.Second), false},
		{"nothing may move", due.Add(overdueAfter), true},
	} {
		r.holding.Store(c.held)
		if err := r.expedite(t.Context(), c.now); err != nil || deferred(t, bus)[job].IsZero() {
			t.Errorf("%s: made ready, %v", c.what, err)
		}
	}
	r.holding.Store(false)
	for range 2 {
		if err := r.expedite(t.Context(), due.Add(overdueAfter)); err != nil {
			t.Fatal(err)
		}
		left := deferred(t, bus)
		if _, there := left[job]; !there || !left[job].IsZero() || left["LATER-0"].IsZero() {
			t.Errorf("%v", left)
		}
	}
}

// Who leads looks for them by itself.
func TestOverdueJobIsLookedFor(t *testing.T) {
	t.Parallel()
	bus := small(t)
	r := newRecoveryRig(t, bus, t.TempDir())
	r.stop()
	job, _ := leave(t, r.script)
	start(t, bus, t.TempDir())
	timetest.Await(t, "the job is ready", func() bool { return deferred(t, bus)[job].IsZero() })
}
