package authz

import (
	"net/netip"
	"testing"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

var (
	printer = &registry.Device{Name: "prn.campus.test", Owner: "chem", Scope: registry.ScopeAnywhere,
		State: registry.StateActive, Addresses: registry.MustAddresses("10.2.3.4/32")}
	fleet = &registry.Device{Name: "fleet.campus.test", Scope: registry.ScopeAnywhere,
		State: registry.StateActive, Addresses: registry.MustAddresses("10.8.0.0/16")}
	asleep = &registry.Device{Name: "old.campus.test", Scope: registry.ScopeAnywhere,
		State: registry.StateSuspended, Addresses: registry.MustAddresses("10.2.3.5/32")}
	inward = &registry.Device{Name: "in.campus.test", Scope: registry.ScopeHosted,
		State: registry.StateActive, Addresses: registry.MustAddresses("192.0.2.7/32")}
	app = &registry.Device{Name: "app.campus.test", Scope: registry.ScopeAnywhere, State: registry.StateActive}

	snapshot = registry.NewSnapshot(1, entries())
)

func entries() registry.Entries {
	return registry.Entries{
		Devices:     []*registry.Device{printer, fleet, asleep, inward, app},
		Credentials: []*registry.Credential{{Name: "app", Device: "app.campus.test"}, {Name: "lost", Device: "gone.test"}},
		Domains:     []*registry.Domain{{Name: "campus.test"}},
		Networks: []*registry.Network{
			{Range: netip.MustParsePrefix("10.0.0.0/8"), Kind: registry.KindCampus},
			{Range: netip.MustParsePrefix("10.9.0.0/16"), Kind: registry.KindDeny},
		},
	}
}

func campusRules() *Rules { return &Rules{HostedFromCampus: Enforce} }

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name    string
		from    string
		rcpt    string
		facts   Facts
		rules   func(*Rules)
		outcome Outcome
		rule    string
	}{
		{name: "campus to hosted", from: "10.1.1.1", rcpt: "a@campus.test", outcome: Admit, rule: "campus-to-hosted"},
		{name: "campus to hosted, switched off", from: "10.1.1.1", rcpt: "a@campus.test", outcome: Refuse, rule: "not-registered",
			rules: func(r *Rules) { r.HostedFromCampus = Off }},
		{name: "campus to a subdomain of a hosted one", from: "10.1.1.1", rcpt: "a@sub.campus.test", outcome: Refuse, rule: "not-registered"},
		{name: "campus to anywhere", from: "10.1.1.1", rcpt: "a@inet.test", outcome: Refuse, rule: "not-registered"},
		{name: "mapped address is the same address", from: "::ffff:10.2.3.4", rcpt: "a@inet.test", outcome: Admit, rule: "registered"},
		{name: "registered to anywhere", from: "10.2.3.4", rcpt: "a@inet.test", outcome: Admit, rule: "registered"},
		{name: "neighbour of a registered one", from: "10.2.3.6", rcpt: "a@inet.test", outcome: Refuse, rule: "not-registered"},
		{name: "suspended to hosted", from: "10.2.3.5", rcpt: "a@campus.test", outcome: Refuse, rule: "device-state"},
		{name: "hosted scope to hosted", from: "192.0.2.7", rcpt: "a@campus.test", outcome: Admit, rule: "registered"},
		{name: "hosted scope to anywhere", from: "192.0.2.7", rcpt: "a@inet.test", outcome: Refuse, rule: "scope"},
		{name: "outside to hosted", from: "192.0.2.1", rcpt: "a@campus.test", outcome: Refuse, rule: "not-registered"},
		{name: "denied range to hosted", from: "10.9.1.1", rcpt: "a@campus.test", outcome: Refuse, rule: "denied-network"},
		{name: "denied range with credentials", from: "10.9.1.1", rcpt: "a@inet.test", facts: Facts{Identity: "app"}, outcome: Admit, rule: "registered"},
		{name: "removed credential on a submission listener", from: "10.1.1.1", rcpt: "a@campus.test", facts: Facts{Identity: "removed", Submission: true}, outcome: Refuse, rule: "authentication"},
		{name: "removed credential from a denied range", from: "10.9.1.1", rcpt: "a@campus.test", facts: Facts{Identity: "removed"}, outcome: Refuse, rule: "denied-network"},
		{name: "credential of no device", from: "10.1.1.1", rcpt: "a@inet.test", facts: Facts{Identity: "lost"}, outcome: Refuse, rule: "not-registered"},
		{name: "submission without identity", from: "10.2.3.4", rcpt: "a@campus.test", facts: Facts{Submission: true}, outcome: Refuse, rule: "authentication"},
		{name: "sender outside, off", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{ReversePath: reverse("x@other.test")}, outcome: Admit, rule: "registered"},
		{name: "sender outside, enforced", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{ReversePath: reverse("x@other.test")}, outcome: Refuse, rule: "sender",
			rules: func(r *Rules) { r.SenderMustBeHosted = Enforce }},
		{name: "null sender, enforced", from: "10.2.3.4", rcpt: "a@inet.test", outcome: Admit, rule: "registered",
			rules: func(r *Rules) { r.SenderMustBeHosted = Enforce }},
		{name: "fcrdns match", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{Name: "PRN.campus.test"}, outcome: Admit, rule: "registered",
			rules: func(r *Rules) { r.FCrDNS = Enforce }},
		{name: "fcrdns mismatch", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{Name: "x.campus.test"}, outcome: Refuse, rule: "fcrdns",
			rules: func(r *Rules) { r.FCrDNS = Enforce }},
		{name: "fcrdns mismatch to hosted", from: "10.2.3.4", rcpt: "a@campus.test", outcome: Admit, rule: "registered",
			rules: func(r *Rules) { r.FCrDNS = Enforce }},
		{name: "fcrdns, DNS down", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{NameDoubt: true}, outcome: Later, rule: "fcrdns",
			rules: func(r *Rules) { r.FCrDNS = Enforce }},
		{name: "fcrdns, registered range", from: "10.8.0.9", rcpt: "a@inet.test", outcome: Admit, rule: "registered",
			rules: func(r *Rules) { r.FCrDNS = Enforce }},
		{name: "sandbox", from: "127.0.0.1", rcpt: "a@inet.test", facts: Facts{Submission: true}, outcome: Admit, rule: "sandbox",
			rules: func(r *Rules) { r.Sandbox = true }},
		{name: "sandbox from elsewhere", from: "10.1.1.1", rcpt: "a@inet.test", outcome: Refuse, rule: "not-registered",
			rules: func(r *Rules) { r.Sandbox = true }},
		{name: "over a limit", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{Over: []string{"messages_per_hour"}}, outcome: Hold, rule: "limit"},
		{name: "over a limit, to hosted", from: "10.2.3.4", rcpt: "a@campus.test", facts: Facts{Over: []string{"messages_per_hour"}}, outcome: Admit, rule: "registered"},
		{name: "over a limit, report", from: "10.2.3.4", rcpt: "a@inet.test", facts: Facts{Over: []string{"messages_per_hour"}, Report: true}, outcome: Admit, rule: "report"},
		{name: "over a limit, unregistered", from: "10.1.1.1", rcpt: "a@campus.test", facts: Facts{Over: []string{"messages_per_hour"}}, outcome: Later, rule: "limit"},
		{name: "over a limit, of no concern", from: "10.1.1.1", rcpt: "a@inet.test", facts: Facts{Over: []string{"messages_per_hour"}}, outcome: Refuse, rule: "not-registered"},
		{name: "report", from: "127.0.0.1", rcpt: "a@inet.test", facts: Facts{Report: true}, outcome: Admit, rule: "report"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := campusRules()
			if tt.rules != nil {
				tt.rules(rules)
			}
			f := tt.facts
			f.Address = netip.MustParseAddr(tt.from)
			a, err := smtp.ParseAddress(tt.rcpt)
			if err != nil {
				t.Fatal(err)
			}
			f.Recipient = &smtp.ForwardPath{Address: a}
			v := Decide(rules, snapshot, &f)
			if v.Outcome != tt.outcome || v.Rule != tt.rule {
				t.Errorf("got %s by %s (%s), want %s by %s", v.Outcome, v.Rule, v.Reason, tt.outcome, tt.rule)
			}
			if (v.Outcome == Refuse) != v.Reply.Permanent() || (v.Outcome == Later) != v.Reply.Transient() {
				t.Errorf("outcome %s with reply %v", v.Outcome, v.Reply)
			}
		})
	}
}

