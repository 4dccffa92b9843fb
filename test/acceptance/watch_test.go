package acceptance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/registry"
)

// What is watched in the mail of registered devices.

// guess sends a message to recipients of whom none exists.
func (r *relay) guess(t *testing.T, from string, n int) {
	t.Helper()
	s := r.dial(t, r.SMTP, from)
	defer s.close()
	s.must(hello, "250")
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("<550-5.1.1+guess%d@inet.test>", i))
	}
	if got := s.send("<guesser@campus.test>", "From: <guesser@campus.test>", r.token(), to...); got.code != 250 {
		t.Fatal(got)
	}
}

// What looks compromised is told to contacts and postmaster, and stopped where that
// is set, until somebody has looked.
func TestM22_AnomalyIsStopped(t *testing.T) {
	r := strict() // looks for none by itself
	const watched, stopped = "127.1.8.60", "127.1.8.61"
	r.started(t, "watched", watched)
	r.guess(t, watched, 60)
	r.settledRows(t, "watched.campus.test", 61) // with the report
	rules := func(m authz.Mode) config.Lifecycle {
		return config.Lifecycle{Anomaly: config.Mode(m), ReportsMost: 5}
	}
	r.clock(t, rules(authz.Off)).round(0)
	if d := r.device(t, "watched.campus.test"); !d.Told["anomaly"].IsZero() {
		t.Errorf("told where that is off: %+v", d)
	}
	r.clock(t, rules(authz.Observe)).round(0)
	for _, reader := range []string{"watched-keeper@campus.test", r.Config.Relay.Contact()} {
		if body := string(r.told(t, reader, "watched.campus.test: mail from it has a problem").Content); !strings.Contains(body, "60 of 60 recipients do not exist") {
			t.Errorf("%s", body)
		}
	}
	r.awaitSends(t, watched, 250)

	r.started(t, "stopped", stopped)
	r.guess(t, stopped, 60)
	r.settledRows(t, "stopped.campus.test", 61)
	r.clock(t, rules(authz.Enforce)).round(0)
	d := r.device(t, "stopped.campus.test")
	if d.State != registry.StateSuspended || d.Suspension.Cause != "anomaly" || !d.Suspension.NeedsTicket || d.By != "lifecycle" || !strings.Contains(d.Reason, "60 of 60") {
		t.Errorf("%+v", d)
	}
	r.told(t, "stopped-keeper@campus.test", "suspended, since it looks compromised")
	r.awaitSends(t, stopped, 550)
	if d := r.device(t, "watched.campus.test"); d.State != registry.StateActive {
		t.Errorf("who was told this hour is stopped in the same: %+v", d)
	}
}

// quirks are what the books have of what was done to a message, or is odd of it.
func (r *relay) quirks(t *testing.T, a attempt) (out []string) {
	t.Helper()
	a.complete(r)
	s := r.dial(t, a.on, a.from)
	defer s.close()
	s.must(a.helo, "250")
	got := s.send(a.mail, a.header, r.token(), a.rcpt)
	_, id, ok := strings.Cut(got.text, "queued as ")
	if !ok {
		t.Fatal(got)
	}
	for _, rec := range r.settled(t, id).Records {
		if rec.Record.Message != nil {
			for _, q := range rec.Record.Message.Quirks {
				out = append(out, q.String())
			}
		}
	}
	return out
}

// Bulk that nobody can unsubscribe from is marked, and its owner hears of it.
func TestW43_BulkWithoutUnsubscribe(t *testing.T) {
	r := open()
	const news = "127.1.8.70"
	d := newcomer("newsletter.campus.test", news, registry.StateActive)
	d.Contacts, d.Traffic = []string{"newsletter-keeper@campus.test"}, registry.TrafficNewsletter
	if err := r.DNS.Set(recordsOf(d)); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	defer func() { r.remove(t, r.device(t, d.Name)) }()
	r.awaitSends(t, news, 250)
	const field = "\r\nList-Unsubscribe: <https://list.campus.test/u?a=1>"
	if got := r.quirks(t, attempt{from: news, header: "From: prn@campus.test" + field}); len(got) > 0 {
		t.Errorf("with the field: %q", got)
	}
	c := r.clock(t, config.Lifecycle{})
	c.round(0)
	if got := r.quirks(t, attempt{from: printer}); len(got) > 0 {
		t.Errorf("no bulk: %q", got)
	}
	if got := r.notices("newsletter-keeper@campus.test", "problem"); len(got) > 0 {
		t.Errorf("told of nothing: %q", got[0].Content)
	}
	if got := r.quirks(t, attempt{from: news}); strings.Join(got, " ") != event.MarkNoUnsubscribe {
		t.Errorf("without the field: %q", got)
	}
	c.round(time.Second)
	if body := string(r.told(t, "newsletter-keeper@campus.test", "problem").Content); !strings.Contains(body, "1 bulk messages have no List-Unsubscribe") {
		t.Errorf("%s", body)
	}
}

// Mail that passed other servers is marked, from as many as is set.
func TestW4_ForeignHopsAreMarked(t *testing.T) {
	const hop = "\r\nReceived: from a.partner.test by b.partner.test; Thu, 1 Jan 2026 00:00:00 +0000"
	for _, test := range []struct {
		at   *relay
		hops int
		want string
	}{{open(), 0, ""}, {open(), 2, ""}, {open(), 3, "foreign-hops: 3"}, {open(), 7, "foreign-hops: 7"}, {strict(), 7, ""}} {
		got := strings.Join(test.at.quirks(t, attempt{from: printer, header: "From: prn@campus.test" + strings.Repeat(hop, test.hops)}), " ")
		if got != test.want {
			t.Errorf("%d hops: %q, want %q", test.hops, got, test.want)
		}
	}
}

// Whole domains among the senders are refused at registration and by the rules, or
// accepted by both.
func TestS27_WildcardsAreAChoice(t *testing.T) {
	const address = "127.1.8.80"
	for _, test := range []struct {
		at      *relay
		allowed bool
	}{{open(), true}, {strict(), false}} {
		r := test.at
		c := *r.Config
		c.Devices = devices()[:1]
		c.Devices[0].Senders = []string{"*@dept05.campus.test"}
		if err := c.Validate(); (err == nil) != test.allowed {
			t.Errorf("in the file: %v", err)
		}
		d := r.started(t, "many-senders", address)
		d.Senders, d.Revision = []string{"*@dept05.campus.test"}, r.device(t, "many-senders.campus.test").Revision
		r.put(t, d)
		r.awaitSends(t, address, 550) // as the printer
		any := attempt{name: "any of the domain", from: address, mail: "<any@Dept05.campus.test>", header: "From: other@dept05.campus.test", want: "250"}
		if !test.allowed {
			any.want = "550 5.7.1 Sender not allowed: any@dept05.campus.test."
		}
		r.play(t, any,
			attempt{name: "its subdomain", from: address, mail: "<any@x.dept05.campus.test>", want: "550"},
			attempt{name: "another domain", from: address, mail: "<any@dept06.campus.test>", want: "550"},
			attempt{name: "another in the From field", from: address, mail: "<any@dept05.campus.test>", header: "From: any@dept06.campus.test", want: "550"},
		)
	}
}
