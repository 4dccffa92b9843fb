package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/loadtest/journal"
)

const device = "scan@device.test"

// scene builds three witnesses that agree. Message n has the token "tn".
type scene struct{ Witnesses }

// submit adds a message and how it ended; each recipient is "reply local".
func (s *scene) submit(token, sender string, end journal.Submission, recipients ...string) {
	line := journal.Submission{
		Token: token, Phase: journal.Sent, MessageID: "<" + token + "@load.test>", Sender: sender, BodySHA256: "digest of " + token,
	}
	for _, text := range recipients {
		var reply int
		var local string
		fmt.Sscan(text, &reply, &local)
		line.Recipients = append(line.Recipients, journal.Recipient{Address: address(local, token), RcptReply: reply, Bad: local == "550"})
	}
	switch end.Phase {
	case journal.Refused, journal.Aborted:
		line.Phase, line.Code = end.Phase, end.Code
		s.Client = append(s.Client, line)
	default:
		s.Client = append(s.Client, line)
		if end.Phase != "" {
			end.Token = token
			s.Client = append(s.Client, end)
		}
	}
}

func address(local, token string) string { return local + "+" + token + "@load.test" }

func (s *scene) arrive(token string, acknowledged bool, locals ...string) {
	line := journal.Arrival{
		Kind: journal.Copy, Token: token, MessageID: "<" + token + "@load.test>", BodySHA256: "digest of " + token, Acknowledged: acknowledged,
	}
	for _, local := range locals {
		line.Recipients = append(line.Recipients, address(local, token))
	}
	s.Sink = append(s.Sink, line)
}

func (s *scene) report(token, local, action string) {
	s.Sink = append(s.Sink, journal.Arrival{
		Kind: journal.DSN, Token: token, MessageID: "<ndr-" + action + local + token + "@relay.test>", Recipients: []string{device},
		Recipient: address(local, token), Action: action, Status: "5.1.1", Acknowledged: true,
	})
}

func (s *scene) settle(token, local string, state journal.State) *journal.Settlement {
	s.Ledger = append(s.Ledger, journal.Settlement{
		QueueID: "Q" + token, MessageID: token + "@load.test", SubmissionID: token, Recipient: address(local, token), State: state,
	})
	return &s.Ledger[len(s.Ledger)-1]
}

// agreement is a run in which everything that may happen happened once.
func agreement() *scene {
	s := &scene{}
	yes := func(token string) journal.Submission {
		return journal.Submission{Phase: journal.Reply, Code: 250, QueueID: "Q" + token}
	}
	s.submit("t1", device, yes("t1"), "250 u1", "250 u2")
	s.arrive("t1", true, "u1", "u2")
	s.settle("t1", "u1", journal.Delivered)
	s.settle("t1", "u2", journal.Delivered)

	s.submit("t2", device, yes("t2"), "250 u1", "250 550", "550 u3")
	s.arrive("t2", true, "u1")
	s.settle("t2", "u1", journal.Delivered)
	s.settle("t2", "550", journal.Bounced)
	s.report("t2", "550", "failed")

	s.submit("t3", device, yes("t3"), "250 u1")
	s.settle("t3", "u1", journal.Expired)
	s.report("t3", "u1", "delayed")
	s.report("t3", "u1", "failed")

	s.submit("t4", device, yes("t4"), "250 u1")
	removed := s.settle("t4", "u1", journal.Removed)
	removed.Actor, removed.Reason = "operator", "owner asked"

	s.submit("t5", device, yes("t5"), "250 u1")
	s.settle("t5", "u1", journal.Discarded).Reason = "rule loop"

	s.submit("t6", device, journal.Submission{Phase: journal.Reply, Code: 550}, "250 u1")
	s.submit("t7", device, journal.Submission{Phase: journal.Reply, Code: 451}, "250 u1")

	s.submit("t8", device, journal.Submission{Phase: journal.Lost}, "250 u1")
	s.arrive("t8", true, "u1")
	s.settle("t8", "u1", journal.Delivered)
	s.submit("t9", device, journal.Submission{Phase: journal.Lost}, "250 u1")
	s.submit("t10", device, journal.Submission{}, "250 u1") // killed at the dot

	s.submit("t11", device, journal.Submission{Phase: journal.Refused, Code: 450}, "450 u1")
	s.submit("t12", device, journal.Submission{Phase: journal.Aborted}, "250 u1")

	s.submit("t13", device, yes("t13"), "250 u1") // the sink dropped the first
	s.arrive("t13", false, "u1")
	s.arrive("t13", true, "u1")
	s.settle("t13", "u1", journal.Delivered).PossibleDuplicate = true

	s.submit("t14", "", yes("t14"), "250 550") // null reverse-path
	s.settle("t14", "550", journal.Bounced)

	s.submit("t15", device, yes("t15"), "250 u1") // taken, not acknowledged, then refused
	s.arrive("t15", false, "u1")
	s.settle("t15", "u1", journal.Bounced)
	s.report("t15", "u1", "failed")

	s.Ledger = append(s.Ledger, journal.Settlement{MessageID: "<ndr-failed550t2@relay.test>", Recipient: device, State: journal.Delivered})
	return s
}