func TestObserveRecordsWithoutApplying(t *testing.T) {
	rules := campusRules()
	rules.FCrDNS = Observe
	rcpt := smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "inet.test"}}
	v := Decide(rules, snapshot, &Facts{Address: netip.MustParseAddr("10.2.3.4"), Recipient: &rcpt})
	if !v.Admitted() || len(v.Observed) != 1 || v.Observed[0] != "fcrdns" || v.Owner != "chem" {
		t.Errorf("%+v", v)
	}
}

func reverse(s string) smtp.ReversePath {
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return smtp.ReversePath{Address: a}
}

// The sender that the relay puts in is allowed, wherever it is read from.
func TestSenderByQuirk(t *testing.T) {
	d := &registry.Device{
		Name: "d.test", Addresses: registry.MustAddresses("10.2.3.4"), State: registry.StateActive, Scope: registry.ScopeAnywhere,
		Senders: []string{"other@campus.test"}, Quirks: registry.Quirks{From: "Scan@Campus.test"},
	}
	reg := registry.NewSnapshot(1, registry.Entries{Devices: []*registry.Device{d}})
	rcpt := smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "inet.test"}}
	for from, rule := range map[string]string{"Scan@campus.test": "registered", "other@campus.test": "registered", "scan@campus.test": "sender-allowed"} {
		f := Facts{Address: netip.MustParseAddr("10.2.3.4"), ReversePath: reverse(from), HeaderFrom: []string{from}, Recipient: &rcpt}
		if v := Decide(campusRules(), reg, &f); v.Rule != rule {
			t.Errorf("%s: %s by %s", from, v.Outcome, v.Rule)
		}
		if f.ReversePath = (smtp.ReversePath{}); rule == "sender-allowed" {
			if v := Decide(campusRules(), reg, &f); v.Rule != "header-from" {
				t.Errorf("%s in the header: %s by %s", from, v.Outcome, v.Rule)
			}
		}
	}
}

