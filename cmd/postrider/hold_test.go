package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// startScanning starts a relay whose scanner rejects what goes to a virus, tags
// what goes to spam, and admits the rest.
func startScanning(t *testing.T) *relay {
	t.Helper()
	scanner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		action := "no action"
		switch to := strings.Join(r.Header["Rcpt"], " "); {
		case strings.Contains(to, "virus"):
			action = "reject"
		case strings.Contains(to, "spam"):
			action = "add header"
		}
		fmt.Fprintf(w, `{"action":%q,"score":20,"required_score":15,"symbols":{"EICAR":{"score":20}}}`, action)
	}))
	t.Cleanup(scanner.Close)
	addresses := porttest.Addresses(t, 2)
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml"), smtp: addresses[0], submission: addresses[1], mx: smtptest.Start(t, smtptest.Options{})}
	write(t, r.file, fmt.Sprintf(`
relay: {hostname: relay.campus.test, data: %q}
listeners:
  - {name: devices, address: %q, mode: relay}
  - {name: submission, address: %q, mode: submission}
devices: [{name: prn.campus.test, owner: chem, addresses: [127.0.0.1]}]
scan: {rspamd: %q}
delivery: {routes: [{domain: "*", to: "smtp://%s"}], retry: [1h]}
metrics: {address: ""}
`, filepath.Join(filepath.Dir(r.file), "data"), r.smtp, r.submission, scanner.URL, r.mx.Addr()))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	return r
}

// held submits a message that the scanner rejects, and waits until it is held.
func (r *relay) held(to ...string) string {
	r.t.Helper()
	id := r.submit(to...)
	timetest.Await(r.t, id+" is held", func() bool { return strings.Contains(r.ok("queue", "ls", "state:held", "-o", "jsonl"), id) })
	return id
}

// What a scanner rejects is held, shown with its reason, counted as queued, and
// goes only when a person lets it.
func TestHeldMail(t *testing.T) {
	r := startScanning(t)
	id := r.held("a-virus@inet.test", "b@other.test")
	plain := r.held("c-virus@inet.test")
	r.submit("spam@inet.test")
	r.delivered("spam@inet.test")
	if d := r.mx.Deliveries()[0]; d.Field("X-Spam") != "Yes" || !strings.Contains(d.Field("X-Spam-Status"), "EICAR") || d.Field("Subject") != "=SUM(A1)" {
		t.Errorf("not tagged:\n%s", d.Header)
	}
	row := r.list("queue", "ls", "state:held", "domain:other.test")[0]
	if row["id"] != id || row["state"] != "held" || !strings.Contains(row["reason"].(string), "content: scanned: rspamd: reject, 20.00 of 15.00: EICAR") || len(row["recipients"].([]any)) != 2 {
		t.Errorf("listed %v", row)
	}
	trace := r.ok("trace", id)
	for _, want := range []string{"by rule content", "held by rule content: scanned: rspamd: reject", "2 queued", "~ queued, held"} {
		if !strings.Contains(trace, want) {
			t.Errorf("the trace does not say %q:\n%s", want, trace)
		}
	}
	r.ok("ledger", "balance")
	if got := r.ok("status"); !strings.Contains(got, "3 of the queued are held: postrider queue ls state:held") {
		t.Errorf("status does not tell of them:\n%s", got)
	}

	if got := r.ok("queue", "release", "--dry-run", id); !strings.Contains(got, id) {
		t.Errorf("would release %q", got)
	}
	r.ok("queue", "release", id, "--reason", "ticket 7")
	r.delivered("a-virus@inet.test", "b@other.test", "spam@inet.test")
	timetest.Await(t, "it is settled", func() bool { return strings.Contains(r.ok("trace", id), "2 delivered") })
	if trace := r.ok("trace", id); !strings.Contains(trace, "released (ticket 7) by ") {
		t.Errorf("the trace does not say who released it:\n%s", trace)
	}
	if got := r.do("queue", "release", id); got.code != 3 {
		t.Errorf("released again: %d %s", got.code, got.err)
	}
	if rows := r.list("queue", "ls", "state:held"); len(rows) != 1 || rows[0]["id"] != plain {
		t.Errorf("still held: %v", rows)
	}
	r.ok("ledger", "balance")
}

// plan is the id that a command which destroys wants to see again.
func (r *relay) heldPlan(args ...string) string {
	r.t.Helper()
	got := r.do(args...)
	found := regexp.MustCompile(`--confirm (\w+)`).FindStringSubmatch(got.err)
	if got.code != 0 || found == nil {
		r.t.Fatalf("%v: %d %s %s", args, got.code, got.stdout, got.err)
	}
	return found[1]
}

// What destroys shows a plan first. A drop can be undone, a bounce tells the
// sender.
func TestDropAndBounce(t *testing.T) {
	r := startScanning(t)
	id := r.held("a-virus@inet.test")
	plan := r.heldPlan("queue", "drop", id)
	if got := r.do("queue", "drop", id, "--confirm", "aaaaaaaaaa"); got.code != 5 {
		t.Errorf("another plan: %d %s", got.code, got.err)
	}
	r.ok("queue", "drop", id, "--confirm", plan, "--reason", "virus")
	if got := r.do("queue", "release", id); got.code != 3 {
		t.Errorf("released although dropped: %d %s", got.code, got.err)
	}
	if got := r.ok("trace", id); !strings.Contains(got, "drop decided by ") {
		t.Errorf("the trace does not tell of the drop:\n%s", got)
	}
	r.ok("queue", "drop", "--undo", id)
	r.ok("ledger", "balance")

	r.ok("queue", "bounce", id, "--confirm", r.heldPlan("queue", "bounce", id), "--reason", "secret")
	r.delivered("prn@campus.test")
	timetest.Await(t, "it is settled", func() bool { return strings.Contains(r.ok("trace", id), "1 bounced") })
	if report := string(r.mx.Deliveries()[0].Content); !strings.Contains(report, "Not accepted after review") || strings.Contains(report, "secret") {
		t.Errorf("the report:\n%s", report)
	}
	r.ok("ledger", "balance")
}
