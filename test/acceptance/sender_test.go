package acceptance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// As whom mail is sent: reverse-path and From field.

const app = "127.1.1.2" // app.campus.test: app@ in both, news@ in From only

func TestS3_ReversePathAndFromField(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		r.play(t,
			attempt{name: "both", from: app, mail: "<app@campus.test>", want: "250"},
			attempt{name: "reverse-path", from: app, mail: "<other@campus.test>", header: "From: app@campus.test", want: "550 5.7.1 Sender not allowed: other@campus.test."},
			attempt{name: "From field", from: app, mail: "<app@campus.test>", header: "From: other@campus.test", want: "550 5.7.0 From: not allowed: other@campus.test."},
			attempt{name: "for From only", from: app, mail: "<app@campus.test>", header: "From: News <news@campus.test>", want: "250"},
			attempt{name: "for From only, as reverse-path", from: app, mail: "<news@campus.test>", want: "550 5.7.1 Sender not allowed: news@campus.test."},
			attempt{name: "to a hosted domain, too", from: app, mail: "<other@campus.test>", rcpt: inside, want: "550 5.7.1 Sender not allowed"},
			attempt{name: "with a login", from: "127.1.1.23", login: loginRoaming, mail: "<app@campus.test>", want: "550 5.7.1 Sender not allowed: app@campus.test."},
		)
	}
}

// Registered senders are what nobody else's mail may show.
func TestW37_NoArbitraryFrom(t *testing.T) {
	open().play(t,
		attempt{name: "second From field", from: app, mail: "<app@campus.test>", header: "From: app@campus.test\r\nFrom: boss@campus.test", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "second address", from: app, mail: "<app@campus.test>", header: "From: app@campus.test, boss@campus.test", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "group", from: app, mail: "<app@campus.test>", header: "From: all: app@campus.test, boss@campus.test;", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "folded", from: app, mail: "<app@campus.test>", header: "From:\r\n boss@campus.test", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "comment", from: app, mail: "<app@campus.test>", header: "From: boss@campus.test (app@campus.test)", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "comment of an old device", from: app, mail: "<app@campus.test>", header: "From: app@campus.test (Scanner 3)", want: "250"},
		attempt{name: "comment before", from: app, mail: "<app@campus.test>", header: "From: (Scanner 3) app@campus.test", want: "250"},
		attempt{name: "comment before another", from: app, mail: "<app@campus.test>", header: "From: (app@campus.test) boss@campus.test", want: "550 5.7.0 From: not allowed: boss@campus.test."},
		attempt{name: "unreadable", from: app, mail: "<app@campus.test>", header: "From: <app@campus.test", want: "550 5.7.0 From: field is unreadable."},
		attempt{name: "letter case of the local part", from: app, mail: "<APP@campus.test>", want: "550 5.7.1 Sender not allowed: APP@campus.test."},
		attempt{name: "letter case of the domain", from: app, mail: "<app@Campus.Test>", header: "From: app@CAMPUS.TEST", want: "250"},
	)
}

// P27 against W23, and what is wrong with a sender whoever it is: each switch
// in both positions.
func TestP27_ValidSender(t *testing.T) {
	elsewhere := attempt{name: "any valid sender", from: printer, mail: "<someone@inet.test>", want: "250"}
	open().play(t, elsewhere,
		attempt{name: "no domain", from: printer, mail: "<prn>", want: "501 5.1.7 Sender must be written name@domain"},
		attempt{name: "no path", from: printer, mail: "x y", want: "501 5.1.7 Sender must be written name@domain"},
		attempt{name: "no From field, observed", from: printer, header: "Subject: scan", want: "250"},
		attempt{name: "two From fields, observed", from: printer, header: "From: a@campus.test\r\nFrom: b@campus.test", want: "250"},
		attempt{name: "disguised, observed", from: printer, header: `From: "boss@campus.test" <a@campus.test>`, want: "250"},
	)
	strict().play(t,
		attempt{name: "no From field", from: printer, header: "Subject: scan", want: "550 5.6.0 From: field is missing."},
		attempt{name: "two From fields", from: printer, header: "From: a@campus.test\r\nFrom: b@campus.test", want: "550 5.6.0 From: field is given more than once."},
		attempt{name: "two addresses", from: printer, header: "From: a@campus.test, b@campus.test", want: "550 5.6.0 From: field is given more than once."},
		attempt{name: "group", from: printer, header: "From: all: a@campus.test;", want: "550 5.6.0 From: field is a group."},
		attempt{name: "disguised", from: printer, header: `From: "boss@campus.test" <a@campus.test>`, want: "550 5.6.0 From: field is disguised by its name."},
		attempt{name: "unreadable", from: printer, header: "From: <a@campus.test", want: "550 5.6.0 From: field is unreadable."},
		attempt{name: "as it should be", from: printer, header: "From: Printer <prn@campus.test>", want: "250"},
	)
	if got := open().observed(t, `From: "boss@campus.test" <a@campus.test>`); !strings.Contains(got, "from-field") {
		t.Errorf("what only observes left no trace: %q", got)
	}
}

