package main

import (
	"encoding/csv"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/timetest"
)

// delivered waits until the MX has mail for exactly these recipients.
func (r *relay) delivered(want ...string) {
	r.t.Helper()
	timetest.Await(r.t, "delivered to "+strings.Join(want, " "), func() bool {
		var got []string
		for _, d := range r.mx.Deliveries() {
			for _, to := range d.Recipients {
				got = append(got, to.String())
			}
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func TestQueueForms(t *testing.T) {
	r := start(t)
	if got := r.ok("queue", "ls", "-o", "json"); got != "[]\n" {
		t.Errorf("an empty queue as JSON: %q", got)
	}
	if got := r.ok("queue", "ls", "-o", "jsonl"); got != "" {
		t.Errorf("an empty queue as JSON lines: %q", got)
	}
	id := r.deferred("450-4.7.1@inet.test", "450@inet.test")
	row := r.list("queue", "ls")[0]
	for key, want := range map[string]any{
		"id": id + "-0", "queue_id": id, "state": "deferred", "attempts": 1.0, "sender": "prn@campus.test", "destination": "inet.test",
		"device": "prn.campus.test", "owner": "chem",
	} {
		if row[key] != want {
			t.Errorf("%s is %v, want %v", key, row[key], want)
		}
	}
	if row["next"] == nil || row["reason"] == nil || len(row["recipients"].([]any)) != 2 || row["size"].(float64) < 100 {
		t.Errorf("row %v", row)
	}

	var line map[string]any
	if err := json.Unmarshal([]byte(r.ok("queue", "ls", "-o", "jsonl")), &line); err != nil || line["id"] != id+"-0" {
		t.Errorf("JSON line %v, %v", line, err)
	}
	rows, err := csv.NewReader(strings.NewReader(r.ok("queue", "ls", "-o", "csv"))).ReadAll()
	if err != nil || len(rows) != 2 || rows[0][0] != "id" || rows[1][0] != id+"-0" || rows[1][1] != "deferred" {
		t.Errorf("CSV %q, %v", rows, err)
	}
	table := r.ok("queue", "ls")
	for _, text := range []string{"ID ", "deferred", "450-4.7.1@inet.test +1", "prn@campus.test", "450 4.7.1"} {
		if !strings.Contains(table, text) {
			t.Errorf("no %q in the table:\n%s", text, table)
		}
	}
	if strings.Contains(table, "\x1b") {
		t.Error("the table has colours")
	}
	for words, n := range map[string]int{
		"domain:inet.test": 1, "-domain:inet.test": 0, "domain:*.org": 0, "owner:chem -state:ready": 1, "older:1h": 0, "younger:1h": 1,
		id: 1, id + " " + id + "-0": 1, "-" + id: 0, "reason:4.7.1": 1,
	} {
		if got := len(r.list(append([]string{"queue", "ls"}, strings.Fields(words)...)...)); got != n {
			t.Errorf("%s lists %d, want %d", words, got, n)
		}
	}
	r.fails(2, "unknown key", "queue", "ls", "domian:x")
	r.fails(2, "choose one of table|json|jsonl|csv", "queue", "ls", "-o", "xml")
}

func TestQueueRetry(t *testing.T) {
	r := start(t)
	r.fails(3, "no deferred job matches", "queue", "retry", "--all")
	r.fails(2, "say which", "queue", "retry")
	r.fails(2, "contradict", "queue", "retry", "--all", "domain:inet.test")

	one, two, three := r.deferred("once-450+1@one.test"), r.deferred("once-450+2@two.test"), r.deferred("once-450+3@three.test")
	never := r.deferred("450@never.test")
	r.fails(3, "no deferred job matches", "queue", "retry", "domain:absent.test")
	r.fails(3, "no deferred job matches", "queue", "retry", "domain:absent.test", "--dry-run")

	before := r.list("queue", "ls")
	dry := r.do("queue", "retry", "--all", "--dry-run")
	if dry.code != 0 || strings.Count(dry.stdout, "\n") != 4 || dry.err != "4 jobs would be tried now\n" {
		t.Errorf("dry run: %+v", dry)
	}
	for _, was := range before {
		now := r.list("queue", "ls", was["id"].(string))
		if len(now) != 1 || now[0]["next"] != was["next"] || now[0]["attempts"] != was["attempts"] {
			t.Errorf("a dry run changed %v to %v", was, now)
		}
	}
	r.delivered()

	if got := r.ok("queue", "retry", "domain:one.test", "--reason", "ticket 7"); got != "1 jobs are ready\n" {
		t.Errorf("retry says %q", got)
	}
	r.delivered("once-450+1@one.test")

	piped := postrider(t, two+"\n"+three+"-0\n", "--config", r.file, "queue", "retry", "-")
	if piped.code != 0 || piped.stdout != "2 jobs are ready\n" {
		t.Errorf("ids on stdin: %+v", piped)
	}
	r.delivered("once-450+1@one.test", "once-450+2@two.test", "once-450+3@three.test")
	if got := postrider(t, "\n", "--config", r.file, "queue", "retry", "-"); got.code != 2 {
		t.Errorf("no ids on stdin: %+v", got)
	}

	r.ok("queue", "retry", "--all")
	timetest.Await(t, "it was tried again", func() bool {
		rows := r.list("queue", "ls", "state:deferred", never)
		return len(rows) == 1 && rows[0]["attempts"] == 2.0
	})
	timetest.Await(t, "only that one is queued", func() bool { return len(r.list("queue", "ls")) == 1 })

	trace := r.ok("trace", one)
	if !strings.Contains(trace, "operator retried (ticket 7) by "+actor()) || !strings.Contains(trace, "+ delivered") {
		t.Errorf("trace:\n%s", trace)
	}
	r.ok("ledger", "balance")
}
