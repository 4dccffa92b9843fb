//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// lag is what lies between a signal and the last octet that a process sent
// before it: read later, by a mailbox that waits for its processor, and the
// other way round.
const lag = time.Second

// settling is how long after the return of the store the services may need to
// reach it again, and to record what they could not.
const settling = 10 * time.Second

// open counts the recipients whose dot was under way at the mailbox when a
// fault struck that can take the answer away: one that killed a worker, or the
// store in which it records the answer.
func open(transactions []transaction, spans []span) (n int) {
	for _, tr := range transactions {
		if slices.ContainsFunc(spans, func(s span) bool { return s.takesAnswers() && tr.Dot.Before(s.struck) && tr.Answered.After(s.from) }) {
			n += len(tr.Recipients)
		}
	}
	return n
}

func (s *span) takesAnswers() bool { return s.kill && (s.hits("delivery") || s.hits("nats")) }

// duplicate is a recipient to whom the mailbox acknowledged a message twice.
type duplicate struct {
	messageID, recipient string
	first, second        transaction
	// recorded is when LEDGER stored the first record of a delivery; zero
	// when it has none.
	recorded time.Time
}

func (d *duplicate) String() string {
	recorded := "no record"
	if !d.recorded.IsZero() {
		recorded = "recorded " + clock(d.recorded)
	}
	return fmt.Sprintf("%s to %s: dot %s, answered %s, %s, dot again %s",
		d.messageID, d.recipient, clock(d.first.Dot), clock(d.first.Answered), recorded, clock(d.second.Dot))
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }

// duplicates finds them in the order of their second dots.
func duplicates(transactions []transaction) []duplicate {
	type key struct{ messageID, recipient string }
	seen := map[key]transaction{}
	var out []duplicate
	slices.SortFunc(transactions, func(a, b transaction) int { return a.Dot.Compare(b.Dot) })
	for _, tr := range transactions {
		for _, recipient := range tr.Recipients {
			k := key{tr.MessageID, recipient}
			if first, ok := seen[k]; ok {
				out = append(out, duplicate{messageID: tr.MessageID, recipient: recipient, first: first, second: tr})
			}
			seen[k] = tr
		}
	}
	return out
}

// explain says why a duplicate had to be, or what is wrong with it. A relay
// that knows of a delivery must not repeat it; one that does not know must
// have lost the answer by a fault. Where the store was away at that moment,
// what was known could not be recorded until it was back.
func (d *duplicate) explain(spans []span) error {
	if !d.recorded.IsZero() && d.recorded.Before(d.second.Dot.Add(-lag)) {
		return fmt.Errorf("sent again %s after it was recorded", d.second.Dot.Sub(d.recorded).Round(time.Millisecond))
	}
	until := d.first.Answered.Add(lag)
	for _, s := range spans {
		if away := s.back.Add(settling); s.hits("nats") && s.from.Before(until) && until.Before(away) {
			until = away
		}
	}
	for _, s := range spans {
		if s.takesAnswers() && s.struck.After(d.first.Dot.Add(-lag)) && s.from.Before(until) {
			return nil
		}
	}
	return fmt.Errorf("no fault took the answer away")
}

// unrecorded is how long before the nearest fault the answer was written.
func (d *duplicate) unrecorded(spans []span) time.Duration {
	nearest := time.Duration(0)
	for _, s := range spans {
		if gap := s.from.Sub(d.first.Answered); s.takesAnswers() && gap > 0 && (nearest == 0 || gap < nearest) {
			nearest = gap
		}
	}
	return nearest
}

// storeAway counts the messages whose dot was answered 4yz while the store was
// away: what was stored of them may arrive.
func storeAway(lines []submission, spans []span) (n int) {
	sent := map[string]time.Time{}
	for _, l := range lines {
		switch {
		case l.Phase == "sent":
			sent[l.Token] = l.At
		case l.Phase == "reply" && l.Code/100 == 4:
			if slices.ContainsFunc(spans, func(s span) bool {
				return s.hits("nats") && sent[l.Token].Before(s.back.Add(settling)) && l.At.After(s.from)
			}) {
				n++
			}
		}
	}
	return n
}

