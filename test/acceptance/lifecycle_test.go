package acceptance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	dnsnames "github.com/postrider/postrider/services/policy/names"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

// What time and events do to a registration.

var byReports = config.Lifecycle{Reports: 3, ReportsWithin: config.Duration(day), ReportsMost: 5}

// Reports that come back as there is no such mailbox warn first, then suspend; those
// that come back for anything else do neither. It takes a ticket to go on.
func TestP29_UndeliverableReports(t *testing.T) {
	r := strict() // suspends nobody by itself
	const dead, full = "127.1.8.1", "127.1.8.2"
	r.started(t, "dead", dead)
	r.started(t, "full", full)
	const sender = "<550-5.1.1+p29@campus.test>"
	off, on := r.clock(t, config.Lifecycle{}), r.clock(t, byReports)
	for range 3 {
		r.bounce(t, dead, sender)
	}
	for _, other := range []string{"<552-5.2.2+p29@campus.test>", "<550-5.7.1+p29@campus.test>", "<554-5.3.4+p29@campus.test>"} {
		r.bounce(t, full, other)
	}
	r.settledRows(t, "dead.campus.test", 6)
	r.settledRows(t, "full.campus.test", 6)

	off.round(0)
	if got := r.notices("dead-keeper@campus.test", "problem"); len(got) > 0 {
		t.Error("told where that is off")
	}
	on.now = time.Now().UTC()
	on.round(0) // the three before count for a warning only
	notice := r.told(t, "dead-keeper@campus.test", "dead.campus.test: mail from it has a problem")
	if body := string(notice.Content); !strings.Contains(body, "no such mailbox") || !strings.Contains(body, "https://relay.campus.test") {
		t.Errorf("%s", body)
	}
	r.bounce(t, dead, sender)
	r.bounce(t, dead, sender)
	r.settledRows(t, "dead.campus.test", 12) // two notices, too
	on.now = time.Now().UTC()
	on.round(0)
	if d := r.device(t, "dead.campus.test"); d.State != registry.StateActive {
		t.Errorf("after two: %+v", d)
	}
	r.bounce(t, dead, sender)
	r.settledRows(t, "dead.campus.test", 14) // and no report about a report
	on.now = time.Now().UTC()
	on.round(0)
	d := r.device(t, "dead.campus.test")
	if d.State != registry.StateSuspended || d.Suspension.Cause != "reports" || !d.Suspension.NeedsTicket || d.By != "lifecycle" || !strings.Contains(d.Reason, "3 reports") {
		t.Errorf("after three: %+v", d)
	}
	r.told(t, "dead-keeper@campus.test", "dead.campus.test: suspended")
	r.awaitSends(t, dead, 550)
	s := r.dial(t, r.SMTP, dead)
	defer s.close()
	s.must(hello, "250")
	if got := s.ask("MAIL FROM:" + byPrinter); got.code != 550 || !strings.HasPrefix(got.text, "5.7.1 ") || !strings.Contains(got.text, "Registration suspended: "+dead+".") || !strings.Contains(got.text, "https://relay.campus.test") {
		t.Errorf("%+v", got)
	}
	if d := r.device(t, "full.campus.test"); d.State != registry.StateActive || !d.Told["reports"].IsZero() {
		t.Errorf("%+v", d)
	}
}

