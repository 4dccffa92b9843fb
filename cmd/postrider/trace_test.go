package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/timetest"
)

// settled follows a message until it is settled, and returns its states.
func (r *relay) settled(id string) map[string]int {
	r.t.Helper()
	timetest.Await(r.t, id+" is known", func() bool { return r.do("trace", id).code == 0 })
	var t books.Trace
	text := r.ok("trace", id, "--follow", "-o", "json")
	if err := json.Unmarshal([]byte(text), &t); err != nil || len(t.Messages) != 1 {
		r.t.Fatalf("%v in %q", err, text)
	}
	return t.Messages[0].States
}

func TestTrace(t *testing.T) {
	r := start(t)
	good := r.submit("anna@inet.test")
	if got := r.settled(good); got["delivered"] != 1 || len(got) != 1 {
		t.Errorf("states %v", got)
	}
	bad := r.submit("550-5.1.1@inet.test", "ben@inet.test")
	if got := r.settled(bad); got["bounced"] != 1 || got["delivered"] != 1 {
		t.Errorf("states %v", got)
	}
	for _, args := range [][]string{{"trace", good}, {"trace", strings.ToLower(good)}, {"trace", "<" + good + "@relay.campus.test>"}, {"trace", "anna@inet.test"}, {"trace", good, "--follow"}} {
		got := r.ok(args...)
		for _, text := range []string{good, "from prn@campus.test", "accepted from 127.0.0.1", "by rule registered", "signed d=relay.campus.test", "delivered"} {
			if !strings.Contains(got, text) {
				t.Errorf("%q has no %q:\n%s", args, text, got)
			}
		}
	}
	if got := r.ok("trace", bad); !strings.Contains(got, "550 5.1.1") || !strings.Contains(got, "x bounced") || !strings.Contains(got, "+ delivered") || !strings.Contains(got, "bounced, report ") {
		t.Errorf("trace:\n%s", got)
	}
	var many books.Trace
	if err := json.Unmarshal([]byte(r.ok("trace", "prn@campus.test", "-o", "json")), &many); err != nil || len(many.Messages) < 2 {
		t.Errorf("by sender: %d messages, %v", len(many.Messages), err)
	}
	r.fails(2, "follow one by its queue id", "trace", "prn@campus.test", "--follow")
	r.fails(3, "not found", "trace", "0HZ8Q2M4N6R8TVXZ")
	r.fails(3, "not found", "trace", "nobody@inet.test")
	r.fails(2, "nothing to trace", "trace", " ")
	r.fails(2, "accepts 1 arg", "trace")
	r.fails(2, "choose one of table|json", "trace", good, "-o", "csv")
}

