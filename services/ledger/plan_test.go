package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/books"
)

// at is a recipient without an end: lost, failed at a place, or known to an
// earlier index.
func at(address, what string) openRecipient {
	_, domain, _ := strings.Cut(address, "@")
	r := openRecipient{recipient: recipient{address: address, destination: domain, accepted: true}}
	for word := range strings.FieldsSeq(what) {
		switch word {
		case "lost":
			r.lost = true
		case "failed":
			r.failed = placeOf(7, 0)
		case "delivered":
			r.known = recipient{address: address, state: delivered}
		}
	}
	return r
}

func TestDecide(t *testing.T) {
	const a, b, c = "a@example.org", "b@example.org", "c@example.com"
	for _, test := range []struct {
		name            string
		entered, stored bool
		open            []openRecipient
		want            string
	}{
		{"lost is driven", true, true, []openRecipient{at(a, "lost")}, "drive a@example.org"},
		{"with all who wait", true, true, []openRecipient{at(a, "lost"), at(c, "")}, "drive a@example.org c@example.com"},
		{"failed is reported and not driven", true, true, []openRecipient{at(a, "lost failed"), at(b, "lost")}, "report a@example.org; drive b@example.org"},
		{"a report on its way is let be", true, true, []openRecipient{at(a, "failed"), at(b, "lost")}, "drive b@example.org"},
		{"without its content it is gone", true, false, []openRecipient{at(a, "lost"), at(b, "lost failed")}, "report b@example.org; gone a@example.org"},
		{"nothing is lost", true, true, []openRecipient{at(a, ""), at(b, "")}, "resume a@example.org b@example.org"},
		{"LEDGER forgot an end", true, true, []openRecipient{at(a, "delivered"), at(b, "lost delivered")}, "settle a@example.org b@example.org"},
		{"LEDGER forgot an end, and one is lost", true, true, []openRecipient{at(a, "delivered"), at(b, "lost")}, "settle a@example.org; drive b@example.org"},
		{"LEDGER forgot the message", false, true, []openRecipient{at(a, "lost delivered"), at(b, "lost"), at(c, "")},
			"enter a@example.org b@example.org c@example.com; settle a@example.org; drive b@example.org c@example.com"},
		{"and MAIL too", false, false, []openRecipient{at(a, "lost delivered"), at(b, "lost failed"), at(c, "")}, "gone b@example.org"},
	} {
		f := &fact{message: message{queueID: "M"}, entered: test.entered, stored: test.stored, open: test.open}
		var got []string
		for _, s := range decide(f) {
			words := []string{string(s.action)}
			for i := range s.rcpts {
				words = append(words, s.rcpts[i].address)
			}
			got = append(got, strings.Join(words, " "))
		}
		if text := strings.Join(got, "; "); text != test.want {
			t.Errorf("%s: %s, want %s", test.name, text, test.want)
		}
	}
}

// planOf makes a plan of messages, each with the recipients that are lost.
func planOf(rolledBack string, messages ...[]openRecipient) (*planner, *books.Plan) {
	p := newPlanner(rolledBack)
	for n, open := range messages {
		f := &fact{message: message{queueID: "M", owner: fmt.Sprint("owner-", n)}, entered: true, stored: true, open: open}
		p.add(f, decide(f))
	}
	return p, p.finish(rolledBack)
}

// TestPlan: an id stands for what would be done, and for nothing else.
func TestPlan(t *testing.T) {
	lost := func(address string) []openRecipient { return []openRecipient{at(address, "lost")} }
	_, first := planOf("", lost("a@example.org"), lost("b@example.org"))
	_, same := planOf("", lost("a@example.org"), lost("b@example.org"), []openRecipient{at("c@example.org", "")})
	_, other := planOf("", lost("a@example.org"), lost("c@example.org"))
	_, back := planOf("LEDGER is shorter", lost("a@example.org"), lost("b@example.org"))
	if first.ID == "" || first.ID != same.ID || first.ID == other.ID || first.ID == back.ID {
		t.Errorf("ids %s %s %s %s", first.ID, same.ID, other.ID, back.ID)
	}
	if first.Held != "" || back.Held == "" {
		t.Errorf("held %q, %q", first.Held, back.Held)
	}
	drive := first.Of(books.ActionDrive)
	if drive.Messages != 2 || drive.Recipients != 2 || len(drive.Rows) != 2 || drive.Rows[0] != (books.PlanRow{Owner: "owner-0", Destination: "example.org", Recipients: 1}) {
		t.Errorf("drive %+v", drive)
	}
	if _, none := planOf("", []openRecipient{at("a@example.org", "")}); none.ID != "" || len(none.Actions) != 0 {
		t.Errorf("nothing to do: %+v", none)
	}
	if _, empty := planOf("LEDGER is shorter"); empty.ID == "" {
		t.Error("a rollback without anything to do need not be confirmed")
	}
}

// TestPlanHeld: more than MaxUnconfirmed messages are not driven unasked.
func TestPlanHeld(t *testing.T) {
	var many [][]openRecipient
	for n := range books.MaxUnconfirmed + 1 {
		many = append(many, []openRecipient{at(fmt.Sprintf("u%d@example.org", n), "lost"), at(fmt.Sprintf("v%d@example.org", n), "lost")})
	}
	if _, plan := planOf("", many[1:]...); plan.Held != "" {
		t.Errorf("%d messages are held: %s", len(many)-1, plan.Held)
	}
	p, plan := planOf("", many...)
	if plan.Held == "" {
		t.Errorf("%d messages are not held", len(many))
	}
	// What is driven later must be in the plan that was confirmed.
	f := &fact{message: message{queueID: "M"}, entered: true, stored: true, open: many[0][:1]}
	if s := decide(f)[0]; !p.has(f, s) {
		t.Error("what is left of a step is not in the plan")
	}
	f.open = []openRecipient{at("other@example.org", "lost")}
	if s := decide(f)[0]; p.has(f, s) {
		t.Error("what was never planned is in the plan")
	}
}