// row, copies and dsn find testimony to falsify.
func (s *scene) row(token, local string) *journal.Settlement {
	i := slices.IndexFunc(s.Ledger, func(r journal.Settlement) bool { return r.Recipient == address(local, token) })
	return &s.Ledger[i]
}

func (s *scene) dropRow(token, local string) {
	s.Ledger = slices.DeleteFunc(s.Ledger, func(r journal.Settlement) bool { return r.Recipient == address(local, token) })
}

func (s *scene) dropSink(kind journal.Kind, token string) {
	s.Sink = slices.DeleteFunc(s.Sink, func(a journal.Arrival) bool { return a.Kind == kind && a.Token == token })
}

func (s *scene) sinkLine(kind journal.Kind, token string) *journal.Arrival {
	i := slices.IndexFunc(s.Sink, func(a journal.Arrival) bool { return a.Kind == kind && a.Token == token })
	return &s.Sink[i]
}

func TestAgreementHolds(t *testing.T) {
	s := agreement()
	r, err := Check(s.Witnesses, Budget{})
	if err != nil || r.Verdict != Holds {
		t.Fatalf("%v: %v, %+v", err, r.Verdict, r.Violations)
	}
	want := Counts{
		Messages: 15, Accepted: 10, Ambiguous: 3, Late: 1, Refused: 4,
		States: map[journal.State]int{journal.Delivered: 5, journal.Bounced: 3, journal.Expired: 1, journal.Removed: 1, journal.Discarded: 1},
		Copies: 7, Unacknowledged: 2, OtherRows: 1, FailureReports: 3, OtherReports: 1, AmbiguousFailures: 1, GoodBounced: 1,
	}
	if fmt.Sprint(r.Counts) != fmt.Sprint(want) {
		t.Errorf("counts\n got %+v\nwant %+v", r.Counts, want)
	}
}