// observed sends a message as the printer and tells which rules only observed.
func (r *relay) observed(t *testing.T, header string) string {
	t.Helper()
	a := attempt{from: printer, header: header}
	a.complete(r)
	got := r.try(t, a, r.token())
	id, queued := strings.CutPrefix(got, "250 2.0.0 queued as ")
	if !queued {
		t.Fatal(got)
	}
	return fmt.Sprint(r.settled(t, id).Records[0].Record.Message.Verdict.Observed)
}

func TestW23_SenderInAHostedDomain(t *testing.T) {
	for _, from := range []string{"<someone@inet.test>", "<x@unlisted.campus.test>", "<x@[127.0.0.67]>", "<x@campus.test.inet.test>"} {
		strict().play(t, attempt{name: "refused " + from, from: printer, mail: from, want: "550 5.7.1 Sender domain not ours: "})
		open().play(t, attempt{name: "any valid one " + from, from: printer, mail: from, want: "250"})
	}
	strict().play(t,
		attempt{name: "hosted", from: printer, mail: "<x@journal03.test>", want: "250"},
		attempt{name: "reports have no sender", from: printer, mail: "<>", header: "From: prn@campus.test", want: "250"},
	)
}

// Third parties send as subdomains that are theirs, not as the institution.
func TestW42_TheApexIsForInternalOwners(t *testing.T) {
	const vendor = "127.1.1.15"
	for _, r := range []*relay{open(), strict()} {
		r.play(t,
			attempt{name: "apex", from: vendor, want: "550 5.7.1 Sender domain not allowed: campus.test."},
			attempt{name: "apex in the From field", from: vendor, mail: "<x@chem.campus.test>", header: "From: x@campus.test", want: "550 5.7.1 Sender domain not allowed: campus.test."},
			attempt{name: "subdomain", from: vendor, mail: "<x@chem.campus.test>", want: "250"},
			attempt{name: "apex of an internal owner", from: printer, want: "250"},
		)
	}
}

func TestW24_AmpersandInHELO(t *testing.T) {
	for _, helo := range []string{"EHLO a&b", "HELO a&b"} {
		r := open()
		token := r.token()
		a := attempt{from: printer, helo: helo}
		a.complete(r)
		got := r.try(t, a, token)
		id, queued := strings.CutPrefix(got, "250 2.0.0 queued as ")
		if !queued {
			t.Fatalf("%s: %s", helo, got)
		}
		d := r.arrived(t, token)
		if got := d.Field("Received"); !strings.HasPrefix(got, "from a?b (") {
			t.Errorf("the Received field shows it: %q", got)
		}
		if facts := r.settled(t, id).Records[0].Record.Message.Facts; facts.Helo != "a&b" {
			t.Errorf("the facts have %q, which no rule can be tried on again", facts.Helo)
		}
		strict().play(t, attempt{name: helo, from: printer, helo: helo, want: `501 5.5.2 HELO argument must not contain "&"`})
	}
	strict().play(t, attempt{name: "without", from: printer, helo: "EHLO a.b", want: "250"})
}

// X7 against P33 and M4: newsletters go, or through the list service only.
func TestX7_NewslettersAreAChoice(t *testing.T) {
	const news = "127.1.1.16"
	open().play(t, attempt{name: "go", from: news, want: "250"})
	strict().play(t, attempt{name: "do not", from: news, want: "550 5.7.1 Bulk mail goes through the list service."})
}

