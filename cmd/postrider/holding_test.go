package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/timetest"
)

// heldIDs are the ids of what is held.
func (r *relay) heldIDs(selector ...string) (out []string) {
	r.t.Helper()
	for _, row := range r.list(append([]string{"queue", "ls", "state:held"}, selector...)...) {
		out = append(out, row["id"].(string))
	}
	slices.Sort(out)
	return out
}

// What is deferred can be held, is tried no more, and goes back to the queue, to
// its sender, or out of the relay as a person decides.
func TestQueueHold(t *testing.T) {
	r := start(t)
	first := r.deferred("once-450+1@one.test")
	r.deferred("once-450+1@two.test")
	second := r.deferred("450@one.test")
	r.deferred("450@three.test")
	if got := r.ok("queue", "hold", "--dry-run", "domain:one.test"); !strings.Contains(got, first) || !strings.Contains(got, second) || strings.Count(got, "\n") != 2 {
		t.Errorf("would hold %q", got)
	}
	r.fails(2, "say which", "queue", "hold")
	r.fails(3, "no job matches", "queue", "hold", "domain:none.test")
	if got := r.ok("queue", "hold", "domain:one.test", "--reason", "they ask us to wait"); !strings.HasPrefix(got, "2 jobs are held") {
		t.Errorf("said %q", got)
	}
	held := r.list("queue", "ls", "state:held")
	if len(held) != 2 || held[0]["attempts"] != 1.0 || held[0]["destination"] != "one.test" || !strings.Contains(held[0]["reason"].(string), "hold: by ") || !strings.Contains(held[0]["reason"].(string), ": they ask us to wait") {
		t.Errorf("held %v", held)
	}
	if trace := r.ok("trace", first); !strings.Contains(trace, "held by rule hold: by ") {
		t.Errorf("trace:\n%s", trace)
	}
	if got := r.ok("queue", "retry", "--all"); !strings.HasPrefix(got, "2 jobs are ready") {
		t.Errorf("of those that wait for an attempt: %q", got)
	}
	r.delivered("once-450+1@two.test")
	r.ok("ledger", "balance")

	r.ok("queue", "release", first, "--reason", "they are back")
	r.delivered("once-450+1@one.test", "once-450+1@two.test")
	timetest.Await(t, "it is settled", func() bool { return strings.Contains(r.ok("trace", first), "1 delivered") })
	r.ok("queue", "drop", second, "--confirm", r.heldPlan("queue", "drop", second))
	r.ok("queue", "drop", "--undo", second)
	r.ok("queue", "release", second)
	timetest.Await(t, "it is deferred once more", func() bool {
		rows := r.list("queue", "ls", "state:deferred", second)
		return len(rows) == 1 && rows[0]["attempts"] == 2.0
	})
	r.ok("queue", "hold", second)
	if got := r.heldIDs(); !slices.Equal(got, []string{second + "-0"}) {
		t.Errorf("held again %v", got)
	}
	r.ok("queue", "bounce", second, "--confirm", r.heldPlan("queue", "bounce", second))
	timetest.Await(t, "it is sent back", func() bool { return strings.Contains(r.ok("trace", second), "1 bounced") })
	if got := r.heldIDs(); len(got) != 0 {
		t.Errorf("still held %v", got)
	}
	r.ok("ledger", "balance")
}

// A device that is contained in the middle of a burst sends nothing more: every
// recipient went before, or is held; the sum balances, and what is released goes
// once.
func TestContainABurst(t *testing.T) {
	r := start(t)
	const name, from = "bad.campus.test", "127.8.0.1"
	r.ok("device", "request", name, "--address", from)
	r.ok("device", "approve", name)
	timetest.Await(t, "it may send", r.admits(from, "first@inet.test"))
	var burst sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for lane := range 4 {
		burst.Go(func() {
			for n := range 100 {
				to := func(what, domain string) string { return fmt.Sprintf("%s+%d-%d@%s", what, lane, n, domain) }
				rcpts := []string{to("a", "one.test"), to("tarpit-20ms", "two.test"), to("once-450", "three.test"), to("once-450", "four.test")}
				if _, err := submit(t, r.smtp, from, login{}, rcpts...); err != nil {
					return // it is stopped
				}
				mu.Lock()
				accepted += len(rcpts)
				mu.Unlock()
			}
		})
	}
	timetest.Await(t, "it has begun", func() bool { return len(r.list("queue", "ls", "state:deferred")) > 10 })
	var c containment
	if err := json.Unmarshal([]byte(r.ok("contain", name, "--reason", "phishing", "-o", "json")), &c); err != nil {
		t.Fatal(err)
	}
	burst.Wait()
	r.ok("ledger", "balance")
	other := r.submit("other@inet.test")
	if got := r.do("queue", "retry", "--all"); got.code != 3 {
		t.Errorf("there is something to try: %d %s", got.code, got.stdout)
	}
	went := r.counted(from)
	timetest.Await(t, "another device sends", func() bool { return strings.Contains(r.ok("trace", other), "1 delivered") })
	if rows := r.list("queue", "ls", "device:"+name, "!state:held"); len(rows) != 0 {
		t.Errorf("%d jobs are not held", len(rows))
	}
	if now := r.counted(from); now != went {
		t.Errorf("%d went after it was contained", now-went)
	}
	held := 0
	for _, row := range r.list("queue", "ls", "state:held", "device:"+name) {
		held += len(row["recipients"].([]any))
	}
	t.Logf("%d recipients accepted; %d went, %d are held", accepted, went, held)
	if held == 0 || went+held > accepted+10 || r.mostRecords(event.Kept) < 2 {
		t.Errorf("%d accepted, %d went, %d held; at most %d records in a message of LEDGER", accepted, went, held, r.mostRecords(event.Kept))
	}
	r.ok("queue", "release", "device:"+name)
	timetest.Await(t, "all of it went", func() bool {
		r.do("queue", "retry", "device:"+name) // what had not been tried before is deferred once
		return r.counted(from) == went+held
	})
	timetest.Await(t, "it is settled", func() bool { return len(r.list("queue", "ls", "device:"+name)) == 0 })
	r.ok("ledger", "balance")
	seen := map[string]int{}
	for _, d := range r.mx.Deliveries() {
		for _, to := range d.Recipients {
			if seen[to.String()]++; seen[to.String()] == 2 && strings.Contains(to.String(), "+") {
				t.Errorf("%s got it twice", to)
			}
		}
	}
}

// counted are the recipients that the MX took of a client's mail.
func (r *relay) counted(from string) (n int) {
	for _, d := range r.mx.Deliveries() {
		if strings.Contains(d.Field("Received"), "["+from+"]") {
			n += len(d.Recipients)
		}
	}
	return n
}

// mostRecords is how many records with that outcome share a message of LEDGER.
func (r *relay) mostRecords(o event.Outcome) (most int) {
	r.t.Helper()
	_, bus, err := connect(r.t.Context(), &flags{config: r.file})
	if err != nil {
		r.t.Fatal(err)
	}
	defer bus.Close()
	err = bus.List(r.t.Context(), queue.StreamLedger, "ledger.*."+string(o), 0, func(m *jetstream.RawStreamMsg) error {
		records, err := event.DecodeRecords(m.Data)
		most = max(most, len(records))
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return most
}