func TestSender(t *testing.T) {
	for _, tt := range []struct{ from, identity, want string }{
		{"10.2.3.4", "", printer.Name}, {"10.2.3.4", "app", app.Name}, {"192.0.2.1", "app", app.Name}, {"192.0.2.1", "", ""}, {"10.2.3.4", "removed", printer.Name},
	} {
		got := ""
		if d := Sender(campusRules(), snapshot, &Facts{Address: netip.MustParseAddr(tt.from), Identity: tt.identity}); d != nil {
			got = d.Name
		}
		if got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

// A refusal says what was seen and what is open to the sender (W36, X13, X14).
func TestTexts(t *testing.T) {
	for _, c := range []struct {
		from, want string
		facts      Facts
	}{
		{"10.1.1.1", "Not registered: 10.1.1.1.", Facts{}},
		{"192.0.2.1", "Not registered: 192.0.2.1. Log in on port 587.", Facts{}},
		{"::ffff:192.0.2.1", "Not registered: 192.0.2.1. Log in on port 587.", Facts{}},
		{"10.9.1.1", "Log in to send from 10.9.1.1.", Facts{}},
		{"10.1.1.1", "Log in, or use port 25 from a registered address: 10.1.1.1.", Facts{Submission: true}},
		{"10.2.3.4", "Message too big, 50 MB at most.", Facts{Size: 50_000_001}},
		{"10.2.3.4", "Too many recipients, 100 at most.", Facts{Recipients: 100}},
	} {
		f := c.facts
		f.Address, f.Recipient = netip.MustParseAddr(c.from), &smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "inet.test"}}
		if v := Decide(&Rules{MessageSize: 50_000_000, Recipients: 100}, snapshot, &f); v.Reply.Text != c.want {
			t.Errorf("%s: %q, want %q", c.from, v.Reply.Text, c.want)
		}
	}
}

// An entry for a whole domain allows nothing where those are not wanted, not even
// the address that it is itself (S27).
func TestSenderWildcard(t *testing.T) {
	d := *printer
	d.Senders = []string{"*@campus.test"}
	reg := registry.NewSnapshot(2, registry.Entries{Devices: []*registry.Device{&d}})
	for _, c := range []struct {
		on     bool
		sender string
		want   bool
	}{{true, "x@CAMPUS.test", true}, {true, "x@sub.campus.test", false}, {false, "x@campus.test", false}, {false, "*@campus.test", false}} {
		rules := campusRules()
		rules.SenderWildcards = c.on
		f := Facts{Address: netip.MustParseAddr("10.2.3.4"), ReversePath: reverse(c.sender)}
		if v := Decide(rules, reg, &f); v.Admitted() != c.want {
			t.Errorf("%s, wildcards %v: %+v", c.sender, c.on, v)
		}
	}
}
