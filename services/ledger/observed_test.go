package ledger

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queuetest"
)

// The books count whom rules that observe would have stopped, once for each
// message, whatever is recorded twice.
func TestObserved(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	observed := func(id, device, from string, after time.Duration, rules ...string) event.Record {
		return with(used(id, device, from, after), func(r *event.Record) { r.Message.Verdict.Observed = rules })
	}
	records := []event.Record{
		observed("A", "prn-1", "10.1.1.1", time.Hour, "fcrdns", "header-from"), observed("B", "prn-1", "10.1.1.1", 30*time.Hour, "fcrdns"),
		observed("C", "prn-1", "10.1.1.1", 2*time.Hour, "fcrdns"), observed("D", "", "10.1.1.2", time.Hour, "fcrdns"), observed("E", "app", "10.1.1.3", time.Hour),
	}
	for range 2 {
		for _, r := range records {
			s.record(r)
		}
	}
	start(t, bus, t.TempDir())
	export(t, bus, books.Filter{}) // has read all of it
	ask := func(q books.ObservedQuestion) (got []books.Observed) {
		if err := books.Client(bus).Observed(t.Context(), q, func(o books.Observed) error { got = append(got, o); return nil }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	at := netip.MustParseAddr
	prn := books.Observed{Rule: "fcrdns", Device: "prn-1", Address: at("10.1.1.1"), Messages: 3, Last: noon.Add(30 * time.Hour), Sender: "prn@campus.test", QueueID: "B"}
	stranger := books.Observed{Rule: "fcrdns", Address: at("10.1.1.2"), Messages: 1, Last: noon.Add(time.Hour), Sender: "prn@campus.test", QueueID: "D"}
	header := books.Observed{Rule: "header-from", Device: "prn-1", Address: at("10.1.1.1"), Messages: 1, Last: noon.Add(time.Hour), Sender: "prn@campus.test", QueueID: "A"}
	if got, want := ask(books.ObservedQuestion{Since: noon}), []books.Observed{prn, stranger, header}; !reflect.DeepEqual(got, want) {
		t.Errorf("all: %+v\nwant %+v", got, want)
	}
	if got := ask(books.ObservedQuestion{Since: noon, Rule: "header-from"}); !reflect.DeepEqual(got, []books.Observed{header}) {
		t.Errorf("one rule: %+v", got)
	}
	prn.Messages = 1
	if got := ask(books.ObservedQuestion{Since: noon.AddDate(0, 0, 1)}); !reflect.DeepEqual(got, []books.Observed{prn}) {
		t.Errorf("one day: %+v", got)
	}
}
