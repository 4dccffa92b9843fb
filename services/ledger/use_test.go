package ledger

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtp"
)

// used is a message that a device sent from an address, so long after noon.
func used(id, device, from string, after time.Duration) event.Record {
	return with(accepted(id, "a@example.org"), func(r *event.Record) {
		r.Message.Device, r.Message.AcceptedAt = device, noon.Add(after)
		r.Message.Facts.Address, r.Message.Facts.Listener = netip.MustParseAddr(from), "devices"
	})
}

// The books know when each device was last used, and which reports to it had no
// mailbox to go to; what is recorded twice counts once.
func TestUse(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	s := script{t, bus}
	report := func(id string, rcpts []event.RecipientRecord) []event.Record {
		return []event.Record{
			with(accepted(id, "prn@campus.test"), func(r *event.Record) { r.Message.Device, r.Message.ReportOf = "prn-1", "A" }),
			with(outcome(event.Bounced, id, 1, rcpts), func(r *event.Record) { r.QueueID = mail.QueueID(id) }),
		}
	}
	records := []event.Record{
		used("A", "prn-1", "10.1.1.1", time.Hour), used("B", "prn-1", "10.1.1.2", 3*time.Hour), used("C", "prn-1", "10.1.1.1", 2*time.Hour),
		used("D", "app", "2001:db8::1", time.Minute), used("E", "", "10.1.1.1", 9*time.Hour),
	}
	records = append(records, report("R1", said("prn@campus.test", 550, "no such user"))...)
	records = append(records, report("R2", said("prn@campus.test", 450, "no such user now"))...)
	records = append(records, report("R3", refused(said("prn@campus.test", 552, "full"), "2.2"))...)
	records = append(records, outcome(event.Bounced, "A", 1, said("a@example.org", 550, "no such user"))) // no report
	records = append(records, with(used("N", "prn-1", "10.1.1.9", 9*time.Hour), func(r *event.Record) {   // a notice about it is no use of it
		r.Message.Facts.Report, r.Message.ReversePath, r.Message.SubmissionID = true, smtp.ReversePath{}, "maintenance"
	}))
	old := with(used("L", "app", "2001:db8::1", time.Second), func(r *event.Record) { r.Message.Facts.Listener = "old" })
	lately := time.Now().Add(-time.Hour)
	records = append(records, old)
	for _, id := range []string{"A", "B"} {
		records = append(records, with(outcome(event.Expired, id, 1, said("a@example.org", 451, "later")), func(r *event.Record) { r.QueueID, r.At = mail.QueueID(id), lately }))
	}
	for range 2 {
		for _, r := range records {
			s.record(r)
		}
	}
	start(t, bus, t.TempDir())
	export(t, bus, books.Filter{}) // has read all of it
	got := map[string]books.Use{}
	if err := books.Client(bus).Use(t.Context(), func(u books.Use) error { got[u.Device] = u; return nil }); err != nil {
		t.Fatal(err)
	}
	at := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	want := map[string]books.Use{
		"prn-1": {
			Device: "prn-1", Last: noon.Add(3 * time.Hour),
			Addresses:     map[netip.Addr]time.Time{at("10.1.1.1"): noon.Add(2 * time.Hour), at("10.1.1.2"): noon.Add(3 * time.Hour)},
			Listeners:     map[string]time.Time{"devices": noon.Add(3 * time.Hour)},
			Undeliverable: []time.Time{noon.Add(time.Minute)},
			Failed:        2,
		},
		"app": {
			Device: "app", Last: noon.Add(time.Minute), Addresses: map[netip.Addr]time.Time{at("2001:db8::1"): noon.Add(time.Minute)},
			Listeners: map[string]time.Time{"devices": noon.Add(time.Minute), "old": noon.Add(time.Second)},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if rows := export(t, bus, books.Filter{Submission: "maintenance"}); len(rows) != 1 || rows[0].QueueID != "N" {
		t.Errorf("the messages of a notice: %+v", rows)
	}
}

func refused(rcpts []event.RecipientRecord, enhanced smtp.Enhanced) []event.RecipientRecord {
	rcpts[0].Reply.Enhanced = enhanced
	return rcpts
}
