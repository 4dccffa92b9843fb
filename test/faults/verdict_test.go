//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/smtp"
)

// findings is what the check says.
type findings struct {
	Verdict string `json:"verdict"`
	Counts  struct {
		Accepted        int            `json:"accepted"`
		Ambiguous       int            `json:"ambiguous"`
		Late            int            `json:"late"`
		States          map[string]int `json:"states"`
		OtherQueued     int            `json:"other_queued"`
		Copies          int            `json:"copies"`
		FailureReports  int            `json:"failure_reports"`
		DuplicateCopies int            `json:"duplicate_copies"`
		LateAccepted    int            `json:"late_accepted"`
	} `json:"counts"`
	Violations []struct {
		Invariant string `json:"invariant"`
		Token     string `json:"token"`
		Recipient string `json:"recipient"`
		Detail    string `json:"detail"`
	} `json:"violations"`
	Queued []string `json:"queued"`
}

// rests reports that nothing more is to be expected: nobody is queued, and
// nothing is missing that could only be late.
func (f *findings) rests() bool {
	for _, v := range f.Violations {
		if strings.HasPrefix(v.Invariant, "I1") {
			return false
		}
	}
	return len(f.Queued)+f.Counts.OtherQueued == 0
}

// judge waits until the relay has come to rest and holds the witnesses against
// each other.
func (r *rig) judge() {
	r.Helper()
	r.settle()
	r.crashes()
	bus := r.relay.Connect(r)
	budget := r.explained(bus)
	late := storeAway(r.submissions(), r.spans)
	f := r.check(budget.open+budget.unrecorded, late)
	r.Logf("%d faults; accepted %d recipients, delivered %d, bounced %d, ambiguous %d; "+
		"duplicates %d, budget %d under way at the mailbox and %d answered at most %d ms before a fault and not recorded; "+
		"late %d messages of %d that were told to come again while the store was away",
		len(r.spans), f.Counts.Accepted, f.Counts.States["delivered"], f.Counts.States["bounced"], f.Counts.Ambiguous,
		f.Counts.DuplicateCopies, budget.open, budget.unrecorded, budget.longest.Milliseconds(),
		f.Counts.LateAccepted, late)
	if f.Verdict != "holds" {
		r.Errorf("the check says: %s, %d violations, %d queued", f.Verdict, len(f.Violations), len(f.Queued))
		r.show(bus, f)
	}
	if out, err := r.run("postrider", "ledger", "balance", "--config", r.relay.File); err != nil {
		r.Errorf("ledger balance: %v\n%s", err, out)
	}
}

// ambiguity is how many duplicates the faults explain.
type ambiguity struct {
	// open were under way at the mailbox when a fault struck.
	open int
	// unrecorded are duplicates whose first answer had been written shortly
	// before a fault, at most longest.
	unrecorded int
	longest    time.Duration
}

// explained wants every duplicate explained by a fault, and counts how many may
// be.
func (r *rig) explained(bus *queue.Bus) (a ambiguity) {
	r.Helper()
	transactions := read[transaction](r, r.path("transactions"))
	a.open = open(transactions, r.spans)
	wrong := 0
	for _, d := range duplicates(transactions) {
		d.recorded = r.recorded(bus, &d)
		err := d.explain(r.spans)
		switch {
		case err != nil && wrong < listed:
			r.Errorf("duplicate: %v: %s", err, &d)
			fallthrough
		case err != nil:
			wrong++
		case open([]transaction{d.first}, r.spans) == 0:
			a.unrecorded++
			a.longest = max(a.longest, d.unrecorded(r.spans))
		}
	}
	if wrong > listed {
		r.Errorf("and %d more duplicates", wrong-listed)
	}
	return a
}

// How much is shown of what is wrong: duplicates and violations, and messages
// with all that is known of them.
const (
	listed = 20
	shown  = 5
)

func (r *rig) submissions() (out []submission) {
	for _, path := range r.journals {
		out = append(out, read[submission](r, path)...)
	}
	return out
}

// steady is how many looks in a row must show the same.
const steady = 3

// settle waits until nothing happens any more: a check that holds too early
// may be followed by a duplicate. What never comes to rest is for the check to
// name.
func (r *rig) settle() {
	r.Helper()
	began := time.Now()
	patience := 100*time.Second + time.Duration(r.work.due)*10*time.Millisecond
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last findings
	for same := 0; same < steady; <-tick.C {
		f, err := r.look(1<<30, 1<<30)
		switch {
		case time.Since(began) > patience:
			r.Errorf("did not come to rest in %s: %d queued, %d reports queued, %d violations, %v", patience, len(f.Queued), f.Counts.OtherQueued, len(f.Violations), err)
			return
		case err != nil || !f.rests():
			same = 0
		case reflect.DeepEqual(f.Counts, last.Counts):
			same++
		default:
			same = 1
		}
		last = f
	}
	r.Logf("at rest %.0f s after the last fault, %.0f s after the last answer to a device", time.Since(r.lastFault()).Seconds(), time.Since(began).Seconds())
}

