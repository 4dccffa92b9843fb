package ledger

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queuetest"
)

// The books count what a device sends by the hour, each thing once however often
// its record is stored, and know what is usual.
func TestHours(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	now := time.Now().UTC().Truncate(time.Hour)
	message := func(id string, at time.Time, change func(*event.MessageRecord)) event.Record {
		return with(accepted(id, "a@example.org", "b@example.org"), func(r *event.Record) {
			r.Message.Device, r.Message.AcceptedAt = "prn-1", at
			change(r.Message)
		})
	}
	from := func(addresses ...string) func(*event.MessageRecord) {
		return func(m *event.MessageRecord) { m.Facts.HeaderFrom = addresses }
	}
	records := []event.Record{
		message("A", now, from("a@campus.test", "b@campus.test")),
		message("B", now, from("A@campus.test")),
		message("C", now, func(m *event.MessageRecord) { m.Facts.Scan = authz.Hold }),
		message("D", now, func(m *event.MessageRecord) { m.Quirks = []event.Quirk{{Name: event.MarkNoUnsubscribe}} }),
		message("R", now, func(m *event.MessageRecord) { m.ReportOf = "A" }),
		outcome(event.Bounced, "A", 1, said("a@example.org", 550, "no such user")),
		outcome(event.Bounced, "B", 1, refused(said("a@example.org", 550, "policy"), "7.1")),
		outcome(event.Delivered, "B", 1, said("b@example.org", 250, "ok")),
		message("E", now.Add(-50*time.Hour), from("x@campus.test")),
	}
	for n := range 3 {
		records = append(records, message(fmt.Sprint("F", n), now.Add(-40*time.Hour), from(fmt.Sprintf("x%d@campus.test", n))))
	}
	sender := accepted("A", "a@example.org").Message.ReversePath.Address.String()
	for range 2 {
		for _, r := range records {
			s.record(r)
		}
	}
	start(t, bus, t.TempDir())
	export(t, bus, books.Filter{}) // has read all of it
	var got books.Use
	if err := books.Client(bus).Use(t.Context(), func(u books.Use) error { got = u; return nil }); err != nil {
		t.Fatal(err)
	}
	want := books.Hour{Start: now, Messages: 4, Recipients: 8, Unknown: 1, Senders: 3, Suspect: 1, Bare: 1}
	if len(got.Recent) != 1 || got.Recent[0] != want {
		t.Errorf("%+v\nwant %+v (reverse-path %s)", got.Recent, want, sender)
	}
	if usual := (books.Hour{Start: now.Add(-50 * time.Hour), Messages: 3, Senders: 4}); !reflect.DeepEqual(got.Usual, usual) {
		t.Errorf("usual %+v, want %+v", got.Usual, usual)
	}
}
