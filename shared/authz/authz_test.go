package authz

import (
	"net/netip"
	"testing"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

var (
	printer = &registry.Device{Name: "prn.campus.test", Owner: "chem", Scope: registry.ScopeAnywhere,
		State: registry.StateActive, Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.3.4/32")}}
	fleet = &registry.Device{Name: "fleet.campus.test", Scope: registry.ScopeAnywhere,
		State: registry.StateActive, Addresses: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}}
	asleep = &registry.Device{Name: "old.campus.test", Scope: registry.ScopeAnywhere,
		State: registry.StateSuspended, Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.3.5/32")}}
	inward = &registry.Device{Name: "in.campus.test", Scope: registry.ScopeHosted,
		State: registry.StateActive, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}}
	app = &registry.Device{Name: "app.campus.test", Scope: registry.ScopeAnywhere, State: registry.StateActive}

	snapshot = registry.NewSnapshot(1, []*registry.Device{printer, fleet, asleep, inward, app},
		[]*registry.Credential{{Name: "app", Device: "app.campus.test"}, {Name: "lost", Device: "gone.test"}})
)

func campusRules() *Rules {
	return &Rules{
		Hosted:           map[string]bool{"campus.test": true},
		Campus:           []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Denied:           []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
		HostedFromCampus: Enforce, FCrDNS: Off, SenderMustBeHosted: Off,
	}
}

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
		{name: "suspended to hosted", from: "10.2.3.5", rcpt: "a@campus.test", outcome: Refuse, rule: "registered"},
		{name: "hosted scope to hosted", from: "192.0.2.7", rcpt: "a@campus.test", outcome: Admit, rule: "registered"},
		{name: "hosted scope to anywhere", from: "192.0.2.7", rcpt: "a@inet.test", outcome: Refuse, rule: "registered"},
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

func BenchmarkDecide(b *testing.B) {
	rules := campusRules()
	rcpt := smtp.ForwardPath{Address: smtp.Address{Local: "a", Domain: "inet.test"}}
	f := &Facts{Address: netip.MustParseAddr("10.2.3.4"), Recipient: &rcpt}
	for b.Loop() {
		Decide(rules, snapshot, f)
	}
}