// TestExplain: the rule, by examples. Seconds since the first dot.
func TestExplain(t *testing.T) {
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	strike := func(target string, kill bool, from, back float64) span {
		return span{fault: fault{targets: []string{target}}, kill: kill, from: at(from), struck: at(from + 0.01), back: at(back)}
	}
	for _, tt := range []struct {
		name             string
		recorded, second float64 // recorded 0: never
		spans            []span
		want             string // empty: explained
	}{
		{"killed before the answer", 30, 20, []span{strike("delivery-2", true, 0.05, 1)}, ""},
		{"killed before the record", 30, 20, []span{strike("delivery", true, 0.5, 1)}, ""},
		{"never recorded", 0, 20, []span{strike("delivery", true, 0.05, 1)}, ""},
		{"nothing happened", 30, 20, nil, "no fault"},
		{"killed long after", 30, 20, []span{strike("delivery", true, 5, 6)}, "no fault"},
		{"killed long before", 30, 20, []span{strike("delivery", true, -5, -4)}, "no fault"},
		{"only stopped", 30, 20, []span{strike("delivery", false, 0.05, 5)}, "no fault"},
		{"another was killed", 30, 20, []span{strike("policy", true, 0.05, 1)}, "no fault"},
		{"the store died, too", 30, 20, []span{strike("nats-1", true, 0.05, 4), strike("delivery", true, 6, 7)}, ""},
		{"the store stood still, and then the worker died", 30, 20, []span{strike("nats-1", false, 0.05, 5), strike("delivery", true, 6, 7)}, ""},
		{"known, and sent again", 2, 20, []span{strike("delivery", true, 0.05, 1)}, "18s after it was recorded"},
	} {
		d := duplicate{first: transaction{Dot: begin, Answered: at(0.1)}, second: transaction{Dot: at(tt.second)}}
		if tt.recorded > 0 {
			d.recorded = at(tt.recorded)
		}
		err := d.explain(tt.spans)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, cmp.Or(tt.want, "explained"))
		}
	}
}

// TestOpen: what is counted is under way at the instant.
func TestOpen(t *testing.T) {
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ms := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Millisecond) }
	transactions := []transaction{
		{MessageID: "<1>", Recipients: []string{"a@a.test", "b@a.test"}, Dot: ms(0), Answered: ms(50)},
		{MessageID: "<2>", Recipients: []string{"a@a.test"}, Dot: ms(60), Answered: ms(110)},
		{MessageID: "<1>", Recipients: []string{"a@a.test"}, Dot: ms(9000), Answered: ms(9050)},
	}
	spans := []span{{fault: fault{targets: []string{"delivery"}}, kill: true, from: ms(40), struck: ms(42)}}
	if n := open(transactions, spans); n != 2 {
		t.Errorf("%d were open, want 2", n)
	}
	found := duplicates(transactions)
	if len(found) != 1 || found[0].recipient != "a@a.test" || open([]transaction{found[0].first}, spans) == 0 {
		t.Errorf("duplicates %+v", found)
	}
	lines := []submission{
		{Token: "1", Phase: "sent", At: ms(0)}, {Token: "1", Phase: "reply", Code: 451, At: ms(100)},
		{Token: "2", Phase: "sent", At: ms(0)}, {Token: "2", Phase: "reply", Code: 250, At: ms(100)},
		{Token: "3", Phase: "sent", At: ms(20_000)}, {Token: "3", Phase: "reply", Code: 451, At: ms(20_100)},
	}
	spans[0].targets, spans[0].back = []string{"nats-1"}, ms(500)
	if n := storeAway(lines, spans); n != 1 {
		t.Errorf("%d were answered 4yz while the store was away, want 1", n)
	}
}
