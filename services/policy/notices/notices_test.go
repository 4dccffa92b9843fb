package notices

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

var made = time.Date(2026, 11, 6, 15, 0, 0, 0, time.UTC)

// rig is a sender whose books say what a test wants.
type rig struct {
	*Sender
	t        *testing.T
	env      *service.Env
	arriving map[mail.QueueID]bool // in MAIL
	booked   []books.Row
	down     error
}

func startRig(t *testing.T) *rig {
	t.Helper()
	bus := queuetest.Start(t)
	reg, err := store.Open(t.Context(), bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- reg.Follow(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	cfg := config.Defaults()
	cfg.Relay.Hostname = "relay.campus.test"
	r := &rig{t: t, arriving: map[mail.QueueID]bool{}, env: &service.Env{Config: cfg, Bus: bus, Log: queuetest.Log(t), Instance: "test"}}
	r.Sender = New(r.env, reg)
	r.again()
	return r
}

// again is another process that takes over.
func (r *rig) again() {
	r.Sender = New(r.env, r.registry)
	r.sent = map[string]map[mail.QueueID]bool{}
	r.trace = func(_ context.Context, text string) (*books.Trace, error) {
		if r.down != nil {
			return nil, r.down
		}
		if r.arriving[mail.QueueID(text)] {
			return &books.Trace{}, nil
		}
		return nil, books.ErrNotFound
	}
	r.export = func(_ context.Context, f books.Filter, each func(books.Row) error) error {
		for _, row := range r.booked {
			if row.SubmissionID == f.Submission {
				if err := each(row); err != nil {
					return err
				}
			}
		}
		return r.down
	}
}

func (r *rig) ask(n *registry.Notice) {
	r.t.Helper()
	n.Made = made
	n.Stamp(registry.Change{By: "tester", Reason: "test", At: made})
	if err := r.registry.Put(r.t.Context(), n); err != nil {
		r.t.Fatal(err)
	}
	timetest.Await(r.t, "the notice is known", func() bool { _, ok := r.registry.Snapshot().Notice(n.ID); return ok })
}

// stored are the messages in MAIL by their recipients.
func (r *rig) stored() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for n := range queue.Shards {
		stream := queue.MailStream(n)
		s, err := r.bus.JS.Stream(r.t.Context(), stream)
		if err != nil {
			r.t.Fatal(err)
		}
		for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
			data, err := r.bus.Read(r.t.Context(), stream, seq)
			if err != nil {
				continue
			}
			a, _, err := queue.DecodeMail(data)
			if err != nil {
				r.t.Fatal(err)
			}
			content, err := r.bus.Open(r.t.Context(), a.QueueID, a.Ref(stream, seq))
			if err != nil {
				r.t.Fatal(err)
			}
			text, err := io.ReadAll(content)
			if err != nil {
				r.t.Fatal(err)
			}
			to := a.Env.Recipients[0].Address.String()
			if out[to] != "" || len(a.Env.Recipients) != 1 || !a.Env.ReversePath.IsNull() || !a.Facts.Report || a.SubmissionID == "" {
				r.t.Errorf("%s again, or not as it should be: %+v", to, a)
			}
			out[to] = string(text)
		}
	}
	return out
}

func maintenance() *registry.Notice {
	return &registry.Notice{
		ID: "maintenance", Subject: "Maintenance", Text: "No mail on Sunday.\n", Effective: "2026-12-06",
		To: []registry.Addressee{
			{Contact: "anna@campus.test", Devices: []string{"prn-1.campus.test", "prn-2.campus.test"}, More: 7},
			{Contact: "bert@campus.test", Devices: []string{"prn-2.campus.test"}},
			{Contact: "list@campus.test"},
		},
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	n := maintenance()
	r.ask(n)
	for range 2 { // the second as a process that has not seen the end of the first
		if err := r.round(t.Context(), made.Add(time.Second)); err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		r.again()
	}
	got := r.stored()
	if len(got) != 3 {
		t.Fatalf("%d messages: %v", len(got), got)
	}
	_, text, _ := strings.Cut(got["anna@campus.test"], "\r\n\r\n")
	want := "No mail on Sunday.\r\n\r\nBegins:   2026-12-06\r\n\r\nDevices:  prn-1.campus.test\r\n          prn-2.campus.test\r\n          and 7 more\r\n\r\nContact:  postmaster@relay.campus.test\r\n"
	if text != want {
		t.Errorf("%q\nwant %q", text, want)
	}
	timetest.Await(t, "it is finished", func() bool { return len(r.registry.Snapshot().Unsent()) == 0 })
	if done, _ := r.registry.Snapshot().Notice("maintenance"); done.Stored.IsZero() || done.By != actor {
		t.Errorf("%+v", done)
	}
}

// Whoever takes over later sends to those to whom nothing was sent, and to nobody
// while it is not known who they are.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	n := maintenance()
	r.ask(n)
	r.arriving[n.MessageID("ANNA@campus.test")] = true
	r.booked = []books.Row{
		{QueueID: n.MessageID("bert@campus.test"), SubmissionID: "maintenance"},
		{QueueID: n.MessageID("list@campus.test"), SubmissionID: "another"},
	}
	r.down = fmt.Errorf("asking: %w", books.ErrUnreachable)
	if err := r.round(t.Context(), made.Add(time.Hour)); !errors.Is(err, books.ErrUnreachable) || len(r.stored()) != 0 {
		t.Errorf("without the books: %v, %v", err, r.stored())
	}
	r.down = nil
	if err := r.round(t.Context(), made.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got := r.stored()
	if len(got) != 1 || got["list@campus.test"] == "" {
		t.Errorf("%v", got)
	}
}
