package event

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

var update = flag.Bool("update", false, "write testdata/*.json from the events")

func reverse(s string) smtp.ReversePath { return smtp.ReversePath{Address: address(s)} }

func forward(s string) smtp.ForwardPath { return smtp.ForwardPath{Address: address(s)} }

func address(s string) smtp.Address {
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

const (
	id     mail.QueueID = "1HZ8Q2M4N6R8TVXZ"
	origin mail.QueueID = "1HZ8Q2M4ABCDEFGH"
)

var (
	from  = Origin{Address: netip.MustParseAddr("10.2.3.4"), Identity: "app", Revision: 9}
	at    = time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.UTC)
	env   = mail.Envelope{ReversePath: reverse("prn@campus.test"), Body8Bit: true, Recipients: []mail.Recipient{{Address: forward(`"odd name"@[192.0.2.9]`), Original: "odd"}, {Address: forward("größe@inet.test")}}}
	to    = forward("größe@inet.test")
	facts = authz.Facts{
		Listener: "devices", Submission: true, Address: netip.MustParseAddr("10.2.3.4"), Name: "prn.campus.test", NameDoubt: true, NameAsOf: at, Helo: "[10.2.3.4]",
		TLS: "TLS1.3", Identity: "prn", Authority: authz.Kerberos, Report: true, Messages: 3, ReversePath: reverse("prn@campus.test"), GivenPath: "prn", Standing: authz.StandingPersonal,
		Recipient: &to, Recipients: 2, Size: 4096, HeaderFrom: []string{"prn@campus.test"}, FromFault: authz.FromGroup, Over: []string{"messages_per_hour"},
		Scan: authz.Hold, Scanner: "rspamd", At: at,
	}
	content   = ContentRef{Stream: "MAIL_3", Seq: 77, Size: 4096, Body: 12}
	recipient = RecipientRecord{
		Address: to, Original: "Größe@inet.test", Reply: smtp.Reply{Code: 550, Enhanced: "1.1", Text: "no such <user> & nothing\nsecond line"},
		RemoteMTA: "mx.inet.test [192.0.2.1]", TLS: "TLS1.3 verified", PossibleDuplicate: true,
	}
	verdict = authz.Verdict{Outcome: authz.Admit, Reply: smtp.Reply{Code: 250, Enhanced: "2.0", Text: "ok"}, Rule: "registered", Reason: "device prn.campus.test",
		Observed: []string{"fcrdns"}, Device: "prn.campus.test", Owner: "chem", Class: mail.ClassScan}
)