// A suspension for reports is lifted by a ticket, with the command; one by a person
// without, unless he wants it otherwise. What was lifted is not suspended again for
// the same reports.
func TestP30_LiftedWithATicket(t *testing.T) {
	r := strict()
	const address = "127.1.8.3"
	r.started(t, "ticket", address)
	c := r.clock(t, config.Lifecycle{Reports: 1, ReportsWithin: config.Duration(day), ReportsMost: 5})
	for n := 1; n <= 2; n++ {
		r.bounce(t, address, "<550-5.1.1+p30@campus.test>")
		r.settledRows(t, "ticket.campus.test", 4*n-2)
		c.now = time.Now().UTC()
		c.round(0)
	}
	if d := r.device(t, "ticket.campus.test"); d.State != registry.StateSuspended {
		t.Fatalf("%+v", d)
	}
	lift := []string{"device", "resume", "ticket.campus.test"}
	if out, code := r.postrider(t, lift...); code != service.ExitNotPermitted || !strings.Contains(out, "lifted by a ticket only") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := r.postrider(t, append(lift, "--ticket", "4711", "--reason", "the sender has a mailbox now")...); code != 0 || !strings.Contains(out, "ticket.campus.test is active") {
		t.Errorf("%d %s", code, out)
	}
	r.awaitSends(t, address, 250)
	if d := r.device(t, "ticket.campus.test"); d.Ticket != "4711" || d.By == "" || d.By == "lifecycle" || d.Reason != "the sender has a mailbox now" || d.Suspension != nil {
		t.Errorf("%+v", d)
	}
	c.round(time.Second)
	if d := r.device(t, "ticket.campus.test"); d.State != registry.StateActive {
		t.Errorf("suspended again for the same: %+v", d)
	}
	for _, own := range [][]string{nil, {"--needs-ticket"}} {
		if out, code := r.postrider(t, append([]string{"device", "suspend", "ticket.campus.test", "--reason", "by hand"}, own...)...); code != 0 {
			t.Errorf("%d %s", code, out)
		}
		if out, code := r.postrider(t, lift...); (code == 0) != (own == nil) {
			t.Errorf("%q: %d %s", own, code, out)
		}
	}
}

// When reports to many come back at once, the fault is not theirs.
func TestP29_ManyAtOnce(t *testing.T) {
	r := strict()
	const many = 3
	c := r.clock(t, config.Lifecycle{Reports: 1, ReportsWithin: config.Duration(day), ReportsMost: many - 1})
	each := func(do func(name, address string)) {
		for n := range many {
			do(fmt.Sprintf("many-%d", n), fmt.Sprintf("127.1.8.%d", 10+n))
		}
	}
	each(func(name, address string) { r.started(t, name, address) })
	for n := 1; n <= 2; n++ {
		each(func(_, address string) { r.bounce(t, address, "<550-5.1.1+many@campus.test>") })
		each(func(name, _ string) { r.settledRows(t, name+".campus.test", 4*n-2) })
		c.now = time.Now().UTC()
		c.round(0)
	}
	each(func(name, _ string) {
		if d := r.device(t, name+".campus.test"); d.State != registry.StateActive {
			t.Errorf("%s is %s", d.Name, d.State)
		}
	})
	if err := c.group.Check(); err == nil || !strings.Contains(err.Error(), "3 devices would be suspended since reports to them come back") {
		t.Errorf("alarm: %v", err)
	}
	last := r.device(t, "many-0.campus.test")
	last.State = registry.StateRetired
	r.put(t, last)
	c.round(time.Second)
	if d := r.device(t, "many-1.campus.test"); d.State != registry.StateSuspended || c.group.Check() != nil {
		t.Errorf("two alone: %+v, %v", d, c.group.Check())
	}
}