// TestMutants falsifies one testimony at a time. Each must be caught, under
// the name of the invariant it breaks and no other.
func TestMutants(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(*scene)
		want   []Invariant
		detail string
	}{
		"lost": {func(s *scene) { s.dropSink(journal.Copy, "t1"); s.dropRow("t1", "u1"); s.dropRow("t1", "u2") },
			[]Invariant{Conservation}, "not in the ledger"},
		"state says delivered, no copy": {func(s *scene) { s.dropSink(journal.Copy, "t1") },
			[]Invariant{Conservation}, "acknowledged no copy"},
		"delivered, copy not acknowledged": {func(s *scene) { s.sinkLine(journal.Copy, "t1").Acknowledged = false },
			[]Invariant{Conservation}, "acknowledged no copy"},
		"duplicate": {func(s *scene) { s.arrive("t1", true, "u1"); s.row("t1", "u1").PossibleDuplicate = true },
			[]Invariant{Duplicates}, "budget 0"},
		"duplicate unmarked": {func(s *scene) { s.row("t13", "u1").PossibleDuplicate = false },
			[]Invariant{Duplicates}, "does not say possible_duplicate"},
		"duplicate under another Message-ID": {func(s *scene) { s.Sink[len(s.Sink)-2].MessageID = "<other@relay.test>" },
			[]Invariant{Duplicates}, "Message-ID"},
		"report repeated": {func(s *scene) { s.report("t2", "550", "failed") },
			[]Invariant{Duplicates}, "budget 0"},
		"phantom": {func(s *scene) { s.arrive("t99", true, "u1") },
			[]Invariant{NoPhantoms}, "never submitted"},
		"phantom recipient": {func(s *scene) { s.arrive("t1", true, "u9") },
			[]Invariant{NoPhantoms}, "never submitted"},
		"phantom row": {func(s *scene) { s.settle("t1", "u9", journal.Delivered) },
			[]Invariant{NoPhantoms}, "never submitted"},
		"phantom report": {func(s *scene) { s.report("t99", "u1", "failed") },
			[]Invariant{NoPhantoms}, "never submitted"},
		"backscatter": {func(s *scene) { s.sinkLine(journal.DSN, "t2").Recipients = []string{"other@device.test"} },
			[]Invariant{NoPhantoms, Conservation}, "report went to"},
		"report for the null path": {func(s *scene) { s.report("t14", "550", "failed") },
			[]Invariant{NoPhantoms}, "the sender is <>"},
		"refused but delivered": {func(s *scene) { s.arrive("t6", true, "u1") },
			[]Invariant{NoPhantoms}, "refused with 550"},
		"refused but in the ledger": {func(s *scene) { s.settle("t6", "u1", journal.Removed) },
			[]Invariant{NoPhantoms}, "ledger says removed"},
		"refused but reported": {func(s *scene) { s.report("t6", "u1", "failed") },
			[]Invariant{NoPhantoms}, "reported as failed"},
		"refused at RCPT but delivered": {func(s *scene) { s.arrive("t2", true, "u3") },
			[]Invariant{NoPhantoms}, "RCPT was answered 550"},
		"refused before the dot but delivered": {func(s *scene) { s.arrive("t11", true, "u1") },
			[]Invariant{NoPhantoms}, "RCPT was answered 450"},
		"no dot but delivered": {func(s *scene) { s.arrive("t12", true, "u1") },
			[]Invariant{NoPhantoms}, "never sent"},
		"late": {func(s *scene) {
			s.arrive("t7", true, "u1")
			s.settle("t7", "u1", journal.Delivered).LateAccept = true
		}, []Invariant{NoPhantoms}, "budget 0"},
		"both delivered and bounced": {func(s *scene) { s.report("t1", "u1", "failed") },
			[]Invariant{Exclusivity}, "failure report"},
		"bounced but delivered": {func(s *scene) { s.arrive("t2", true, "550") },
			[]Invariant{Conservation, Exclusivity}, "ledger says bounced"},
		"no state": {func(s *scene) { s.dropRow("t1", "u1") },
			[]Invariant{Conservation}, "not in the ledger"},
		"no state, ambiguous but delivered": {func(s *scene) { s.dropRow("t8", "u1") },
			[]Invariant{Conservation}, "not in the ledger"},
		"two states": {func(s *scene) { s.settle("t4", "u1", journal.Delivered) },
			[]Invariant{Conservation}, "2 rows"},
		"the same state twice": {func(s *scene) { s.settle("t1", "u1", journal.Delivered) },
			[]Invariant{Conservation}, "2 rows"},
		"unknown state": {func(s *scene) { s.row("t1", "u1").State = "relayed" },
			[]Invariant{Conservation}, "unknown state"},
		"vanished bounce": {func(s *scene) { s.dropSink(journal.DSN, "t2") },
			[]Invariant{Conservation}, "no report reached"},
		"vanished expiry": {func(s *scene) { s.dropSink(journal.DSN, "t3") },
			[]Invariant{Conservation}, "no report reached"},
		"only a delay was reported": {func(s *scene) { s.Sink[len(s.Sink)-1].Action = "delayed" },
			[]Invariant{Conservation}, "no report reached"},
		"two reports": {func(s *scene) {
			s.report("t2", "550", "failed")
			s.Sink[len(s.Sink)-1].MessageID = "<second@relay.test>"
		},
			[]Invariant{Conservation}, "2 different"},
		"anonymous removal":   {func(s *scene) { s.row("t4", "u1").Actor = "" }, []Invariant{Conservation}, "without actor"},
		"unreasoned removal":  {func(s *scene) { s.row("t4", "u1").Reason = "" }, []Invariant{Conservation}, "without actor or reason"},
		"discard by no rule":  {func(s *scene) { s.row("t5", "u1").Reason = "" }, []Invariant{Conservation}, "without the rule"},
		"removed, delivered":  {func(s *scene) { s.arrive("t4", true, "u1") }, []Invariant{Conservation}, "ledger says removed"},
		"discarded, reported": {func(s *scene) { s.report("t5", "u1", "failed") }, []Invariant{Conservation}, "ledger says discarded"},
		"wrong digest": {func(s *scene) { s.sinkLine(journal.Copy, "t1").BodySHA256 = "another" },
			[]Invariant{Integrity}, "body digest"},
		"wrong queue id": {func(s *scene) { s.row("t1", "u1").QueueID = "Qother" },
			[]Invariant{Conservation}, "queued as Qt1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := agreement()
			tt.mutate(s)
			r, err := Check(s.Witnesses, Budget{})
			if err != nil || r.Verdict != Violated {
				t.Fatalf("survived: %v, %v", r.Verdict, err)
			}
			found := map[Invariant]bool{}
			mentioned := false
			for _, v := range r.Violations {
				found[v.Invariant] = true
				mentioned = mentioned || strings.Contains(v.Detail, tt.detail)
			}
			got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(tt.want))
			if !slices.Equal(got, want) || !mentioned {
				t.Errorf("got %q, want %q and %q in\n%+v", got, want, tt.detail, r.Violations)
			}
		})
	}
}