// events are one of each kind with every field set, so that none can be
// renamed unnoticed, and the smallest of those that may be small.
func events() map[string]any {
	return map[string]any{
		"accepted": &Accepted{
			Schema: 1, QueueID: id, At: at, Class: mail.ClassScan, Env: env, MessageID: "<1@prn.campus.test>", SubmissionID: "job-7", Size: 4096,
			Chunks: []Chunk{{1, 2048}, {2, 2048}}, Facts: facts, Device: "prn.campus.test", Owner: "chem", Revision: 9, ReportOf: origin,
			Quirks: []Quirk{{QuirkReversePath, "prn"}, {Name: QuirkFrom}}, PHI: true,
		},
		"accepted-report": &Accepted{Schema: 1, QueueID: id, At: at, Class: mail.ClassReport, Env: mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}, Size: 1, Facts: authz.Facts{Report: true}, ReportOf: origin},
		"admitted": &Admitted{
			Schema: 1, QueueID: id, AcceptedAt: at, Class: mail.ClassScan, Env: env, MessageID: "<1@prn.campus.test>", SubmissionID: "job-7", Content: content,
			Device: "prn.campus.test", Owner: "chem", ReportOf: origin, Refused: []RecipientRecord{recipient}, Rule: "registered", Drive: 2, PHI: true,
			Hold: &Hold{Recipients: env.Recipients, Rule: "content", Reason: "scanned: rspamd: reject"}, Prepend: "X-Spam: Yes\r\n", First: 3, Origin: from, Released: at,
		},
		"held": &Held{
			Schema: 1, At: at, Rule: "content", Reason: "scanned: rspamd: reject",
			Message: Admitted{Schema: 1, QueueID: id, AcceptedAt: at, Class: mail.ClassScan, Env: env, Content: content, First: 3}, Pace: time.Minute,
			Job: &Job{Schema: 1, ID: string(id) + "-0", QueueID: id, AcceptedAt: at, Class: mail.ClassScan, Destination: "inet.test", Env: env, Content: content, Held: 2},
		},
		"holding": &Holding{
			Schema: 1, At: at, Rule: RuleContain, By: "anna", Reason: "ticket 7", Jobs: []string{string(id) + "-0"}, Device: "prn.campus.test",
			Address: netip.MustParsePrefix("10.2.3.0/24"), Credential: "app", Revision: 9,
		},
		"decision": &Decision{Schema: 1, QueueID: id, Part: string(id) + "-0~1+2", Verb: Drop, At: at, Actor: "anna", Reason: "ticket 7", Final: true},
		"job": &Job{
			Schema: 1, ID: string(id) + "-0", QueueID: id, AcceptedAt: at, Class: mail.ClassScan, Destination: "inet.test", Env: env, MessageID: "<1@prn.campus.test>",
			SubmissionID: "job-7", Content: content, Prepend: "DKIM-Signature: v=1\r\n", Device: "prn.campus.test", Owner: "chem", Report: origin, Attempt: 3, Drive: 2,
			LastReply: "450 4.7.1 later", Diagnosed: []RecipientRecord{recipient}, Doubt: []smtp.ForwardPath{to}, PHI: true, Origin: from, Released: at, Held: 1, Hold: &Holding{Schema: 1, At: at, Rule: RuleHold, By: "anna"},
		},
		"failure": &Failure{
			Schema: 1, Kind: KindExpired, ID: string(id) + "-0/3", QueueID: id, AcceptedAt: at, At: at.Add(time.Hour), Env: env, MessageID: "<1@prn.campus.test>",
			Content: content, Recipients: []RecipientRecord{recipient}, Device: "prn.campus.test", Owner: "chem", Report: origin, PHI: true,
		},
		"record-accepted": &Record{
			Schema: 1, At: at, Stage: StagePolicy, Outcome: Entered, QueueID: id, Recipients: []RecipientRecord{{Address: to}},
			Message: &MessageRecord{
				AcceptedAt: at, MessageID: "<1@prn.campus.test>", SubmissionID: "job-7", ReversePath: reverse("prn@campus.test"), Size: 4096, Class: mail.ClassScan,
				Device: "prn.campus.test", Owner: "chem", Facts: facts, Verdict: verdict, Revision: 9, Content: content, ReportOf: origin, LateAccept: true,
				Quirks: []Quirk{{QuirkReversePath, "prn"}, {Name: QuirkFrom}}, PHI: true,
			},
		},
		"record-delayed": &Record{
			Schema: 1, At: at, Stage: StageDelivery, Outcome: Delayed, QueueID: id, Recipients: []RecipientRecord{recipient}, Job: string(id) + "-0", Attempt: 3, Drive: 1,
			Next: at.Add(time.Hour), Signatures: []string{"d=campus.test s=2026a a=rsa-sha256"}, Report: origin, Actor: "anna", Reason: "ticket 7",
		},
		"refusal": &Refusal{Schema: 1, Ref: "R7K2-9QF3", At: at, Stage: "rcpt", Facts: facts, Reply: smtp.Reply{Code: 550, Enhanced: "7.1", Text: "Not registered"}, Rule: "not-registered", Reason: "no device", Count: 4},
	}
}

// decode reads data as the type of want.
func decode(want any, data []byte) (any, error) {
	switch want.(type) {
	case *Accepted:
		return Decode[Accepted](data)
	case *Admitted:
		return Decode[Admitted](data)
	case *Job:
		return Decode[Job](data)
	case *Failure:
		return Decode[Failure](data)
	case *Record:
		return Decode[Record](data)
	case *Refusal:
		return Decode[Refusal](data)
	case *Held:
		return Decode[Held](data)
	case *Decision:
		return Decode[Decision](data)
	case *Holding:
		return Decode[Holding](data)
	}
	panic("not an event")
}

// What lies in the streams was written by this release or the one before: the
// files are a contract. A new field adds a line to them; a line that goes or
// changes needs a new Schema.
func TestGolden(t *testing.T) {
	for name, e := range events() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".json")
			var wrote bytes.Buffer
			if err := json.Indent(&wrote, Encode(e), "", "  "); err != nil {
				t.Fatal(err)
			}
			wrote.WriteByte('\n')
			if *update {
				if err := os.WriteFile(file, wrote.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(wrote.Bytes(), golden) {
				t.Errorf("wrote %s", wrote.Bytes())
			}
			got, err := decode(e, golden)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, e) {
				t.Errorf("read %+v\nwant %+v", got, e)
			}
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil || len(files) != len(events()) {
		t.Errorf("%d files for %d events: %v", len(files), len(events()), err)
	}
}