// Nothing was sent for half a year: its contacts are told, and a month later it
// ends. Whoever sends in between stays.
func TestW18_UnusedIsRetired(t *testing.T) {
	r := open()
	const idle = "127.1.8.20"
	r.started(t, "idle", idle)
	r.play(t, attempt{name: "its last message", from: idle, want: "250"})
	r.settledRows(t, "idle.campus.test", 1)
	c := r.clock(t, config.Lifecycle{UnusedNotice: config.Duration(180 * day), UnusedEnd: config.Duration(210 * day)})
	c.round(179 * day)
	if got := r.notices("idle-keeper@campus.test", "needs you"); len(got) > 0 {
		t.Errorf("told %d times too early", len(got))
	}
	r.settledRows(t, "idle.campus.test", 2) // that it is active was told, too
	c.round(181 * day)
	notice := r.told(t, "idle-keeper@campus.test", "idle.campus.test: registration needs you before")
	if body := string(notice.Content); !strings.Contains(body, "nothing was sent since "+c.now.Format(time.DateOnly)) {
		t.Errorf("%s", body)
	}
	r.settledRows(t, "idle.campus.test", 3) // a notice is no use of the device
	c.round(209 * day)
	if d := r.device(t, "idle.campus.test"); d.State != registry.StateActive {
		t.Errorf("after 209 days: %+v", d)
	}
	c.round(211 * day)
	if d := r.device(t, "idle.campus.test"); d.State != registry.StateRetired || d.Dates.Retired.IsZero() || d.By != "lifecycle" {
		t.Errorf("after 211 days: %+v", d)
	}
	r.told(t, "idle-keeper@campus.test", "idle.campus.test: registration ended")
	r.awaitSends(t, idle, 550)
	r.play(t, attempt{name: "afterwards", from: idle, want: "550 5.7.1 Not registered: " + idle})
}

// An attestation holds for a year; who does not renew it is stopped a month later.
func TestM20_AttestationIsRenewed(t *testing.T) {
	r := open()
	const address = "127.1.8.30"
	d := r.started(t, "attested", address)
	c := r.clock(t, config.Lifecycle{Attestation: config.Duration(365 * day)})
	d.Application = &registry.Application{By: "kim", AttestedBy: "Kim K.", AttestedTitle: "administrator", TermsVersion: "2026-09"}
	d.Dates.Attested = c.now
	d.Revision = r.device(t, d.Name).Revision
	r.put(t, d)
	c.round(334 * day)
	if got := r.notices("attested-keeper@campus.test", "needs you"); len(got) > 0 {
		t.Errorf("told %d times too early", len(got))
	}
	c.round(336 * day)
	if body := string(r.told(t, "attested-keeper@campus.test", "needs you before").Content); !strings.Contains(body, "attest again") {
		t.Errorf("%s", body)
	}
	c.round(394 * day)
	r.awaitSends(t, address, 250)
	c.round(396 * day)
	is := r.device(t, d.Name)
	if is.State != registry.StateSuspended || is.Suspension.Cause != "attestation" || is.Suspension.NeedsTicket || is.Application.AttestedBy != "Kim K." || is.Application.TermsVersion != "2026-09" {
		t.Errorf("%+v", is)
	}
	r.awaitSends(t, address, 550)
	is.State, is.Suspension, is.Dates.Attested = registry.StateActive, nil, c.now.Add(396*day)
	r.put(t, is)
	c.round(700 * day)
	if is := r.device(t, d.Name); is.State != registry.StateActive {
		t.Errorf("renewed: %+v", is)
	}
}

