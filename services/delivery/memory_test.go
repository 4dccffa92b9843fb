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
		s, decided, doubt := m.begin(job, msg)
		if s != want || doubt != wantDoubt {
			t.Fatalf("%s: %v, doubt %v", name, s, doubt)
		}
		return decided
	}
	step("new", job, first, fresh, false)
	step("twice at a time", job, first, running, false)
	m.mark(job, true)
	m.end(job)
	step("handed back before the dot", job, queue.Message{Seq: 7, Delivered: 2}, fresh, false)
	m.turn(job, 7)
	m.end(job)
	step("turned away, its acknowledgement lost", job, queue.Message{Seq: 7, Delivered: 3}, settled, false)
	step("at its appointment", job, queue.Message{Seq: 9, Delivered: 1}, fresh, false)
	m.mark(job, false)
	m.end(job)
	step("a run that panicked", job, queue.Message{Seq: 9, Delivered: 2}, fresh, true)
	s := &settlement{done: []smtp.ForwardPath{a}}
	m.decide(job, s)
	m.end(job)
	if got := step("sent, not stored", job, queue.Message{Seq: 9, Delivered: 3}, known, false); got != s {
		t.Fatal("another settlement")
	}
	m.store(job, s)
	m.end(job)
	step("acknowledgement lost", job, queue.Message{Seq: 9, Delivered: 4}, settled, false)

	next := *job
	next.Attempt = 1
	step("next attempt", &next, queue.Message{Seq: 12, Delivered: 1}, fresh, false)
	if rest, _ := m.Outstanding(t.Context(), &next); len(rest) != 1 || rest[0].Address != b {
		t.Errorf("outstanding: %v", rest)
	}
	m.end(&next)
	step("an old copy", job, queue.Message{Seq: 9, Delivered: 5}, settled, false)
	again := *job
	again.Drive = 1
	step("driven again", &again, queue.Message{Seq: 20, Delivered: 1}, fresh, false)
	m.end(&again)
	step("of a lower drive", &next, queue.Message{Seq: 12, Delivered: 2}, settled, false)
	other := &event.Job{ID: "Q-1"}
	step("of a worker that died", other, queue.Message{Seq: 8, Delivered: 2}, fresh, true)
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		under := &event.Job{ID: "under way"}
		m.begin(under, queue.Message{Delivered: 1})
		for i := range rememberMax + 1000 {
			job := &event.Job{ID: fmt.Sprint(i)}
			m.begin(job, queue.Message{Delivered: 1})
			m.end(job)
		}
		if len(m.jobs) > rememberMax+1 || len(m.order) > rememberMax+1 {
			t.Errorf("%d jobs, %d mentions", len(m.jobs), len(m.order))
		}
		if s, _, _ := m.begin(under, queue.Message{Delivered: 2}); s != running {
			t.Errorf("the job under way was forgotten: %v", s)
		}
		time.Sleep(rememberFor)
		m.begin(&event.Job{ID: "last"}, queue.Message{Delivered: 1})
		if len(m.jobs) != 2 {
			t.Errorf("%d jobs after their time", len(m.jobs))
		}
	})
}
