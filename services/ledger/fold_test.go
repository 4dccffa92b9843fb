package ledger

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func address(s string) smtp.Address {
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func to(addresses ...string) []event.RecipientRecord {
	var out []event.RecipientRecord
	for _, s := range addresses {
		out = append(out, event.RecipientRecord{Address: smtp.ForwardPath{Address: address(s)}})
	}
	return out
}

// said is one recipient with what a host said about it.
func said(to string, code int, text string) []event.RecipientRecord {
	return []event.RecipientRecord{{
		Address: smtp.ForwardPath{Address: address(to)}, Reply: smtp.Reply{Code: code, Enhanced: "1.1", Text: text}, RemoteMTA: "mx.test [192.0.2.1]",
	}}
}

func accepted(id string, rcpts ...string) event.Record {
	return event.Record{
		At: noon, Stage: event.StagePolicy, Outcome: event.Entered, QueueID: mail.QueueID(id), Recipients: to(rcpts...),
		Message: &event.MessageRecord{
			AcceptedAt: noon, MessageID: "<" + id + "@campus.test>", SubmissionID: "token-" + id, ReversePath: smtp.ReversePath{Address: address("prn@campus.test")},
			Size: 1000, Class: mail.ClassScan, Device: "prn-1", Owner: "chem", LateAccept: id == "LATE",
		},
	}
}

func outcome(o event.Outcome, id string, attempt int, rcpts []event.RecipientRecord) event.Record {
	stage := map[event.Outcome]event.Stage{
		event.Bounced: event.StageBounce, event.Expired: event.StageBounce, event.Removed: event.StageOperator, event.Discarded: event.StagePolicy,
	}[o]
	r := event.Record{At: noon.Add(time.Duration(attempt) * time.Minute), Stage: stage, Outcome: o, QueueID: mail.QueueID(id), Recipients: rcpts}
	if stage == "" {
		r.Stage, r.Job, r.Attempt = event.StageDelivery, id+"-0", attempt
	}
	return r
}

func with(r event.Record, change func(*event.Record)) event.Record {
	change(&r)
	return r
}

func foldAll(records ...event.Record) *account {
	a := &account{}
	for i := range records {
		a.fold(&records[i], placeOf(uint64(i+1), 0))
	}
	return a
}

func TestFold(t *testing.T) {
	const a = "a@example.org"
	again := func(r *event.Record) { r.At = r.At.Add(time.Second) }
	doubt := func(r *event.Record) { r.Recipients[0].PossibleDuplicate = true }
	operator := func(r *event.Record) { r.Actor, r.Reason = "kim", "wrong list" }
	for _, c := range []struct {
		name    string
		records []event.Record
		want    recipient
	}{
		{"accepted", []event.Record{accepted("M", a)}, recipient{accepted: true}},
		{"accepted twice", []event.Record{accepted("M", a), accepted("M", a)}, recipient{accepted: true}},
		{"delivered",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, said(a, 250, "ok"))},
			recipient{accepted: true, state: delivered, attempts: 1, last: saying{diagnostic: "250 2.1.1 ok"}}},
		{"delivered before accepted",
			[]event.Record{outcome(event.Delivered, "M", 1, said(a, 250, "ok")), accepted("M", a)},
			recipient{accepted: true, state: delivered, attempts: 1, last: saying{diagnostic: "250 2.1.1 ok"}}},
		{"delivered, never accepted",
			[]event.Record{outcome(event.Delivered, "M", 1, to(a))},
			recipient{state: delivered, attempts: 1}},
		{"delayed",
			[]event.Record{accepted("M", a), outcome(event.Delayed, "M", 1, said(a, 451, "busy")), outcome(event.Delayed, "M", 2, said(a, 452, "full"))},
			recipient{accepted: true, attempts: 2, last: saying{diagnostic: "452 4.1.1 full"}}},
		{"delayed, told out of order",
			[]event.Record{accepted("M", a), outcome(event.Delayed, "M", 2, said(a, 452, "full")), outcome(event.Delayed, "M", 1, said(a, 451, "busy"))},
			recipient{accepted: true, attempts: 2, last: saying{diagnostic: "452 4.1.1 full"}}},
		{"failed is still queued",
			[]event.Record{accepted("M", a), outcome(event.Failed, "M", 1, said(a, 550, "unknown"))},
			recipient{accepted: true, attempts: 1, failed: placeOf(2, 0), last: saying{diagnostic: "550 5.1.1 unknown"}}},
		{"bounced keeps what was said before",
			[]event.Record{accepted("M", a), outcome(event.Failed, "M", 1, said(a, 550, "unknown")), outcome(event.Bounced, "M", 0, to(a))},
			recipient{accepted: true, state: bounced, attempts: 1, failed: placeOf(2, 0), last: saying{diagnostic: "550 5.1.1 unknown"}}},
		{"removed by whom and why",
			[]event.Record{accepted("M", a), outcome(event.Delayed, "M", 1, said(a, 451, "busy")), with(outcome(event.Removed, "M", 0, to(a)), operator)},
			recipient{accepted: true, state: removed, attempts: 1, last: saying{diagnostic: "451 4.1.1 busy"}, decided: decision{actor: "kim", reason: "wrong list"}}},
		{"stored twice is not delivered twice",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, to(a)), outcome(event.Delivered, "M", 1, to(a))},
			recipient{accepted: true, state: delivered, attempts: 1}},
		{"delivered by two attempts",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, to(a)), outcome(event.Delivered, "M", 2, to(a))},
			recipient{accepted: true, state: delivered, attempts: 2, possibleDup: true}},
		{"delivered twice by one attempt",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, to(a)), with(outcome(event.Delivered, "M", 1, to(a)), again)},
			recipient{accepted: true, state: delivered, attempts: 1, possibleDup: true}},
		{"possible duplicate as delivery says",
			[]event.Record{accepted("M", a), with(outcome(event.Delivered, "M", 2, to(a)), doubt)},
			recipient{accepted: true, state: delivered, attempts: 2, possibleDup: true}},
		{"bounced, then delivered",
			[]event.Record{accepted("M", a), outcome(event.Bounced, "M", 0, to(a)), outcome(event.Delivered, "M", 1, to(a))},
			recipient{accepted: true, state: bounced, attempts: 1, conflict: true}},
		{"delivered, then bounced",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, to(a)), outcome(event.Bounced, "M", 0, to(a))},
			recipient{accepted: true, state: delivered, attempts: 1, conflict: true}},
		{"removed while it was sent",
			[]event.Record{accepted("M", a), outcome(event.Removed, "M", 0, to(a)), outcome(event.Delivered, "M", 1, to(a))},
			recipient{accepted: true, state: removed, attempts: 1, conflict: true}},
		{"delivered, then removed in vain",
			[]event.Record{accepted("M", a), outcome(event.Delivered, "M", 1, to(a)), outcome(event.Removed, "M", 0, to(a))},
			recipient{accepted: true, state: delivered, attempts: 1}},
		{"expired", []event.Record{accepted("M", a), outcome(event.Expired, "M", 0, to(a))}, recipient{accepted: true, state: expired}},
		{"discarded", []event.Record{accepted("M", a), outcome(event.Discarded, "M", 0, to(a))}, recipient{accepted: true, state: discarded}},
		{"signed and retried change nothing",
			[]event.Record{accepted("M", a), {Stage: event.StageSigner, Outcome: event.Signed, QueueID: "M", Recipients: to(a)}, {Stage: event.StageOperator, Outcome: event.Retried, QueueID: "M", Recipients: to(a), Actor: "kim"}},
			recipient{accepted: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := *foldAll(c.records...).recipients[a]
			if (got.state == queued) != got.settledAt.IsZero() {
				t.Errorf("state %d is settled at %v", got.state, got.settledAt)
			}
			// Besides, only what the case is about is compared.
			got.address, got.destination, got.settledAt, got.settledKey = "", "", time.Time{}, 0
			got.last = saying{diagnostic: got.last.diagnostic}
			got.decided.rank = 0
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestFoldMessage(t *testing.T) {
	a := foldAll(outcome(event.Delivered, "LATE", 1, to("a@example.org")), accepted("LATE", "a@example.org", "b@example.com"))
	if len(a.recipients) != 2 || a.recipients["b@example.com"].destination != "example.com" {
		t.Errorf("recipients %v", a.recipients)
	}
	if a.first != placeOf(1, 0) || a.acceptedSeq != 2 || a.owner != "chem" || a.device != "prn-1" || a.sender != "prn@campus.test" ||
		a.submissionID != "token-LATE" || !a.lateAccept || !a.acceptedAt.Equal(noon) {
		t.Errorf("message %+v", a.message)
	}
}

// TestFoldOrder: records about a message may come in any order. As long as the
// terminal ones keep theirs, the account comes out the same.
func TestFoldOrder(t *testing.T) {
	rcpts := []string{"a@example.org", "b@example.org", "c@example.com"}
	outcomes := []event.Outcome{event.Delayed, event.Failed, event.Signed, event.Retried,
		event.Delivered, event.Bounced, event.Expired, event.Removed, event.Discarded}
	generate := rapid.Custom(func(t *rapid.T) event.Record {
		rcpt := rapid.SampledFrom(rcpts).Draw(t, "rcpt")
		r := outcome(rapid.SampledFrom(outcomes).Draw(t, "outcome"), "M", rapid.IntRange(0, 4).Draw(t, "attempt"), to(rcpt))
		if rapid.Bool().Draw(t, "said") {
			r.Recipients = said(rcpt, rapid.SampledFrom([]int{250, 451, 550}).Draw(t, "code"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "text"))
		}
		r.Recipients[0].PossibleDuplicate = rapid.IntRange(0, 9).Draw(t, "doubt") == 0
		r.Reason = rapid.SampledFrom([]string{"", "p", "q"}).Draw(t, "reason")
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		history := rapid.SliceOfN(generate, 0, 12).Draw(t, "history")
		history = append(history, accepted("M", rcpts...))
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(history)-1), 0, 3).Draw(t, "stored twice") {
			history = append(history, history[i])
		}
		shuffled := keepTerminalOrder(history, rapid.Permutation(history).Draw(t, "order"))
		want, got := foldAll(history...), foldAll(shuffled...)
		// Where a record lies is not what it says.
		for address, r := range want.recipients {
			if other := got.recipients[address]; other != nil && (r.failed != 0) == (other.failed != 0) {
				other.failed = r.failed
			}
		}
		if !maps.EqualFunc(want.recipients, got.recipients, func(a, b *recipient) bool { return *a == *b }) {
			for address, r := range want.recipients {
				t.Logf("%s\nwant %+v\ngot  %+v", address, *r, *got.recipients[address])
			}
			t.Fatal("the order of records that settle nothing mattered")
		}
		got.first, got.acceptedSeq = want.first, want.acceptedSeq
		if want.message != got.message {
			t.Fatalf("want %+v\ngot  %+v", want.message, got.message)
		}
	})
}

// keepTerminalOrder puts the terminal records of history, in their order, into
// the places that terminal records have in shuffled.
func keepTerminalOrder(history, shuffled []event.Record) []event.Record {
	var terminal []event.Record
	for _, r := range history {
		if r.Outcome.Terminal() {
			terminal = append(terminal, r)
		}
	}
	out := slices.Clone(shuffled)
	for i := range out {
		if out[i].Outcome.Terminal() {
			out[i], terminal = terminal[0], terminal[1:]
		}
	}
	return out
}

// TestTally: the running balance is what counting every recipient gives,
// whatever the batches were.
func TestTally(t *testing.T) {
	m := &message{owner: "chem"}
	r := &recipient{destination: "example.org", accepted: true}
	sum := tally{}
	sum.add(m, r, 1)
	sum.add(m, r, -1)
	r.state, r.possibleDup = delivered, true
	sum.add(m, r, 1)
	for k, n := range sum {
		want := map[int]int{int(delivered): 1, sumAccepted: 1, sumDuplicates: 1}[k.what]
		if n != want {
			t.Errorf("%+v is %d, want %d", k, n, want)
		}
	}
}