// The kinds of traffic are named in the registration, the bulk ones are held to
// the rule for bulk, and no others.
func TestW45_KindsOfBulk(t *testing.T) {
	for name, from := range map[string]string{"newsletter": "127.1.1.16", "research": "127.1.1.17", "survey": "127.1.1.18"} {
		strict().play(t, attempt{name: name, from: from, want: "550 5.7.1 Bulk mail goes through the list service."})
	}
	strict().play(t, attempt{name: "scans", from: "127.1.1.19", want: "250"})
	d := *newcomer("any.campus.test", "127.1.8.1", registry.StateActive)
	d.Traffic = "spam"
	if faults := d.Check(); len(faults) != 1 || faults[0].Field != "traffic" {
		t.Errorf("a kind that is none: %v", faults)
	}
}

// Ten addresses, each exact, whether given in the file or by command.
func TestS4_AtMostTenSenders(t *testing.T) {
	c := *open().Config
	c.Devices = devices()[:1]
	for i := range 10 {
		c.Devices[0].Senders = append(c.Devices[0].Senders, fmt.Sprintf("a%d@campus.test", i))
	}
	if err := c.Validate(); err != nil {
		t.Errorf("ten: %v", err)
	}
	c.Devices[0].HeaderSenders = []string{"a10@campus.test"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "11 addresses are more than 10") {
		t.Errorf("eleven: %v", err)
	}
}

func TestS27_NoWildcardSenders(t *testing.T) {
	for _, s := range []string{"*@campus.test", "*@*", "%@campus.test", "a*@campus.test", "@campus.test", "campus.test"} {
		c := *strict().Config
		c.Devices = devices()[:1]
		c.Devices[0].Senders = []string{s}
		if c.Validate() == nil {
			t.Errorf("%s may send", s)
		}
	}
}

// Every fault of a sender has a reply of its own, so that its owner can tell
// what to mend.
func TestS36_EachFaultHasItsOwnReply(t *testing.T) {
	r := strict()
	seen := map[string]string{}
	for _, a := range []attempt{
		{name: "reverse-path", from: app, mail: "<other@campus.test>", header: "From: app@campus.test"},
		{name: "From field", from: app, mail: "<app@campus.test>", header: "From: other@campus.test"},
		{name: "address", from: r.stranger()},
		{name: "address of a login", from: outsider, login: loginRoaming, mail: "<roaming@campus.test>"},
		{name: "login", from: r.stranger(), login: loginRoaming, password: "wrong"},
		{name: "no login", from: "127.1.1.9"},
		{name: "size", from: "127.1.1.20", mail: "<prn@campus.test> SIZE=5000001", header: "From: prn@campus.test"},
		{name: "sender's domain", from: printer, mail: "<someone@inet.test>"},
	} {
		a.complete(r)
		got := r.try(t, a, r.token())
		got = quads.ReplaceAllString(got, "ADDRESS")
		if other, known := seen[got]; known || got[0] != '5' {
			t.Errorf("%s: %q is also that of %s", a.name, got, other)
		}
		seen[got] = a.name
	}
}

// The fields are the application's: they pass as they are, inside the
// signature, and none are added.
func TestW43_UnsubscribeFieldsPass(t *testing.T) {
	r := open()
	for _, fields := range []string{"", "\r\nList-Unsubscribe: <https://list.campus.test/u?a=1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click"} {
		a := attempt{from: printer, header: "From: prn@campus.test" + fields}
		a.complete(r)
		token := r.token()
		if got := r.try(t, a, token); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		d := r.arrived(t, token)
		header := string(d.Header)
		signed := strings.Contains(strings.ReplaceAll(d.Field("DKIM-Signature"), " ", ""), ":List-Unsubscribe:List-Unsubscribe")
		if fields != "" && !strings.Contains(header, fields+"\r\n") || fields == "" && strings.Contains(header, "\r\nList-Unsubscribe") || !signed {
			t.Errorf("with %q it arrived as\n%s", fields, header)
		}
	}
}
