package ledger

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

func trace(t *testing.T, bus *queue.Bus, text string) *books.Trace {
	t.Helper()
	got, err := books.Client(bus).Trace(t.Context(), text)
	if err != nil {
		t.Fatalf("trace %s: %v", text, err)
	}
	return got
}

func TestTraceFinds(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	id := mail.NewQueueIDs().Next()
	s.record(accepted(string(id), "Ann@example.org", "bob@example.org"))
	s.record(accepted("SECOND", "ann@example.org"))
	s.record(with(accepted("OTHER", "x@example.org"), func(r *event.Record) {
		r.Message.ReversePath.Address = address("web@campus.test")
		r.Message.Device, r.Message.Facts.Address = "web.campus.test", netip.MustParseAddr("10.2.3.4")
	}))
	start(t, bus, t.TempDir())
	for _, c := range []struct {
		text string
		want []mail.QueueID // newest first
	}{
		{string(id), []mail.QueueID{id}},
		{" " + string(id) + "\n", []mail.QueueID{id}},
		{"<" + string(id) + "@campus.test>", []mail.QueueID{id}},
		{string(id) + "@campus.test", []mail.QueueID{id}},
		{"bob@example.org", []mail.QueueID{id}},
		{"ann@EXAMPLE.org", []mail.QueueID{"SECOND", id}},
		{"<ann@example.org>", []mail.QueueID{"SECOND", id}},
		{"prn@campus.test", []mail.QueueID{"SECOND", id}},
		{"web@campus.test", []mail.QueueID{"OTHER"}},
		{"WEB.campus.test", []mail.QueueID{"OTHER"}},
		{"10.2.3.4", []mail.QueueID{"OTHER"}},
	} {
		got := trace(t, bus, c.text)
		var ids []mail.QueueID
		for _, m := range got.Messages {
			ids = append(ids, m.QueueID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(c.want) || (len(ids) == 1) != (len(got.Records) > 0) {
			t.Errorf("%q finds %v with %d records, want %v", c.text, ids, len(got.Records), c.want)
		}
	}
	for _, text := range []string{"nobody@example.org", "10.2.3.5", "none.campus.test", string(mail.NewQueueIDs().Next()), "R7K2-9QF3"} {
		if _, err := books.Client(bus).Trace(t.Context(), text); !errors.Is(err, books.ErrNotFound) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := books.Client(bus).Trace(t.Context(), " "); !errors.Is(err, books.ErrQuestion) {
		t.Errorf("nothing: %v", err)
	}
}

func TestTraceTimeline(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	s.record(accepted("M", "a@example.org"))
	s.record(accepted("N", "a@example.org"))
	s.record(outcome(event.Delayed, "M", 1, said("a@example.org", 451, "busy")))
	s.record(outcome(event.Delayed, "M", 1, said("a@example.org", 451, "busy"))) // stored twice
	s.record(outcome(event.Delivered, "M", 2, said("a@example.org", 250, "ok")))
	start(t, bus, t.TempDir())
	got := trace(t, bus, "M")
	var outcomes []event.Outcome
	for _, r := range got.Records {
		outcomes = append(outcomes, r.Record.Outcome)
	}
	if fmt.Sprint(outcomes) != "[accepted delayed delivered]" || got.Records[1].Seq != 3 || got.Records[0].Record.Message.Device != "prn-1" {
		t.Errorf("records %s", asJSON(t, got.Records))
	}
	if r := got.Recipients; len(r) != 1 || r[0].State != "delivered" || r[0].Position != nil {
		t.Errorf("recipients %s", asJSON(t, r))
	}
	if m := got.Messages[0]; m.States["delivered"] != 1 || m.Owner != "chem" || m.Size != 1000 {
		t.Errorf("message %+v", m)
	}
}

// TestTracePosition: whoever is not settled is somewhere.
func TestTracePosition(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	const ready, later, report, admitted, lost = "r@example.org", "l@example.com", "f@example.org", "a@example.net", "x@example.net"
	s.record(accepted("M", ready, later, report, admitted, lost))
	s.job("M", 0, ready)
	s.job("M", time.Hour, later)
	s.failure("M", report)
	s.admitted("M", admitted)
	s.job("OTHER", 0, lost) // of another message
	start(t, bus, t.TempDir())
	got := trace(t, bus, "M")
	want := map[string]books.Place{ready: books.PlaceReady, later: books.PlaceLater, report: books.PlaceReport, admitted: books.PlaceAdmitted, lost: books.PlaceNone}
	for _, r := range got.Recipients {
		if r.Position == nil || r.Position.Place != want[r.Row.Recipient] {
			t.Errorf("%s is at %+v, want %s", r.Row.Recipient, r.Position, want[r.Row.Recipient])
		}
		if r.Row.Recipient == later && (time.Until(r.Position.Next) < 50*time.Minute || r.Position.Attempt != 3 || r.Position.LastReply != "451 busy" || r.Position.Job != "M-0") {
			t.Errorf("deferred job is shown as %+v", r.Position)
		}
	}
	if len(got.Recipients) != len(want) {
		t.Errorf("%d recipients", len(got.Recipients))
	}
}

// TestTraceArriving: a message can be traced from its 250 on.
func TestTraceArriving(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	ids := mail.NewQueueIDs()
	id := ids.Next()
	s.mail(string(ids.Next()), "b@example.org")
	ref := s.mail(string(id), "a@example.org")
	start(t, bus, t.TempDir())
	got := trace(t, bus, string(id))
	if len(got.Recipients) != 1 || got.Recipients[0].Position.Place != books.PlaceMail || got.Recipients[0].Row.Recipient != "a@example.org" || got.Messages[0].Size == 0 {
		t.Errorf("before policy: %s", asJSON(t, got))
	}
	s.record(with(accepted(string(id), "a@example.org"), func(r *event.Record) { r.Message.Content = ref }))
	got = trace(t, bus, string(id))
	if len(got.Records) != 1 || got.Recipients[0].Position.Place != books.PlaceMail {
		t.Errorf("entered, not acknowledged: %s", asJSON(t, got))
	}
}

// TestTraceMany: an address of a busy sender lists the newest messages only.
func TestTraceMany(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	for n := range books.MaxTrace + 5 {
		s.record(accepted(fmt.Sprintf("M%03d", n), "a@example.org"))
	}
	start(t, bus, t.TempDir())
	got := trace(t, bus, "prn@campus.test")
	if len(got.Messages) != books.MaxTrace || !got.More || got.Messages[0].QueueID != "M204" {
		t.Errorf("%d messages, more %v, first %s", len(got.Messages), got.More, got.Messages[0].QueueID)
	}
}