func TestStillQueued(t *testing.T) {
	s := agreement()
	s.dropSink(journal.Copy, "t1")
	s.arrive("t1", true, "u1") // delivered, and not recorded yet
	s.row("t1", "u1").State = journal.Queued
	s.row("t1", "u2").State = journal.Queued
	r, err := Check(s.Witnesses, Budget{})
	if err != nil || r.Verdict != NotQuiescent || !slices.Equal(r.Queued, []string{"t1 u1+t1@load.test", "t1 u2+t1@load.test"}) {
		t.Errorf("got %v, %v, queued %q, %+v", r.Verdict, err, r.Queued, r.Violations)
	}
	if r, err := Check(s.Witnesses, Budget{AllowQueued: true}); err != nil || r.Verdict != Holds {
		t.Errorf("allowed: %v, %v", r.Verdict, err)
	}
	// A violation outweighs what is queued.
	s.arrive("t99", true, "u1")
	if r, err := Check(s.Witnesses, Budget{}); err != nil || r.Verdict != Violated {
		t.Errorf("with a phantom: %v, %v", r.Verdict, err)
	}
}

func TestBudgets(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(*scene)
		budget Budget
		want   Verdict
	}{
		"one duplicate": {func(s *scene) { s.arrive("t1", true, "u1"); s.row("t1", "u1").PossibleDuplicate = true }, Budget{Duplicates: 1}, Holds},
		"two duplicates": {func(s *scene) {
			s.arrive("t1", true, "u1", "u2")
			s.row("t1", "u1").PossibleDuplicate, s.row("t1", "u2").PossibleDuplicate = true, true
		}, Budget{Duplicates: 1}, Violated},
		"unmarked within budget": {func(s *scene) { s.arrive("t1", true, "u1") }, Budget{Duplicates: 9}, Violated},
		"report repeated":        {func(s *scene) { s.report("t2", "550", "failed") }, Budget{Duplicates: 1}, Holds},
		"late": {func(s *scene) {
			s.arrive("t7", true, "u1")
			s.settle("t7", "u1", journal.Delivered).LateAccept = true
		}, Budget{Late: 1}, Holds},
		"late unmarked":           {func(s *scene) { s.arrive("t7", true, "u1"); s.settle("t7", "u1", journal.Delivered) }, Budget{Late: 1}, Violated},
		"late, not in the ledger": {func(s *scene) { s.arrive("t7", true, "u1") }, Budget{Late: 1}, Violated},
		"5yz has no budget":       {func(s *scene) { s.arrive("t6", true, "u1") }, Budget{Late: 9, Duplicates: 9}, Violated},
	} {
		t.Run(name, func(t *testing.T) {
			s := agreement()
			tt.mutate(s)
			if r, err := Check(s.Witnesses, tt.budget); err != nil || r.Verdict != tt.want {
				t.Errorf("got %v, %v; want %v\n%+v", r.Verdict, err, tt.want, r.Violations)
			}
		})
	}
}