// The contact hears of the activation with every address, and of each that comes
// later; those that may not send are not named.
func TestM25_ActivationIsConfirmed(t *testing.T) {
	r := open()
	d := newcomer("confirmed.campus.test", "127.1.8.40", registry.StateRequested)
	d.Addresses = at("127.1.8.40", "127.1.8.41")
	d.Contacts = []string{"confirmed-keeper@campus.test"}
	if err := r.DNS.Set(recordsOf(d)); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	defer func() { r.remove(t, r.device(t, d.Name)) }()
	c := r.clock(t, config.Lifecycle{NoticeGroup: "updates"})
	c.round(0)
	if got := r.notices("confirmed-keeper@campus.test", ""); len(got) > 0 {
		t.Errorf("%d before the activation", len(got))
	}
	d.State, d.Dates.Activated = registry.StateActive, time.Now().UTC()
	d.Addresses[1].State = registry.StateSuspended
	r.put(t, d)
	timetest.Await(t, "the activation is confirmed", func() bool {
		c.round(time.Second)
		return len(r.notices("confirmed-keeper@campus.test", "confirmed.campus.test: may send mail now")) > 0
	})
	if body := string(r.told(t, "confirmed-keeper@campus.test", "may send mail now").Content); !strings.Contains(body, "127.1.8.40\r\n") || strings.Contains(body, "127.1.8.41") || !strings.Contains(body, "postmaster@") {
		t.Errorf("%s", body)
	}
	is := r.device(t, d.Name)
	is.Addresses[1].State = registry.StateActive
	r.put(t, is)
	timetest.Await(t, "the second address is confirmed", func() bool {
		c.round(2 * time.Second)
		return len(r.notices("confirmed-keeper@campus.test", "may send mail now")) > 1
	})
	if body := string(r.told(t, "confirmed-keeper@campus.test", "may send mail now").Content); !strings.Contains(body, "from 127.1.8.41, too") {
		t.Errorf("%s", body)
	}
	for range 3 {
		c.round(3 * time.Second)
	}
	if got := r.notices("confirmed-keeper@campus.test", ""); len(got) != 2 {
		t.Errorf("%d notices", len(got))
	}
	snapshot, err := r.registry.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if g, ok := snapshot.Group("updates"); !ok || !strings.Contains(strings.Join(g.Members, " "), "confirmed-keeper@campus.test") {
		t.Errorf("%+v", g)
	}
}

// A device that moves in the DNS sends from its new address without a ticket; the
// history of the registry has the change, and the old address sends no longer.
func TestP12_TheAddressFollowsTheDNS(t *testing.T) {
	r := open()
	const before, after = "127.1.8.50", "127.1.8.51"
	d := newcomer("moving.campus.test", before, registry.StateActive)
	d.Addresses, d.FollowDNS = nil, true
	record := func(address string) string { return names(d.Name, at(address)[0].Range.Addr()) }
	if err := r.DNS.Set(record(before)); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	defer func() { r.remove(t, r.device(t, d.Name)) }()
	reg := r.follow(t)
	look := func(now time.Time) {
		t.Helper()
		resolver, err := dnsx.New(dnsx.Config{Servers: []string{r.DNS.Addr()}}) // remembers nothing
		if err != nil {
			t.Fatal(err)
		}
		defer resolver.Close()
		n := &dnsnames.Names{Bus: r.Bus, Registry: reg, DNS: resolver, Log: queuetest.Log(t), Instance: "test", Confirm: true}
		if err := n.Round(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	timetest.Await(t, "the device is known", func() bool { _, ok := reg.Snapshot().Device(d.Name); return ok })
	now := time.Now().UTC()
	timetest.Await(t, "its address is seen", func() bool {
		look(now)
		_, ok := reg.Snapshot().Resolution(d.Name)
		return ok
	})
	r.awaitSends(t, before, 250)
	r.play(t, attempt{name: "the address it will have", from: after, want: "550 5.7.1 Not registered: " + after})

	r.DNS.Remove(d.Name)
	if err := r.DNS.Set(record(after)); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the move is seen", func() bool { // the relay itself may look at the same moment
		look(now.Add(16 * time.Minute))
		res, ok := reg.Snapshot().Resolution(d.Name)
		return ok && slices.Contains(res.Addresses, netip.MustParseAddr(after))
	})
	r.awaitSends(t, after, 250)
	r.play(t,
		attempt{name: "where it is", from: after, want: "250"},
		attempt{name: "where it was", from: before, want: "550 5.7.1 Not registered: " + before},
	)
	var said []string
	if err := r.registry.History(t.Context(), (&registry.Resolution{Device: d.Name}).Key(), func(item registry.Item) error {
		if res, ok := item.(*registry.Resolution); ok && res.Device == d.Name {
			said = append(said, fmt.Sprint(res.By, " ", res.Addresses))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(said) < 2 || said[0] != "dns ["+before+"]" || said[len(said)-1] != "dns ["+after+"]" {
		t.Errorf("history %q", said)
	}
}
