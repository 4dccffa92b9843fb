// Package test holds the scenarios that cross services, and the rules about
// who may import whom.
package test

import (
	"errors"
	"net/textproto"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// The same scenarios, in one process and as separate processes.
func TestInOneProcess(t *testing.T) { scenarios(t, world.InProcess) }

func TestAsSeparateProcesses(t *testing.T) { scenarios(t, world.Processes) }

// scenarios run on one relay, one after the other, each with addresses of its
// own; the books must balance at the end.
func scenarios(t *testing.T, drive world.Driver) {
	w := world.New(t, drive, nil)
	for _, s := range []struct {
		name string
		play func(*testing.T, *world.World)
	}{
		{"campus to hosted is delivered and signed", campusToHosted},
		{"campus to anywhere is refused with a reference", refused},
		{"an outsider is refused", outsider},
		{"registered to anywhere, first MX dead", nextMX},
		{"null MX comes back", nullMX},
		{"a domain that does not exist comes back", noDomain},
		{"one bad recipient of two", mixed},
		{"a deferred message is tried again", deferred},
		{"forced TLS is never in clear and expires", forcedTLS},
		{"five megabytes arrive octet for octet", large},
		{"a report that cannot be delivered is not reported", doubleBounce},
	} {
		t.Run(s.name, func(t *testing.T) {
			was := w.T
			w.T = t
			defer func() { w.T = was }()
			s.play(t, w)
		})
	}
	w.Balances()
}

func campusToHosted(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Unknown, To: []string{"anna@campus.test"}, Content: world.Message("hosted")})
	trace := w.Settled(id)
	expectState(t, trace, "anna@campus.test", event.Delivered)
	d := find(t, w.Campus, "hosted")
	if !strings.Contains(string(d.Content), "id "+string(id)) {
		t.Errorf("no Received field names %s:\n%s", id, d.Header)
	}
	if d.TLS == "" {
		t.Error("STARTTLS was offered and not used")
	}
	if got := d.Field("Message-ID"); got != "<"+string(id)+"@relay.campus.test>" || d.Field("Date") == "" {
		t.Errorf("Message-ID %q, Date %q were not added", got, d.Field("Date"))
	}
	if !strings.HasSuffix(string(d.Content), "\r\n\r\nScanned page.\r\n.leading dot\r\n") {
		t.Errorf("body changed: %q", d.Content)
	}
	expectSigned(t, w, d)
	var steps []string
	for _, r := range trace.Records {
		steps = append(steps, string(r.Record.Stage)+"."+string(r.Record.Outcome))
	}
	if got := strings.Join(steps, " "); got != "policy.accepted signer.signed delivery.delivered" {
		t.Errorf("steps of the trace: %s", got)
	}
}

func refused(t *testing.T, w *world.World) {
	before := w.Backup.Counts().Stored
	_, err := w.TrySubmit(world.Submission{From: world.Unknown, To: []string{"x@example.test"}})
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code != 550 {
		t.Fatalf("got %v, want 550", err)
	}
	words := strings.Fields(reply.Msg)
	if words[0] != "5.7.1" || len(words[1]) != 9 || words[1][4] != '-' || !strings.Contains(reply.Msg, "Not registered: "+world.Unknown) ||
		!strings.HasSuffix(reply.Msg, "https://relay.campus.test/w/"+words[1]) {
		t.Errorf("text %q", reply.Msg)
	}
	if w.Backup.Counts().Stored != before {
		t.Error("it arrived")
	}
}

func outsider(t *testing.T, w *world.World) {
	_, err := w.TrySubmit(world.Submission{From: world.Outsider, To: []string{"anna@campus.test"}})
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code != 550 {
		t.Fatalf("got %v, want 550", err)
	}
}

func nextMX(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, To: []string{"x@example.test"}, Content: world.Message("failover")})
	trace := w.Settled(id)
	expectState(t, trace, "x@example.test", event.Delivered)
	if got := trace.Recipients[0].RemoteMTA; !strings.HasPrefix(got, "mx2.example.test [127.0.0.4]") {
		t.Errorf("remote MTA %q", got)
	}
	if trace.Recipients[0].Owner != "chem" || trace.Recipients[0].Device != "prn.campus.test" {
		t.Errorf("owner %q, device %q", trace.Recipients[0].Owner, trace.Recipients[0].Device)
	}
	find(t, w.Backup, "failover")
}

func nullMX(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, To: []string{"x@null.test"}, Content: world.Message("null")})
	expectState(t, w.Settled(id), "x@null.test", event.Bounced)
	report := expectReport(t, w, "x@null.test")
	if !strings.Contains(report, "Status: 5.1.10") || !strings.Contains(report, "Subject: null") {
		t.Errorf("report:\n%s", report)
	}
}

func noDomain(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, To: []string{"x@nowhere.test"}})
	expectState(t, w.Settled(id), "x@nowhere.test", event.Bounced)
	if report := expectReport(t, w, "x@nowhere.test"); !strings.Contains(report, "Status: 5.1.2") {
		t.Errorf("report:\n%s", report)
	}
}

