package signer

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtp"
)

func path(local, domain string) smtp.ForwardPath {
	return smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: domain}}
}

// rig is a Signer with keys in a directory of the test.
type rig struct {
	*Signer
	t    *testing.T
	keys []config.DKIMKey
}

func start(t *testing.T) *rig {
	t.Helper()
	made, err := MakeKeys(filepath.Join(t.TempDir(), "dkim"), "relay.campus.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := OpenKeys(&config.Config{DKIM: config.DKIM{Domain: "relay.campus.test", Keys: made}}, queuetest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return &rig{&Signer{bus: queuetest.Start(t), keys: keys, metrics: newMetrics(prometheus.NewRegistry())}, t, made}
}

// admit stores a content and is the event that policy would make of it.
func (r *rig) admit(content string, to ...smtp.ForwardPath) *event.Admitted {
	r.t.Helper()
	e := &event.Admitted{
		Schema: event.Schema, QueueID: mail.NewQueueIDs().Next(), AcceptedAt: time.Now().UTC(), Class: mail.ClassAlert,
		MessageID: "<1@prn>", SubmissionID: "t-1", Device: "prn.campus.test", Owner: "chem",
	}
	e.Env.ReversePath.Address = path("prn", "campus.test").Address
	for _, rcpt := range to {
		e.Env.Recipients = append(e.Env.Recipients, mail.Recipient{Address: rcpt})
	}
	w := r.bus.NewContent(r.t.Context(), e.QueueID)
	if _, err := w.Write([]byte(content)); err != nil {
		r.t.Fatal(err)
	}
	var err error
	if e.Content, err = w.Commit(&event.Accepted{Class: e.Class, Env: e.Env}); err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *rig) handle(e *event.Admitted) error {
	return r.Handle(r.t.Context(), queue.Message{Data: event.Encode(e), Seq: 1})
}

// jobs is what DELIVER has, with the subjects.
func (r *rig) jobs() (jobs []*event.Job, subjects []string) {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamDeliver)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		j, err := event.Decode[event.Job](m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		jobs, subjects = append(jobs, j), append(subjects, m.Subject)
	}
	return jobs, subjects
}

