package policy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/services/policy/scan"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// scanning gives the rig a scanner that answers with that action, "" for one that
// is down. asked is how often it was.
func (r *rig) scanning(action, whenDown string) (asked *int) {
	r.t.Helper()
	asked = new(int)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		*asked++
		io.Copy(io.Discard, q.Body)
		if action == "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		io.WriteString(w, `{"action":"`+action+`","score":9,"required_score":15}`)
	}))
	r.t.Cleanup(s.Close)
	var err error
	r.scanners, err = scan.New(config.Scan{Rspamd: s.URL, OnReject: "hold", WhenDown: whenDown, Timeout: config.Duration(time.Minute)}, "relay.campus.test")
	if err != nil {
		r.t.Fatal(err)
	}
	return asked
}

// What the scanner says is a fact of the decision, and stands in the books.
func TestScanned(t *testing.T) {
	for _, c := range []struct {
		action, whenDown      string
		outcome, text, fields string
	}{
		{"no action", "hold", "admit", "rspamd: no action, 9.00 of 15.00", ""},
		{"add header", "hold", "admit", "rspamd: add header", "X-Spam: Yes\r\n"},
		{"reject", "admit", "hold", "rspamd: reject", ""},
		{"soft reject", "admit", "later", "", ""},
		{"", "admit", "admit", "rspamd does not answer (it answered 500); scan.when_down: admit", ""},
		{"", "hold", "hold", "scan.when_down: hold", ""},
		{"", "later", "later", "", ""},
	} {
		r := start(t)
		r.scanning(c.action, c.whenDown)
		m := r.store(accepted("x@example.test"))
		err := r.Handle(t.Context(), m)
		if c.outcome == "later" {
			if err == nil || !strings.HasPrefix(err.Error(), "again in 1m0s") {
				t.Errorf("%s: got %v, want later", c.action, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		records, _ := r.records()
		facts, events := records[0].Message.Facts, []string{}
		if a, _ := r.admitted(); len(a) == 1 && strings.HasPrefix(a[0].Prepend, c.fields) && (a[0].Prepend == "") == (c.fields == "") {
			events = append(events, addresses(a[0].Env.Recipients))
		}
		want := "x@example.test"
		if c.outcome == "hold" {
			want = ""
		}
		if string(facts.Scan) != c.outcome || !strings.Contains(facts.Scanner, c.text) || len(events) != 1 || events[0] != want || string(records[0].Message.Verdict.Outcome) != c.outcome {
			t.Errorf("%s, when down %s: facts %s %q, admitted %q, verdict %+v", c.action, c.whenDown, facts.Scan, facts.Scanner, events, records[0].Message.Verdict)
		}
	}
}

// What a scanner did not look into for an hour is held, and so is what it wants
// held where something else is in doubt.
func TestScanPatience(t *testing.T) {
	r := start(t)
	r.scanning("", "later")
	a := accepted("x@example.test")
	a.At = time.Now().Add(-patience)
	if _, h := r.hold(a); h.Rule != "content" || !strings.Contains(h.Reason, "rspamd does not answer") {
		t.Errorf("held %+v", h)
	}
	r = start(t)
	r.scanning("reject", "later")
	r.rules.FCrDNS = "enforce"
	a = accepted("x@example.test")
	a.At = time.Now().Add(-patience)
	if _, h := r.hold(a); h.Rule != "content" {
		t.Errorf("held %+v", h)
	}
}

// Nobody scans what nobody gets, and our own reports.
func TestNotScanned(t *testing.T) {
	r := start(t)
	asked := r.scanning("reject", "hold")
	report := accepted("prn@example.test")
	report.ReportOf, report.Class, report.Env.ReversePath = "0123456789ABCDEF", mail.ClassReport, smtp.ReversePath{}
	r.handle(r.store(report))
	r.reg = stranger
	r.handle(r.store(accepted("x@example.test")))
	if *asked != 0 {
		t.Errorf("asked %d times", *asked)
	}
}