func (r *rig) lastFault() time.Time {
	if len(r.spans) == 0 {
		return time.Now()
	}
	return r.spans[len(r.spans)-1].back
}

// look exports the books and checks them.
func (r *rig) look(duplicates, late int) (f findings, err error) {
	rows, err := r.run("postrider", "ledger", "export", "-o", "jsonl", "--config", r.relay.File)
	if err != nil {
		return f, err
	}
	if err := os.WriteFile(r.path("ledger"), []byte(rows), 0o600); err != nil {
		return f, err
	}
	out, err := r.run("loadtest", "check", "--journal", strings.Join(r.journals, ","), "--sink", r.path("sink"), "--ledger", r.path("ledger"),
		"--duplicate-budget", strconv.Itoa(duplicates), "--late-budget", strconv.Itoa(late), "-o", "json")
	var exit *errExit
	if errors.As(err, &exit) && out != "" {
		err = nil // the verdict says it
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &f)
	}
	return f, err
}

func (r *rig) check(duplicates, late int) findings {
	r.Helper()
	f, err := r.look(duplicates, late)
	if err != nil {
		r.Fatalf("check: %v", err)
	}
	return f
}

// row is what a row of the exported books says.
type row struct {
	QueueID   string `json:"queue_id"`
	MessageID string `json:"message_id"`
	Recipient string `json:"recipient"`
	State     string `json:"state"`
}

// recorded is when LEDGER stored the first delivery of a duplicate.
func (r *rig) recorded(bus *queue.Bus, d *duplicate) (first time.Time) {
	rows := read[row](r, r.path("ledger"))
	i := slices.IndexFunc(rows, func(row row) bool {
		return strings.Trim(row.MessageID, "<>") == strings.Trim(d.messageID, "<>") && (row.Recipient == d.recipient || row.Recipient == sender)
	})
	if i < 0 {
		return first
	}
	for _, rec := range r.trace(bus, rows[i].QueueID).Records {
		if rec.Record.Outcome != event.Delivered || !first.IsZero() && !rec.Stored.Before(first) {
			continue
		}
		if slices.ContainsFunc(rec.Record.Recipients, func(rcpt event.RecipientRecord) bool { return same(rcpt.Address, rows[i].Recipient) }) {
			first = rec.Stored
		}
	}
	return first
}

func same(path smtp.ForwardPath, address string) bool {
	return strings.EqualFold(strings.Trim(path.String(), "<>"), address)
}

func (r *rig) trace(bus *queue.Bus, id string) *books.Trace {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	trace, err := books.Client(bus).Trace(ctx, id)
	if err != nil {
		r.Logf("trace %s: %v", id, err)
		return &books.Trace{}
	}
	return trace
}

// show shows what every witness says about the first messages that are wrong.
func (r *rig) show(bus *queue.Bus, f findings) {
	var tokens []string
	name := func(token string) {
		if !slices.Contains(tokens, token) && len(tokens) < shown {
			tokens = append(tokens, token)
		}
	}
	for i, v := range f.Violations {
		if i < listed {
			r.Logf("%s  %s  %s: %s", v.Invariant, v.Token, v.Recipient, v.Detail)
		}
		name(v.Token)
	}
	for _, queued := range f.Queued {
		token, _, _ := strings.Cut(queued, " ")
		name(token)
	}
	rows := read[row](r, r.path("ledger"))
	for _, token := range tokens {
		var b strings.Builder
		for _, path := range append(slices.Clone(r.journals), r.path("sink"), r.path("transactions"), r.path("ledger")) {
			r.grep(&b, path, token)
		}
		if i := slices.IndexFunc(rows, func(row row) bool { return strings.Contains(row.MessageID, token) }); i >= 0 {
			trace, err := json.MarshalIndent(r.trace(bus, rows[i].QueueID), "", " ")
			fmt.Fprintf(&b, "%s %v\n", trace, err)
			for _, p := range r.relay.Processes() {
				for line := range strings.Lines(p.Output()) {
					if strings.Contains(line, rows[i].QueueID) {
						fmt.Fprintf(&b, "%s: %s", p.Name, line)
					}
				}
			}
		}
		r.Logf("what is known of %s\n%s", token, &b)
	}
}

// grep writes the lines of a journal that name a token.
func (r *rig) grep(b *strings.Builder, path, token string) {
	for _, line := range (&tail{path: path}).next(r) {
		if strings.Contains(string(line), token) {
			fmt.Fprintf(b, "%s\n", line)
		}
	}
}