func (r *rig) records() (records []*event.Record) {
	r.t.Helper()
	s, err := r.bus.JS.Stream(r.t.Context(), queue.StreamLedger)
	if err != nil {
		r.t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		all, err := event.DecodeRecords(m.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		records = append(records, all...)
	}
	return records
}

// One job for each destination, signed; run twice, stored once.
func TestHandle(t *testing.T) {
	r := start(t)
	e := r.admit(letter, path("x", "example.test"), path("anna", "campus.test"), path("y", "example.test"))
	for range 2 {
		if err := r.handle(e); err != nil {
			t.Fatal(err)
		}
	}
	jobs, subjects := r.jobs()
	if len(jobs) != 2 {
		t.Fatalf("%d jobs, want 2", len(jobs))
	}
	for i, j := range jobs {
		if subjects[i] != queue.ReadySubject(mail.LaneAlert, queue.PartitionOf(j.Destination)) || j.Content != e.Content {
			t.Errorf("job %s on %s with %+v", j.ID, subjects[i], j.Content)
		}
		keys, err := r.Signer.keys.Active()
		if err != nil {
			t.Fatal(err)
		}
		if got := verify(t, j.Prepend+letter, keys...); got != 2 {
			t.Errorf("%d good signatures", got)
		}
	}
	records := r.records()
	if len(records) != 1 || records[0].Outcome != event.Signed || records[0].QueueID != e.QueueID || len(records[0].Signatures) != 2 ||
		!strings.HasPrefix(records[0].Signatures[0], "d=relay.campus.test s=") || !strings.HasSuffix(records[0].Signatures[0], " a=rsa-sha256") {
		t.Errorf("records %+v", records)
	}
}

// The same message gives the same jobs, in the order of its destinations.
func TestJobs(t *testing.T) {
	e := &event.Admitted{QueueID: "0123456789ABCDEF", Class: mail.ClassScan, MessageID: "<1>", SubmissionID: "t", Device: "d", Owner: "o", ReportOf: "R", Drive: 2}
	e.Env = mail.Envelope{Body8Bit: true}
	e.Env.ReversePath.Address = path("prn", "campus.test").Address
	for _, rcpt := range []smtp.ForwardPath{path("b", "two.test"), path("a", "one.test"), path("a", "two.test"), path("z", "[192.0.2.1]")} {
		e.Env.Recipients = append(e.Env.Recipients, mail.Recipient{Address: rcpt, Original: "o"})
	}
	got := jobs(e, "DKIM")
	if !reflect.DeepEqual(got, jobs(e, "DKIM")) {
		t.Error("not the same twice")
	}
	var shape []string
	for _, j := range got {
		s := j.ID + " " + j.Destination + ":"
		for _, rcpt := range j.Env.Recipients {
			s += " " + rcpt.Address.String()
		}
		shape = append(shape, s)
		if j.Class != e.Class || j.MessageID != "<1>" || j.SubmissionID != "t" || j.Device != "d" || j.Owner != "o" || j.Report != "R" ||
			j.Drive != 2 || j.Prepend != "DKIM" || !j.Env.Body8Bit || j.Env.ReversePath != e.Env.ReversePath || j.Attempt != 0 || identity(&j) != j.ID+"/0/drive-2" {
			t.Errorf("job %+v", j)
		}
	}
	if want := "0123456789ABCDEF-0 two.test: b@two.test a@two.test\n0123456789ABCDEF-1 one.test: a@one.test\n0123456789ABCDEF-2 [192.0.2.1]: z@[192.0.2.1]"; strings.Join(shape, "\n") != want {
		t.Errorf("jobs:\n%s\nwant:\n%s", strings.Join(shape, "\n"), want)
	}
}

// A key that cannot be read delays: nothing goes out unsigned, and once it is
// back the message is signed.
func TestMissingKey(t *testing.T) {
	r := start(t)
	away := r.keys[1].File + ".away"
	if err := os.Rename(r.keys[1].File, away); err != nil {
		t.Fatal(err)
	}
	r.Signer.keys.loaded = nil // as after a start
	e := r.admit(letter, path("x", "example.test"))
	if err := r.handle(e); err == nil || !strings.HasPrefix(err.Error(), "again in 30s") {
		t.Fatalf("got %v, want later", err)
	}
	if jobs, _ := r.jobs(); len(jobs) != 0 || len(r.records()) != 0 {
		t.Fatalf("%d jobs went out unsigned", len(jobs))
	}
	if err := os.Rename(away, r.keys[1].File); err != nil {
		t.Fatal(err)
	}
	if err := r.handle(e); err != nil {
		t.Fatal(err)
	}
	if jobs, _ := r.jobs(); len(jobs) != 1 || strings.Count(jobs[0].Prepend, "DKIM-Signature:") != 2 {
		t.Errorf("%d jobs", len(jobs))
	}
}

// A message that policy admitted for nobody makes no job and no record.
func TestNobody(t *testing.T) {
	r := start(t)
	if err := r.handle(r.admit(letter)); err != nil {
		t.Fatal(err)
	}
	if jobs, _ := r.jobs(); len(jobs) != 0 || len(r.records()) != 0 {
		t.Errorf("%d jobs, %d records", len(jobs), len(r.records()))
	}
}

// What cannot be read is no reason to send something else.
func TestUnreadable(t *testing.T) {
	r := start(t)
	if err := r.Handle(t.Context(), queue.Message{Data: []byte("junk")}); err == nil || !strings.HasPrefix(err.Error(), "unreadable event: ") {
		t.Errorf("junk: %v", err)
	}
	e := r.admit(letter, path("x", "example.test"))
	e.Content.Seq = 99
	if err := r.handle(e); !errors.Is(err, queue.ErrContentGone) {
		t.Errorf("content gone: %v", err)
	}
	if jobs, _ := r.jobs(); len(jobs) != 0 {
		t.Errorf("%d jobs", len(jobs))
	}
}

// A content in chunks is signed as one.
func TestLargeContent(t *testing.T) {
	r := start(t)
	large := letter + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 5000)
	e := r.admit(large, path("x", "example.test"))
	if err := r.handle(e); err != nil {
		t.Fatal(err)
	}
	keys, err := r.Signer.keys.Active()
	if err != nil {
		t.Fatal(err)
	}
	jobs, _ := r.jobs()
	if got := verify(t, jobs[0].Prepend+large, keys...); got != 2 {
		t.Errorf("%d good signatures", got)
	}
}