// Follow shows what happens while it looks, and ends when all is settled.
func TestTraceFollow(t *testing.T) {
	r := start(t)
	id := r.deferred("once-450@inet.test")
	seen := &firstWrite{done: make(chan struct{})}
	var out bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- execute(t.Context(), []string{"--config", r.file, "trace", "--follow", id}, nil, tee{&out, seen}, &out)
	}()
	<-seen.done
	if got := r.ok("queue", "retry", id); got != "1 jobs are ready\n" {
		t.Fatal(got)
	}
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("exits %d", c)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	for _, step := range []string{"policy   accepted", "delivery delayed after attempt 1", "operator retried", "delivery delivered"} {
		if strings.Count(out.String(), step) != 1 {
			t.Errorf("%q is there %d times:\n%s", step, strings.Count(out.String(), step), out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := execute(ctx, []string{"--config", r.file, "trace", "--follow", id}, nil, &out, &out); got != 130 {
		t.Errorf("interrupted it exits %d", got)
	}
}

// tee writes to both.
type tee struct {
	out  *bytes.Buffer
	seen *firstWrite
}

func (w tee) Write(p []byte) (int, error) {
	w.out.Write(p)
	return w.seen.Write(p)
}

// What others wrote can neither forge a line of a trace nor move the cursor
// of who reads it.
func TestTraceOfHostileText(t *testing.T) {
	const evil = "x\x1b[2J\n2026-11-21 09:00:00.000  delivery delivered\u202e"
	rcpt := smtp.ForwardPath{Address: smtp.Address{Local: evil, Domain: "inet.test"}}
	records := []books.Record{{Seq: 1, Record: event.Record{
		Stage: event.StagePolicy, Outcome: event.Entered, Reason: evil, Actor: evil, Message: &event.MessageRecord{},
		Recipients: []event.RecipientRecord{{Address: rcpt, RemoteMTA: evil, TLS: evil, Reply: smtp.Reply{Code: 550, Text: evil}, PossibleDuplicate: true}},
	}}}
	records[0].Record.Message.Facts.Helo, records[0].Record.Message.Facts.Identity = evil, evil
	trace := &books.Trace{
		Behind:     7,
		Messages:   []books.Message{{QueueID: "1HZ8Q2M4N6R8TVXZ", Sender: evil, MessageID: evil, Device: "d", Owner: "o", States: map[string]int{"queued": 1}}},
		Recipients: []books.Recipient{{Row: books.Row{Recipient: evil, State: "queued"}, Position: &books.Position{Place: books.PlaceLater, LastReply: evil}}},
		Records:    records,
	}
	var out bytes.Buffer
	if err := printTrace(&out, trace); err != nil {
		t.Fatal(err)
	}
	out.WriteString(describe(records[0]))
	text := out.String()
	if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "\n2026") {
		t.Errorf("trace: %q", text)
	}
	if !strings.Contains(text, "possible duplicate") || !strings.Contains(text, "7 records behind") {
		t.Errorf("trace:\n%s", text)
	}
}

// What was done to a message for its device stands in its trace.
func TestTraceShowsQuirks(t *testing.T) {
	r := books.Record{Record: event.Record{Stage: event.StagePolicy, Outcome: event.Entered, Message: &event.MessageRecord{
		Quirks: []event.Quirk{{Name: event.QuirkReversePath, Was: "root@localhost"}, {Name: event.QuirkNewlines, Was: "3"}},
	}}}
	r.Record.Message.Facts.Helo = "a&b"
	if got := describe(r); !strings.Contains(got, "HELO a?b; ") || !strings.Contains(got, "; reverse-path was root@localhost; repair-newlines: 3") {
		t.Errorf("trace %q", got)
	}
}

func TestLedger(t *testing.T) {
	r := start(t)
	if got := r.ok("ledger", "export", "-o", "json"); got != "[]\n" {
		t.Errorf("empty books: %q", got)
	}
	r.settled(r.submit("anna@inet.test"))
	r.settled(r.submit("550@inet.test"))
	timetest.Await(t, "the report is delivered", func() bool { return len(r.list("ledger", "export", "--state", "delivered")) == 2 })
	waiting := r.deferred("450@OTHER.test")

	table := r.ok("ledger", "balance")
	if !strings.Contains(table, "chem") || !strings.Contains(table, "+ It balances.") || strings.Contains(table, "x ") {
		t.Errorf("balance:\n%s", table)
	}
	var b books.Balance
	if err := json.Unmarshal([]byte(r.ok("ledger", "balance", "-o", "json")), &b); err != nil {
		t.Fatal(err)
	}
	if total := b.Total; total.Queued != 1 || total.Bounced != 1 || total.Delivered != 2 || total.Accepted != 4 || b.Residual != 0 { // one is the report
		t.Errorf("balance %+v", b.Total)
	}

	for filter, n := range map[string]int{
		"": 4, "--since 1h": 4, "--until 1h": 0, "--since 2020-01-01": 4, "--until 2020-01-01T00:00:00Z": 0, "--since 1h --until 0s": 4,
		"--state delivered": 2, "--state queued": 1, "--state delivered,bounced": 3, "--state delivered --state queued": 3, "--state expired": 0,
		"--owner chem": 4, "--owner physics": 0, "--device prn.campus.test": 4, "--domain inet.test": 2, "--domain Other.TEST": 1, "--domain other.test --state bounced": 0,
	} {
		if rows := r.list(append([]string{"ledger", "export"}, strings.Fields(filter)...)...); len(rows) != n {
			t.Errorf("export %s: %d rows, want %d", filter, len(rows), n)
		}
	}
	row := r.list("ledger", "export", "--state", "queued")[0]
	for _, key := range exportColumns {
		if _, ok := row[key]; !ok {
			t.Errorf("JSON has no %s", key)
		}
	}
	if row["queue_id"] != waiting || row["recipient"] != "450@other.test" || row["settled_at"] != nil {
		t.Errorf("row %v", row)
	}
	lines := strings.Split(strings.TrimSuffix(r.ok("ledger", "export", "-o", "jsonl"), "\n"), "\n")
	for _, line := range lines {
		var row books.Row
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.QueueID == "" {
			t.Errorf("line %q: %v", line, err)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(r.ok("ledger", "export", "-o", "csv"))).ReadAll()
	if err != nil || len(rows) != 5 || len(lines) != 4 || strings.Join(rows[0], " ") != strings.Join(exportColumns, " ") {
		t.Errorf("CSV %q, %v; %d JSON lines", rows, err, len(lines))
	}
	if table := r.ok("ledger", "export"); strings.Count(table, "\n") != 5 || !strings.HasPrefix(table, "QUEUE_ID ") {
		t.Errorf("table:\n%s", table)
	}
	for text, args := range map[string]string{
		"--since yesterday":        "--since yesterday",
		"--until -1h":              "--until -1h",
		"--since 2026-13-01":       "--since 2026-13-01",
		`no state "lost"`:          "--state lost -o json",
		"table|json|jsonl|csv":     "-o xml",
		"unknown command \"late\"": "late",
	} {
		r.fails(2, text, append([]string{"ledger", "export"}, strings.Fields(args)...)...)
	}
	r.fails(2, "choose one of table|json", "ledger", "balance", "-o", "csv")
}

// A message in the books that lies in no stream is a loss, and is said so.
func TestLedgerDoesNotBalance(t *testing.T) {
	r := start(t)
	_, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	to, err := smtp.ParseAddress("lost@inet.test")
	if err != nil {
		t.Fatal(err)
	}
	id := mail.NewQueueIDs().Next()
	err = bus.Record(t.Context(), "forged", event.Record{
		Stage: event.StagePolicy, Outcome: event.Entered, QueueID: id, Recipients: []event.RecipientRecord{{Address: smtp.ForwardPath{Address: to}}},
		Message: &event.MessageRecord{AcceptedAt: time.Now().UTC(), Size: 1, Owner: "chem", Class: mail.ClassDefault},
	})
	if err != nil {
		t.Fatal(err)
	}
	asJSON := make(chan result) // both wait 10 s for work in flight
	go func() { asJSON <- r.do("ledger", "balance", "-o", "json") }()
	got := r.do("ledger", "balance")
	if got.code != 20 || got.err != "" || !strings.Contains(got.stdout, "x "+string(id)+" lost@inet.test: lost\n") || !strings.Contains(got.stdout, "x 1 recipients do not add up") {
		t.Errorf("balance: %+v", got)
	}
	got = <-asJSON
	var b books.Balance
	if err := json.Unmarshal([]byte(got.stdout), &b); err != nil || got.code != 20 || b.Residual != 1 || b.Offending[0].Problem != books.ProblemLost {
		t.Errorf("balance as JSON: %+v, %v", got, err)
	}
}

func TestBalanceNamesWhatElseIsWrong(t *testing.T) {
	var out bytes.Buffer
	if err := printBalance(&out, &books.Balance{Conflicts: 2, Unreadable: 3, Arriving: 4}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"2 recipients are in the books both", "3 records or queued messages cannot be read", "4 messages are arriving"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in\n%s", text, out.String())
		}
	}
}
