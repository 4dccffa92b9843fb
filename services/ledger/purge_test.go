package ledger

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

func TestPurge(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	old := []letter{r.settled(100), r.settled(large), r.settled(0)}
	r.after(retention - time.Minute)
	r.expect("MAIL", old...)
	for range 2 {
		r.after(retention + time.Minute)
		r.expect("", old...)
		if n := r.chunks(); n != 0 {
			t.Errorf("%d chunks are left", n)
		}
	}
	// Sequences go on where they were.
	if next := r.settled(10); next.ref.Seq != old[2].ref.Seq+1 {
		t.Errorf("after %d comes %d", old[2].ref.Seq, next.ref.Seq)
	}
}

// What must stay in MAIL stays with what is behind it; what is before it goes.
func TestPurgeStops(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*purgeRig) letter{
		"not in the books": func(r *purgeRig) letter { return r.store(large) },
		"settled, but never accepted": func(r *purgeRig) letter {
			m := r.store(large)
			r.settle(m, 0, "a@example.org")
			return m
		},
		"not acknowledged by policy": func(r *purgeRig) letter {
			m := r.submit(large)
			r.enter(m, "a@example.org")
			r.settle(m, 0, "a@example.org")
			return m
		},
		"without an id": func(r *purgeRig) letter {
			content := append([]byte("x"), event.Encode(&event.Accepted{Schema: event.Schema})...)
			ack, err := r.script.bus.JS.Publish(r.t.Context(), queue.MailSubject(mail.LaneNormal, 0), content)
			if err != nil {
				r.t.Fatal(err)
			}
			r.read(queue.MailStream(0), policyDurable)
			return letter{ref: event.ContentRef{Stream: queue.MailStream(0), Seq: ack.Sequence}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPurgeRig(t, queuetest.Start(t))
			before := r.settled(large)
			blocking := stop(r)
			behind := r.submit(large)
			r.enter(behind, "a@example.org")
			r.settle(behind, 0, "a@example.org")
			for _, share := range []int64{10, 90} { // also when room is short
				r.room = func(context.Context) (queue.Room, error) { return queue.Room{Used: share << 20, Limit: 100 << 20}, nil }
				r.after(10 * retention)
				if r.inMail(before) || !r.inMail(blocking) || !r.inMail(behind) || r.inKeep(blocking) {
					t.Errorf("before %v, blocking %v, behind %v in MAIL", r.inMail(before), r.inMail(blocking), r.inMail(behind))
				}
			}
			if blocking.content != nil {
				r.expect("MAIL", blocking)
			}
		})
	}
}

// What outlives the retention is moved, and deleted when its own is over.
func TestPurgeKeeps(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	first, small, big := r.settled(large), r.queued(100), r.queued(large)
	half := r.store(200)
	r.enter(half, "a@example.org", "b@example.org")
	r.settle(half, 0, "a@example.org")
	late := r.store(large)
	r.enter(late, "a@example.org")
	r.settle(late, retention-time.Hour, "a@example.org")
	last := r.settled(large)
	for range 2 {
		r.after(retention + time.Minute)
		r.expect("", first, last)
		r.expect("KEEP", small, big, half, late)
		if n := r.chunks(); n != 0 {
			t.Errorf("%d chunks are left", n)
		}
	}
	for _, m := range []letter{small, big} {
		r.settle(m, 2*retention, "a@example.org")
	}
	r.settle(half, 2*retention, "b@example.org")
	r.after(2*retention + time.Hour)
	r.expect("", late)
	r.expect("KEEP", small, big, half)
	for range 2 {
		r.after(3*retention + time.Hour)
		r.expect("", small, big, half)
	}
	if s := r.state(queue.StreamKeep); s.Msgs != 0 {
		t.Errorf("%d messages are left in KEEP", s.Msgs)
	}
}

