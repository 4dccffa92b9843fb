package ledger

import (
	"reflect"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queuetest"
)

// The books count, for each device, what it sent by its address and by a login,
// lately and before; what is recorded twice counts once, a report to it not at all.
func TestWays(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	sent := func(id, device, identity string, ago time.Duration) event.Record {
		return with(used(id, device, "10.1.1.1", 0), func(r *event.Record) {
			r.Message.Facts.Identity, r.Message.AcceptedAt = identity, time.Now().Add(-ago)
		})
	}
	const day = 24 * time.Hour
	records := []event.Record{
		sent("A", "prn", "", time.Hour), sent("B", "prn", "", 29*day), sent("C", "prn", "prn-1", day), sent("D", "prn", "", 31*day),
		sent("E", "prn", "prn-1", 59*day), sent("F", "prn", "", 61*day), sent("G", "app", "app-1", day), sent("H", "", "", day), sent("I", "old", "", 90*day),
		with(sent("J", "prn", "", day), func(r *event.Record) { r.Message.ReportOf = "A" }),
	}
	for range 2 {
		for _, r := range records {
			s.record(r)
		}
	}
	start(t, bus, t.TempDir())
	export(t, bus, books.Filter{}) // has read all of it
	var got []books.Ways
	if err := books.Client(bus).Ways(t.Context(), func(w books.Ways) error { got = append(got, w); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []books.Ways{
		{Device: "app", Recent: books.Sent{ByLogin: 1}},
		{Device: "prn", Recent: books.Sent{ByAddress: 2, ByLogin: 1}, Before: books.Sent{ByAddress: 1, ByLogin: 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