func mixed(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, To: []string{"good@example.test", "550-5.1.1@example.test", "also@example.test"}, Content: world.Message("mixed")})
	trace := w.Settled(id)
	expectState(t, trace, "good@example.test", event.Delivered)
	expectState(t, trace, "also@example.test", event.Delivered)
	expectState(t, trace, "550-5.1.1@example.test", event.Bounced)
	if d := find(t, w.Backup, "mixed"); len(d.Recipients) != 2 {
		t.Errorf("%d recipients in one transaction, want 2", len(d.Recipients))
	}
	report := expectReport(t, w, "550-5.1.1@example.test")
	if !strings.Contains(report, "Status: 5.1.1") || strings.Contains(report, "good@") {
		t.Errorf("report:\n%s", report)
	}
}

func deferred(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, To: []string{"first-2-450@example.test"}, Content: world.Message("deferred")})
	trace := w.Settled(id)
	expectState(t, trace, "first-2-450@example.test", event.Delivered)
	if got := trace.Recipients[0].Attempts; got != 3 {
		t.Errorf("%d attempts, want 3", got)
	}
}

func forcedTLS(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Alarm, To: []string{"x@secure.test"}, Content: world.Message("secret")})
	expectState(t, w.Settled(id), "x@secure.test", event.Expired)
	expectReport(t, w, "x@secure.test")
	transcripts := w.Plain.Transcripts()
	if len(transcripts) < 2 {
		t.Errorf("%d sessions, want the first attempt and at least one more", len(transcripts))
	}
	for _, session := range transcripts {
		for _, line := range session.Lines() {
			if upper := strings.ToUpper(line); strings.HasPrefix(upper, "C: MAIL") || strings.Contains(line, "secret") {
				t.Errorf("sent in clear: %s", line)
			}
		}
	}
}

func large(t *testing.T, w *world.World) {
	body := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 5<<20/72)
	w.Submit(world.Submission{From: world.Printer, To: []string{"big@example.test"}, Content: world.Message("large") + body})
	if d := find(t, w.Backup, "large"); !strings.HasSuffix(string(d.Content), ".leading dot\r\n"+body) {
		t.Errorf("body of %d octets changed", len(body))
	}
}

func doubleBounce(t *testing.T, w *world.World) {
	id := w.Submit(world.Submission{From: world.Printer, Sender: "550-5.1.1@example.test", To: []string{"x@null.test"}})
	trace := w.Settled(id)
	expectState(t, trace, "x@null.test", event.Bounced)
	report := trace.Records[len(trace.Records)-1].Record.Report
	if report == "" {
		t.Fatal("no report")
	}
	last := w.Settled(report)
	expectState(t, last, "550-5.1.1@example.test", event.Bounced)
	if r := last.Records[len(last.Records)-1].Record; r.Report != "" || r.Reason == "" {
		t.Errorf("a report about a report: %+v", r)
	}
}

// find waits for the message with that subject.
func find(t *testing.T, mx *smtptest.MX, subject string) smtptest.Delivery {
	t.Helper()
	var found smtptest.Delivery
	err := mx.WaitFor(t.Context(), func(smtptest.Counts) bool {
		for _, d := range mx.Deliveries() {
			if d.Field("Subject") == subject {
				found = d
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("no message %q: %v", subject, err)
	}
	return found
}

// expectReport waits for the report about a recipient at the sender's MX.
func expectReport(t *testing.T, w *world.World, about string) string {
	t.Helper()
	d := find(t, w.Campus, "Undelivered mail: "+about)
	if !d.ReversePath.IsNull() || d.Field("Auto-Submitted") != "auto-replied" {
		t.Errorf("reverse-path %s, Auto-Submitted %q", d.ReversePath.Bracketed(), d.Field("Auto-Submitted"))
	}
	expectSigned(t, w, d)
	return string(d.Content)
}

// expectSigned verifies both signatures with the records that the relay says
// to publish.
func expectSigned(t *testing.T, w *world.World, d smtptest.Delivery) {
	t.Helper()
	records := dkimRecords(t, w.Config.Relay.Data)
	verifications, err := dkim.VerifyWithOptions(strings.NewReader(string(d.Content)), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			if r, ok := records[name]; ok {
				return []string{r}, nil
			}
			return nil, errors.New("no record " + name)
		},
	})
	if err != nil || len(verifications) != 2 {
		t.Fatalf("%d signatures, %v", len(verifications), err)
	}
	for _, v := range verifications {
		if v.Err != nil || v.Domain != "relay.campus.test" {
			t.Errorf("signature of %s: %v", v.Domain, v.Err)
		}
	}
}

func expectState(t *testing.T, trace *books.Trace, recipient string, state event.Outcome) {
	t.Helper()
	for _, r := range trace.Recipients {
		if r.Recipient == recipient {
			if r.State != string(state) {
				t.Errorf("%s is %s, want %s", recipient, r.State, state)
			}
			return
		}
	}
	t.Errorf("%s is not in the books", recipient)
}