// Between the copy and the purge the ledger may end.
func TestPurgeAfterACrash(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	m := r.queued(large)
	if err := r.script.bus.Keep(t.Context(), m.id, m.ref.Stream, m.ref.Seq); err != nil {
		t.Fatal(err)
	}
	kept := r.state(queue.StreamKeep).Msgs
	r.expect("MAILKEEP", m)
	r.after(retention + time.Minute)
	r.expect("KEEP", m)
	if again := r.state(queue.StreamKeep).Msgs; again != kept {
		t.Errorf("%d messages in KEEP, were %d", again, kept)
	}
	// Kept, settled, and still in MAIL: both go.
	next := r.queued(large)
	if err := r.script.bus.Keep(t.Context(), next.id, next.ref.Stream, next.ref.Seq); err != nil {
		t.Fatal(err)
	}
	for _, m := range []letter{m, next} {
		r.settle(m, 0, "a@example.org")
	}
	r.after(retention + time.Minute)
	r.expect("", m, next)
}

// What KEEP has of messages that the books do not know stays.
func TestForgetKnowsNothing(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	m := r.store(100)
	if err := r.script.bus.Keep(t.Context(), m.id, m.ref.Stream, m.ref.Seq); err != nil {
		t.Fatal(err)
	}
	r.after(10 * retention)
	r.expect("MAILKEEP", m)
}

func TestPurgePassesCanaries(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	canary := func() {
		if err := r.publish("mail.canary.0", nil); err != nil {
			t.Fatal(err)
		}
	}
	canary()
	m := r.settled(100)
	canary()
	r.read(queue.MailStream(0), policyDurable)
	r.after(retention + time.Minute)
	r.expect("", m)
	if s := r.state(queue.MailStream(0)); s.Msgs != 0 {
		t.Errorf("%d messages are left", s.Msgs)
	}
}

// Chunks that belong to no message go with the rest, but not while their
// message may be under way, or unread by policy.
func TestPurgeOrphans(t *testing.T) {
	t.Parallel()
	chunk := func(r *purgeRig) {
		t.Helper()
		if _, err := r.script.bus.Publish(t.Context(), queue.BodySubject(0), string(r.id())+"/0", []byte("chunk")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name      string
		retention time.Duration
		after     time.Duration
		share     int64 // of the store, in percent
		unread    bool
		left      int
	}{
		{"an upload under way", time.Minute, orphanAge - time.Minute, 10, false, 1},
		{"an upload under way while room is short", time.Minute, orphanAge - time.Minute, 90, false, 1},
		{"within the retention", retention, retention - time.Minute, 10, false, 1},
		{"within the retention while room is short", retention, retention - time.Minute, 90, false, 0},
		{"garbage", retention, retention + time.Minute, 10, false, 0},
		{"old, and policy has not read MAIL", retention, 10 * retention, 90, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newPurgeRig(t, queuetest.Start(t))
			r.retention = tt.retention
			r.room = func(context.Context) (queue.Room, error) { return queue.Room{Used: tt.share, Limit: 100}, nil }
			chunk(r)
			if tt.unread {
				r.submit(10)
			}
			r.after(tt.after)
			if n := r.chunks(); n != tt.left {
				t.Errorf("%d chunks are left, want %d", n, tt.left)
			}
		})
	}
}

// While room is short settled content goes early, and what is in its way is
// moved where that gives back more than it takes.
func TestPurgeEarly(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	short := queue.Room{Used: 90 << 20, Limit: 100 << 20}
	r.room = func(context.Context) (queue.Room, error) { return short, nil }
	waiting := r.queued(large)
	r.after(0)
	r.expect("MAIL", waiting)
	little := r.settled(large / 2)
	r.after(0)
	r.expect("MAIL", waiting, little)
	rest := []letter{r.settled(large), r.settled(large)}
	r.after(0)
	r.expect("KEEP", waiting)
	r.expect("", append(rest, little)...)
	if n := r.chunks(); n != 0 {
		t.Errorf("%d chunks are left", n)
	}
	r.settle(waiting, 0, "a@example.org")
	r.after(0)
	r.expect("", waiting)
	// With room again, the retention holds.
	short.Used = 10 << 20
	next := r.settled(large)
	r.after(retention - time.Minute)
	r.expect("MAIL", next)
}