// TestJoin: the ledger may know a row by submission_id or Message-ID only, and
// the relay may write the domain as it likes.
func TestJoin(t *testing.T) {
	for name, change := range map[string]func(*journal.Settlement){
		"by Message-ID":    func(r *journal.Settlement) { r.SubmissionID = "" },
		"other header":     func(r *journal.Settlement) { r.SubmissionID = "job 7" },
		"by submission_id": func(r *journal.Settlement) { r.MessageID = "" },
		"domain in case":   func(r *journal.Settlement) { r.Recipient = strings.Replace(r.Recipient, "load.test", "LOAD.test", 1) },
	} {
		s := agreement()
		for i := range s.Ledger {
			if s.Ledger[i].SubmissionID != "" {
				change(&s.Ledger[i])
			}
		}
		if r, err := Check(s.Witnesses, Budget{}); err != nil || r.Verdict != Holds {
			t.Errorf("%s: %v, %v, %+v", name, r.Verdict, err, r.Violations)
		}
	}
}

func TestUnusable(t *testing.T) {
	for name, mutate := range map[string]func(*scene){
		"no submissions":    func(s *scene) { s.Client = nil },
		"no token":          func(s *scene) { s.Client[0].Token = "" },
		"reply without dot": func(s *scene) { s.Client = s.Client[1:] },
		"two replies":       func(s *scene) { s.Client = append(s.Client, s.Client[1]) },
		"submitted twice":   func(s *scene) { s.Client = append(s.Client, s.Client[0]) },
		"unknown phase":     func(s *scene) { s.Client[0].Phase = "guessed" },
		"row without state": func(s *scene) { s.Ledger[0].State = "" },
		"row for nobody":    func(s *scene) { s.Ledger[0].Recipient = "" },
		"unknown kind":      func(s *scene) { s.Sink[0].Kind = "rumour" },
	} {
		s := agreement()
		mutate(s)
		if r, err := Check(s.Witnesses, Budget{}); !errors.Is(err, journal.ErrUnusable) || r.Verdict != Unusable {
			t.Errorf("%s: %v, %v", name, r.Verdict, err)
		}
	}
}

func TestReport(t *testing.T) {
	s := agreement()
	for i := range 25 {
		s.arrive(fmt.Sprint("t", 100+i), true, "u1")
	}
	r, err := Check(s.Witnesses, Budget{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\naccepted              10", "  ledger delivered    5", "I2 no phantoms  t119", "and 5 more", "violated: 25 violations, 0 queued\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "t120") {
		t.Error("more than 20 violations listed")
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(text), `"verdict":"violated"`) || strings.Count(string(text), "I2 no phantoms") != 25 {
		t.Errorf("json %v %.300s", err, text)
	}
}
