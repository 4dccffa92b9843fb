package delivery

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

func TestMemory(t *testing.T) {
	m := newMemory()
	a, b := path(t, "a@x.test"), path(t, "b@x.test")
	job := &event.Job{ID: "Q-0", Env: mail.Envelope{Recipients: []mail.Recipient{{Address: a}, {Address: b}}}}
	first := queue.Message{Seq: 7, Delivered: 1}
	step := func(name string, job *event.Job, msg queue.Message, want standing, wantDoubt bool) *settlement {
		t.Helper()
		got := m.begin(job, msg, nil)
		if got.standing != want || got.doubt != wantDoubt {
			t.Fatalf("%s: %+v", name, got)
		}
		return got.decided
	}
	step("new", job, first, fresh, false)
	m.judge(job, false)
	step("twice at a time", job, first, running, false)
	m.mark(job, true)
	m.end(job)
	step("handed back before the dot", job, queue.Message{Seq: 7, Delivered: 2}, fresh, false)
	m.turn(job, queue.Message{Seq: 7, Delivered: 2})
	m.end(job)
	step("turned away, its acknowledgement lost", job, queue.Message{Seq: 7, Delivered: 3}, settled, false)
	step("turned away, in a stream made anew", job, queue.Message{Seq: 7, Stored: time.Now(), Delivered: 1}, fresh, false)
	m.end(job)
	step("at its appointment", job, queue.Message{Seq: 9, Delivered: 1}, fresh, false)
	m.mark(job, false)
	m.end(job)
	if undone, doubt := m.rest(queue.PartitionOf("")); len(undone) != 0 || !doubt {
		t.Errorf("rest: %v %v", undone, doubt)
	}
	step("a run that panicked", job, queue.Message{Seq: 9, Delivered: 2}, fresh, true)
	s := &settlement{job: job, done: []smtp.ForwardPath{a}}
	m.decide(job, s)
	m.end(job)
	if undone, doubt := m.rest(queue.PartitionOf("")); len(undone) != 1 || doubt {
		t.Errorf("rest: %v %v", undone, doubt)
	}
	if got := step("sent, not stored", job, queue.Message{Seq: 9, Delivered: 3}, known, false); got != s {
		t.Fatal("another settlement")
	}
	m.store(job, s)
	m.end(job)
	step("acknowledgement lost", job, queue.Message{Seq: 9, Delivered: 4}, settled, false)
	if undone, doubt := m.rest(queue.PartitionOf("")); len(undone) != 0 || doubt {
		t.Errorf("rest: %v %v", undone, doubt)
	}

	next := *job
	next.Attempt = 1
	step("next attempt", &next, queue.Message{Seq: 12, Delivered: 1}, fresh, false)
	if rest := m.outstanding(&next); len(rest) != 1 || rest[0].Address != b {
		t.Errorf("outstanding: %v", rest)
	}
	m.end(&next)
	step("an old copy", job, queue.Message{Seq: 9, Delivered: 5}, settled, false)
	again := *job
	again.Drive = 1
	step("driven again", &again, queue.Message{Seq: 20, Delivered: 1}, fresh, false)
	m.end(&again)
	step("of a lower drive, which LEDGER voids", &next, queue.Message{Seq: 12, Delivered: 2}, fresh, false)
	other := &event.Job{ID: "Q-1"}
	if memo := m.begin(other, queue.Message{Seq: 8, Delivered: 2}, nil); memo.judged || memo.delivered != 2 {
		t.Errorf("a job that another had: %+v", memo)
	}
	m.end(other)
	if memo := m.begin(other, queue.Message{Seq: 8, Delivered: 3}, nil); memo.judged || memo.delivered != 2 {
		t.Errorf("again, not judged meanwhile: %+v", memo)
	}
	m.judge(other, false)
	m.end(other)
	if memo := m.begin(other, queue.Message{Seq: 8, Delivered: 4}, &tenure{}); memo.judged || memo.delivered != 4 {
		t.Errorf("in another tenure, when others may have had it: %+v", memo)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		under := &event.Job{ID: "under way"}
		m.begin(under, queue.Message{Delivered: 1}, nil)
		for i := range rememberMax + 1000 {
			job := &event.Job{ID: fmt.Sprint(i)}
			m.begin(job, queue.Message{Delivered: 1}, nil)
			m.end(job)
		}
		if len(m.jobs) > rememberMax+1 || len(m.order) > rememberMax+1 {
			t.Errorf("%d jobs, %d mentions", len(m.jobs), len(m.order))
		}
		if got := m.begin(under, queue.Message{Delivered: 2}, nil); got.standing != running {
			t.Errorf("the job under way was forgotten: %+v", got)
		}
		undone := &event.Job{ID: "not stored"}
		m.begin(undone, queue.Message{Delivered: 1}, nil)
		m.decide(undone, &settlement{job: undone})
		m.end(undone)
		time.Sleep(rememberFor)
		m.begin(&event.Job{ID: "last"}, queue.Message{Delivered: 1}, nil)
		if m.begin(undone, queue.Message{Delivered: 2}, nil).standing != known {
			t.Error("what was decided and not stored was forgotten")
		}
		if len(m.jobs) != 3 {
			t.Errorf("%d jobs after their time", len(m.jobs))
		}
	})
}
