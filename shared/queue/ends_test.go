package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// endLine is a record of one job as it stands in LEDGER.
func endLine(id mail.QueueID, job string) []byte {
	return event.Encode(&event.Record{
		Schema: event.Schema, At: time.Now(), Stage: event.StageDelivery, Outcome: event.Delivered, QueueID: id, Job: job, Attempt: 1,
		Recipients: []event.RecipientRecord{{
			Address: smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "x.test"}},
			Reply:   smtp.Reply{Code: 250, Text: `"queue_id":"FALSE"`},
		}},
	})
}

func TestIndex(t *testing.T) {
	ids := mail.NewQueueIDs()
	one, two, three := ids.Next(), ids.Next(), ids.Next()
	job := func(id mail.QueueID, n, drive int) *event.Job {
		return &event.Job{QueueID: id, ID: fmt.Sprintf("%s-%d", id, n), Drive: drive}
	}
	x, now := newIndex(), time.Now()
	batch := append(append(endLine(one, string(one)+"-0"), '\n'), endLine(two, string(two)+"-1")...)
	for seq, m := range []struct {
		subject string
		data    []byte
	}{
		{"ledger.delivery.delivered", batch},
		{"ledger.delivery.failed", endLine(one, string(one)+"-0")},
		{"ledger.bounce.bounced", endLine(three, "")},
		{"ledger.ledger.driven", endLine(two, string(two)+"-9")},
	} {
		if !x.add(m.subject, m.data, uint64(seq+1), now) {
			t.Errorf("%s cannot be read", m.subject)
		}
	}
	if x.add("ledger.bounce.bounced", []byte(`{"reply":"queue_id"}`), 5, now) {
		t.Error("a record without a message can be read")
	}
	for _, tt := range []struct {
		job  *event.Job
		want string
	}{
		{job(one, 0, 0), "[1 2]"}, {job(one, 1, 0), "[]"}, {job(one, 5, 1), "[1 2]"},
		{job(two, 1, 0), "[4 1]"}, {job(two, 0, 0), "[4]"}, {job(three, 3, 0), "[3]"},
		{&event.Job{QueueID: three, ID: "unheard of"}, "[3]"}, {job(ids.Next(), 0, 0), "[]"},
	} {
		if got := fmt.Sprint(x.of(tt.job)); got != tt.want {
			t.Errorf("%s under drive %d: %s, want %s", tt.job.ID, tt.job.Drive, got, tt.want)
		}
	}
	if !x.since.IsZero() || x.from != 0 {
		t.Errorf("nothing was forgotten: %v %d", x.since, x.from)
	}
}

// The index forgets by age and by number, and knows since when it is whole.
func TestIndexIsBounded(t *testing.T) {
	ids := mail.NewQueueIDs()
	x, begin := newIndex(), time.Now()
	first := ids.Next()
	x.add("ledger.delivery.delivered", endLine(first, string(first)+"-0"), 1, begin)
	x.add("ledger.delivery.failed", endLine(first, string(first)+"-0"), 2, begin.Add(time.Minute))
	id := ids.Next()
	x.add("ledger.delivery.delivered", endLine(id, string(id)+"-0"), 3, begin.Add(SettledFor+time.Second))
	if got := x.of(&event.Job{QueueID: first, ID: string(first) + "-0"}); len(got) != 1 || got[0] != 2 {
		t.Errorf("after an hour: %v", got)
	}
	if !x.since.Equal(begin) || x.from != 2 {
		t.Errorf("whole since %v, from %d", x.since.Sub(begin), x.from)
	}
	var line []byte
	for n := range uint64(SettledMost) {
		id := ids.Next()
		line = fmt.Appendf(line[:0], `{"v":1,"queue_id":"%s","job":"%s-0"}`, id, id)
		x.add("ledger.delivery.delivered", line, n+4, begin.Add(SettledFor+time.Second))
	}
	if len(x.order) != SettledMost || len(x.known) != SettledMost || len(x.more) != 0 {
		t.Errorf("%d records, %d jobs, %d with more", len(x.order), len(x.known), len(x.more))
	}
	if !x.since.Equal(begin.Add(SettledFor+time.Second)) || x.from != 4 {
		t.Errorf("whole since %v, from %d", x.since.Sub(begin), x.from)
	}
}

func TestCovers(t *testing.T) {
	s := &Settled{found: newIndex()}
	since := time.Now()
	s.found.since = since
	for at, want := range map[time.Duration]bool{-time.Hour: false, 0: false, settledSkew: false, settledSkew + time.Second: true} {
		if s.Covers(since.Add(at)) != want {
			t.Errorf("%v after the start: %v", at, !want)
		}
	}
}
