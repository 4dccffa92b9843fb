package main

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/timetest"
)

// TestRecover: what was lost from the streams is in the plan; the id that was
// read has it driven, and no other.
func TestRecover(t *testing.T) {
	r := start(t)
	if got := r.ok("ledger", "recover"); got != "+ Nothing is lost, nothing to do.\n" {
		t.Errorf("nothing is lost: %q", got)
	}
	r.fails(2, "choose one", "ledger", "recover", "--plan", "--confirm", "x")

	id := r.deferred("once-450+1@one.test")
	_, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	s, err := bus.JS.Stream(t.Context(), queue.StreamDeliver)
	if err == nil {
		err = s.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	plan := r.ok("ledger", "recover", "--plan")
	if !strings.Contains(plan, "drive: 1 messages, 1 recipients") || !strings.Contains(plan, id) || !strings.Contains(plan, "chem") || !strings.Contains(plan, "by itself") {
		t.Errorf("plan:\n%s", plan)
	}
	r.fails(5, "the plan has changed", "ledger", "recover", "--confirm", "other")
	r.delivered()
	_, rest, _ := strings.Cut(plan, "--confirm ")
	done := r.do("ledger", "recover", "--confirm", strings.TrimSpace(rest))
	if done.code != 0 || !strings.Contains(done.stdout, "+ It is done.") || !strings.Contains(done.err, "1 of 1 messages") {
		t.Errorf("confirmed: %+v", done)
	}
	r.delivered("once-450+1@one.test")
	if trace := r.ok("trace", id); !strings.Contains(trace, "driven") || !strings.Contains(trace, actor()) {
		t.Errorf("trace:\n%s", trace)
	}
	r.fails(5, "the plan has changed", "ledger", "recover", "--confirm", strings.TrimSpace(rest))
	timetest.Await(t, "the books balance", func() bool { return r.do("ledger", "balance").code == 0 })
}

func TestPrintPlan(t *testing.T) {
	drive := books.PlanAction{Action: books.ActionDrive, Messages: 120, Recipients: 130,
		Rows:     []books.PlanRow{{Owner: "chem", Destination: "example.org", Recipients: 130}},
		Examples: []books.PlanExample{{QueueID: "M", Recipient: "a\x1b@example.org"}}}
	until := time.Date(2026, 11, 20, 12, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		plan books.Plan
		want []string
	}{
		"held": {books.Plan{ID: "abc", Held: "120 messages would be driven again", Actions: []books.PlanAction{drive}},
			[]string{"drive: 120 messages, 130 recipients", "130  chem  example.org", "e.g. M a?@example.org\n", "Nothing moves before", "--confirm abc"}},
		"rolled back": {books.Plan{ID: "abc", Held: "unsure", RolledBack: "LEDGER is behind", Evidence: []books.Evidence{{File: "/data/ledger-7.db", Until: until}, {File: "/data/ledger-9.db", Problem: "old"}}},
			[]string{"x LEDGER is behind.", "+ The earlier index ledger-7.db knows what was settled until 2026-11-20 12:00:00", "ledger-9.db cannot be read: old"}},
		"without an index": {books.Plan{ID: "abc", Held: "unsure", RolledBack: "LEDGER is behind"}, []string{"would be sent again"}},
		"done":             {books.Plan{ID: "abc", Held: "many", Done: true, Actions: []books.PlanAction{drive}}, []string{"130 recipients, driven", "+ It is done."}},
		"gone":             {books.Plan{Actions: []books.PlanAction{{Action: books.ActionGone, Messages: 1, Recipients: 1}}}, []string{"x Nothing can be done"}},
	} {
		var out strings.Builder
		if err := printPlan(&out, &c.plan); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, out.String())
			}
		}
	}
}