// Every field of the full events is set: a new one must enter the golden files.
func TestGoldenIsComplete(t *testing.T) {
	full := events()
	for _, name := range []string{"accepted", "admitted", "job", "failure", "refusal", "held", "decision", "holding"} {
		v := reflect.ValueOf(full[name]).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s: field %s is not set", name, v.Type().Field(i).Name)
			}
		}
	}
	a, b := reflect.ValueOf(full["record-accepted"]).Elem(), reflect.ValueOf(full["record-delayed"]).Elem()
	for i := range a.NumField() {
		if a.Field(i).IsZero() && b.Field(i).IsZero() {
			t.Errorf("record: field %s is not set", a.Type().Field(i).Name)
		}
	}
	for _, v := range []reflect.Value{
		reflect.ValueOf(*full["record-accepted"].(*Record).Message), reflect.ValueOf(facts), reflect.ValueOf(recipient), reflect.ValueOf(verdict), reflect.ValueOf(env),
	} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s: field %s is not set", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	for name, e := range events() {
		data := bytes.Replace(Encode(e), []byte("{"), []byte(`{"of_a_later_release":{"x":[1]},`), 1)
		got, err := decode(e, data)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestSchema(t *testing.T) {
	for _, tt := range []struct {
		data string
		ok   bool
	}{
		{`{"v":1}`, true},
		{`{"v":2}`, true}, // the next release writes it while this one still runs
		{`{"v":3}`, false},
		{`{"v":0}`, false},
		{`{"v":-1}`, false},
		{`{}`, false},
		{`null`, false},
		{``, false},
		{`[]`, false},
		{`{"v":"1"}`, false},
		{`{"v":1} trailing`, false},
		{`{"v":1,"envelope":{"reverse_path":"not an address"}}`, false},
	} {
		e, err := Decode[Job]([]byte(tt.data))
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.data, err)
		}
		if err != nil && (e != nil || !strings.Contains(err.Error(), "event.Job")) {
			t.Errorf("%s: %v with %v", tt.data, e, err)
		}
	}
}

func TestJobSize(t *testing.T) {
	j := Job{Content: ContentRef{Size: 1000}, Prepend: "A: ö\r\n"}
	if got := j.Size(); got != 1007 {
		t.Errorf("%d octets", got)
	}
}

func TestTerminal(t *testing.T) {
	terminal := 0
	for _, o := range []Outcome{Entered, Signed, Delayed, Failed, Retried, Delivered, Bounced, Expired, Removed, Discarded, ""} {
		if o.Terminal() {
			terminal++
		}
	}
	if terminal != 5 || Failed.Terminal() || !Delivered.Terminal() {
		t.Errorf("%d outcomes are terminal", terminal)
	}
}

func TestForwardPaths(t *testing.T) {
	if got := ForwardPaths(env.Recipients); len(got) != 2 || got[1] != to {
		t.Errorf("%v", got)
	}
}

// FuzzDecode: whatever lies in a stream, reading it does not panic, and what
// was read is written and read again as the same.
func FuzzDecode(f *testing.F) {
	for _, e := range events() {
		f.Add(Encode(e))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := Decode[Record](data); err == nil {
			again(t, e)
		}
		if e, err := Decode[Job](data); err == nil {
			again(t, e)
		}
	})
}

func again(t *testing.T, e any) {
	t.Helper()
	once := Encode(e)
	back, err := decode(e, once)
	if err != nil {
		t.Fatalf("what was read cannot be read again: %v\n%s", err, once)
	}
	if twice := Encode(back); !bytes.Equal(once, twice) {
		t.Errorf("wrote %s\nthen  %s", once, twice)
	}
}

func TestDecodeRecords(t *testing.T) {
	one, other := Encode(&Record{Schema: 1, QueueID: "A"}), Encode(&Record{Schema: 1, QueueID: "B"})
	for name, tt := range map[string]struct {
		data string
		want string // QueueIDs; - for one that cannot be read
		bad  bool
	}{
		"one":          {string(one), "A", false},
		"two":          {string(one) + "\n" + string(other) + "\n", "AB", false},
		"one is bad":   {string(one) + "\n{\n" + string(other) + "\n", "A-B", true},
		"about none":   {`{"v":1}`, "-", true},
		"other schema": {`{"v":9,"queue_id":"A"}`, "-", true},
		"empty":        {"", "", true},
	} {
		got := ""
		records, err := DecodeRecords([]byte(tt.data))
		for _, r := range records {
			if r == nil {
				got += "-"
				continue
			}
			got += string(r.QueueID)
		}
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func TestQuirkString(t *testing.T) {
	for want, q := range map[string]Quirk{
		"reverse-path was root@localhost": {QuirkReversePath, "root@localhost"},
		"from":                            {Name: QuirkFrom},
		"repair-newlines: 3":              {QuirkNewlines, "3"},
		"hide-ehlo: CHUNKING":             {QuirkHidden, "CHUNKING"},
	} {
		if got := q.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The first decision holds, except that a drop can be undone before it is final;
// final is that drop, and no other.
func TestDecisionReplaces(t *testing.T) {
	release, bounce, drop, undo, final := Decision{Verb: Release}, Decision{Verb: Bounce}, Decision{Verb: Drop}, Decision{Verb: Undo}, Decision{Verb: Drop, Final: true}
	another := Decision{Verb: Drop, At: at}
	for _, tt := range []struct {
		before *Decision
		may    string
	}{
		{nil, "release bounce drop"}, {&undo, "release bounce drop"}, {&drop, "undo final"}, {&another, "undo"}, {&release, ""}, {&bounce, ""}, {&final, ""},
	} {
		var may []string
		for _, d := range []struct {
			name string
			Decision
		}{{"release", release}, {"bounce", bounce}, {"drop", drop}, {"undo", undo}, {"final", final}} {
			if d.Replaces(tt.before) {
				may = append(may, d.name)
			}
		}
		if got := strings.Join(may, " "); got != tt.may {
			t.Errorf("after %+v: %s, want %s", tt.before, got, tt.may)
		}
	}
}
