package ledger

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queuetest"
)

func late(id string) event.Record {
	return event.Record{At: noon, Stage: event.StageIngress, Outcome: event.Late, QueueID: mail.QueueID(id)}
}

// TestLate: a message that was refused for a store that did not acknowledge is
// marked when it turns out to be there, whichever record comes first. Of one
// that is not there the books have nothing.
func TestLate(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	s.record(late("BEFORE"))
	s.record(late("NEVER"))
	for _, id := range []string{"BEFORE", "AFTER", "ONTIME"} {
		s.record(accepted(id, "a@example.org"))
		s.record(outcome(event.Delivered, id, 1, to("a@example.org")))
	}
	s.record(late("AFTER"))
	start(t, bus, t.TempDir())
	rows := export(t, bus, books.Filter{})
	if len(rows) != 3 {
		t.Errorf("rows %s", asJSON(t, rows))
	}
	for _, r := range rows {
		if r.LateAccept != (r.QueueID != "ONTIME") {
			t.Errorf("%s is late: %v", r.QueueID, r.LateAccept)
		}
	}
	if b := balance(t, bus, 0); !b.Balances() || b.Total.Accepted != 3 || b.Total.Delivered != 3 || len(b.Offending) > 0 {
		t.Errorf("balance %s", asJSON(t, b))
	}
	if st, err := books.Client(bus).Status(t.Context()); err != nil || st.Messages != 3 {
		t.Errorf("status %+v %v", st, err)
	}
}

// TestCanary: what lies in MAIL to show that it stores is no mail.
func TestCanary(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	id := mail.NewQueueIDs().Next()
	if _, err := bus.JS.Publish(t.Context(), "mail.canary.0", nil, jetstream.WithMsgID("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.publish("mail.canary.1", nil); err != nil {
		t.Fatal(err)
	}
	s.mail(string(id), "a@example.org")
	start(t, bus, t.TempDir())
	if b := balance(t, bus, 1); b.Arriving != 1 || b.Unreadable != 0 || len(b.Offending) > 0 {
		t.Errorf("balance %s", asJSON(t, b))
	}
	found, err := books.Client(bus).Trace(t.Context(), string(id))
	if err != nil || len(found.Messages) != 1 || found.Messages[0].QueueID != id {
		t.Errorf("trace %s %v", asJSON(t, found), err)
	}
}