// What the signer has not acknowledged stays in ADMITTED, and what is younger
// than a repeated publish is recognised.
func TestPurgeAdmitted(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	left := func() int { return int(r.state(queue.StreamAdmitted).Msgs) }
	for i := range 3 {
		r.script.admitted(fmt.Sprintf("M%d", i), "a@example.org")
	}
	r.after(0)
	r.after(admittedAge + time.Second)
	if left() != 3 {
		t.Errorf("%d events are left of 3 that nobody signed", left())
	}
	r.read(queue.StreamAdmitted, signerDurable+string(mail.LaneNormal))
	r.script.admitted("M3", "a@example.org")
	r.after(admittedAge + 2*time.Second)
	if left() != 1 {
		t.Errorf("%d events are left, want the one that is new", left())
	}
	r.read(queue.StreamAdmitted, signerDurable+string(mail.LaneNormal))
	r.after(admittedAge + 3*time.Second)
	if left() != 1 {
		t.Errorf("%d events are left before their time", left())
	}
	r.after(3 * admittedAge)
	if left() != 0 {
		t.Errorf("%d events are left", left())
	}
}

// Nothing moves while recovery is held.
func TestPurgeIsHeld(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	gone, waiting := r.settled(large), r.queued(large)
	r.script.admitted("M0", "a@example.org")
	r.read(queue.StreamAdmitted, signerDurable+string(mail.LaneNormal))
	r.ledger.holding.Store(true)
	r.after(0)
	r.after(10 * retention)
	r.expect("MAIL", gone, waiting)
	r.ledger.holding.Store(false)
	r.after(10 * retention)
	r.expect("", gone)
	r.expect("KEEP", waiting)
}

// Many messages are more than one step, and moves more than one request.
func TestPurgeInSteps(t *testing.T) {
	t.Parallel()
	r := newPurgeRig(t, queuetest.Start(t))
	var waiting []letter
	for range 3 * keptAbreast {
		waiting = append(waiting, r.submit(100))
	}
	r.read(queue.MailStream(0), policyDurable)
	for _, m := range waiting {
		r.enter(m, "a@example.org")
	}
	r.after(retention + time.Minute)
	r.expect("KEEP", waiting...)
	if n := testutil.ToFloat64(r.metrics.kept); n != float64(len(waiting)) {
		t.Errorf("counted %v", n)
	}
	for _, m := range waiting {
		r.settle(m, 0, "a@example.org")
	}
	r.after(retention + time.Minute)
	r.expect("", waiting...)
}

// A store that fills up with settled content takes mail again after a round,
// and gives the disk back.
func TestPurgeMakesRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := natsd.Start(ctx, natsd.Options{Dir: dir, Purpose: "test", MaxStore: 96 << 20, Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 400*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	r := newPurgeRig(t, bus)
	r.room = bus.Room
	waiting := r.queued(large)
	full := func() bool {
		room, err := bus.Room(t.Context())
		if err != nil || room.Limit != 96<<20 {
			t.Fatalf("%+v, %v", room, err)
		}
		return !room.Takes(large)
	}
	var highest int64
	for range 4 {
		for !full() {
			r.settled(large)
			r.settled(100 << 10)
		}
		r.after(0)
		if full() {
			t.Fatal("no room after the purge")
		}
		highest = max(highest, onDisk(t, dir))
	}
	r.expect("KEEP", waiting)
	// A block goes as a whole: of each stream one may be there that is used in
	// part.
	r.settle(waiting, 0, "a@example.org")
	r.after(retention + time.Minute)
	left := onDisk(t, dir)
	t.Logf("at most %d octets on disk, %d after the last purge", highest, left)
	if left > 8<<20 || highest < left {
		t.Errorf("%d octets are left on disk of %d", left, highest)
	}
}

// onDisk is what the content takes there, in octets.
func onDisk(t *testing.T, dir string) (octets int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(path, "/MAIL_") && !strings.Contains(path, "/BODY_") && !strings.Contains(path, "/KEEP/") {
			return nil // what vanishes meanwhile does not count
		}
		if info, err := d.Info(); err == nil {
			octets += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return octets
}
