package authz

import (
	"net/netip"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// bench is one printer that may send anywhere and does so, and the world around
// it. Each test changes one thing.
type bench struct {
	rules   Rules
	device  registry.Device
	app     registry.Credential
	entries registry.Entries
	facts   Facts
}

func newBench() *bench {
	network := func(kind registry.Kind, p string) *registry.Network {
		return &registry.Network{Kind: kind, Range: netip.MustParsePrefix(p)}
	}
	return &bench{
		rules: Rules{HostedFromCampus: Enforce},
		device: registry.Device{
			Name: "prn.campus.test", Owner: "chem", Scope: registry.ScopeAnywhere, State: registry.StateActive,
			Addresses: registry.MustAddresses("10.2.3.4", "10.2.9.0/24", "10.20.0.1", "10.21.0.1", "10.22.0.1", "10.23.0.1", "10.30.0.1", "10.40.0.1"),
		},
		app: registry.Credential{Name: "app", Device: "prn.campus.test"},
		entries: registry.Entries{
			Owners:  []*registry.Owner{{Name: "chem"}, {Name: "vendor", External: true}},
			Domains: []*registry.Domain{{Name: "campus.test", Internal: true}, {Name: "chem.campus.test"}},
			Networks: []*registry.Network{
				network(registry.KindCampus, "10.0.0.0/8"), network(registry.KindWorkstations, "10.20.0.0/16"), network(registry.KindDHCP, "10.21.0.0/16"),
				network(registry.KindDeny, "10.22.0.0/16"), network(registry.KindResidential, "10.23.0.0/16"), network(registry.KindNAT, "10.30.0.0/16"),
				network(registry.KindCloud, "10.40.0.0/16"),
			},
		},
		facts: Facts{
			Address: netip.MustParseAddr("10.2.3.4"), Name: "prn.campus.test", ReversePath: reverse("prn@campus.test"), HeaderFrom: []string{"prn@campus.test"},
			Recipient: to("a@inet.test"), At: now,
		},
	}
}

func (b *bench) decide() Verdict {
	b.entries.Devices, b.entries.Credentials = []*registry.Device{&b.device}, []*registry.Credential{&b.app}
	return Decide(&b.rules, registry.NewSnapshot(1, b.entries), &b.facts)
}

func to(s string) *smtp.ForwardPath {
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return &smtp.ForwardPath{Address: a}
}

func (b *bench) from(address string)  { b.facts.Address = netip.MustParseAddr(address) }
func (b *bench) blocks(what string)   { b.entries.Blocks = []*registry.Block{{Subject: what}} }
func (b *bench) sends(list ...string) { b.device.Senders = list }
func (b *bench) shows(from string)    { b.facts.HeaderFrom = []string{from} }
func (b *bench) path(from string)     { b.facts.ReversePath = reverse(from) }
func (b *bench) reach(rcpt string)    { b.facts.Recipient = to(rcpt) }

// vendor sends as a subdomain of its own, in both.
func (b *bench) vendor() {
	b.device.Owner = "vendor"
	b.path("x@chem.campus.test")
	b.shows("x@chem.campus.test")
}

// Each rule stops what it is there for, and nothing next to that.
func TestEachRule(t *testing.T) {
	later, earlier := now.Add(time.Hour), now.Add(-time.Hour)
	for _, tt := range []struct {
		name string
		do   func(*bench)
		rule string // the one that decides; all but "registered" do not admit
	}{
		{"nothing is wrong", func(*bench) {}, "registered"},

		{"session: the last one", func(b *bench) { b.rules.SessionRelay, b.facts.Messages = 2, 1 }, "registered"},
		{"session: one more", func(b *bench) { b.rules.SessionRelay, b.facts.Messages = 2, 2 }, "session-limit"},
		{"session: the limit of another listener", func(b *bench) { b.rules.SessionSubmission, b.facts.Messages = 2, 2 }, "registered"},
		{"session: of a submission listener", func(b *bench) {
			b.rules.SessionSubmission, b.facts.Messages, b.facts.Submission, b.facts.Identity = 2, 2, true, "app"
		}, "session-limit"},
		{"session: its own limit is higher", func(b *bench) { b.rules.SessionRelay, b.facts.Messages, b.device.Limits.Session = 2, 2, 3 }, "registered"},
		{"session: its own limit is lower", func(b *bench) { b.rules.SessionRelay, b.facts.Messages, b.device.Limits.Session = 3, 2, 2 }, "session-limit"},
		{"size: exactly", func(b *bench) { b.rules.MessageSize, b.facts.Size = 100, 100 }, "registered"},
		{"size: one octet more", func(b *bench) { b.rules.MessageSize, b.facts.Size = 100, 101 }, "size"},
		{"size: its own is larger", func(b *bench) { b.rules.MessageSize, b.facts.Size, b.device.Limits.Size = 100, 101, 101 }, "registered"},
		{"size: its own is smaller", func(b *bench) { b.rules.MessageSize, b.facts.Size, b.device.Limits.Size = 200, 101, 100 }, "size"},
		{"recipients: the last one", func(b *bench) { b.rules.Recipients, b.facts.Recipients = 2, 1 }, "registered"},
		{"recipients: one more", func(b *bench) { b.rules.Recipients, b.facts.Recipients = 2, 2 }, "recipients"},
		{"recipients: its own is higher", func(b *bench) { b.rules.Recipients, b.facts.Recipients, b.device.Limits.Recipients = 2, 2, 3 }, "registered"},
		{"recipients: its own is lower", func(b *bench) { b.rules.Recipients, b.facts.Recipients, b.device.Limits.Recipients = 3, 2, 2 }, "recipients"},

		{"sandbox: mapped loopback", func(b *bench) { b.rules.Sandbox = true; b.from("::ffff:127.0.0.1") }, "sandbox"},
		{"sandbox: an identity that nobody knows is none", func(b *bench) { b.facts.Identity, b.facts.Submission = "who", true }, "authentication"},
		{"sandbox: an identity that nobody knows", func(b *bench) {
			b.rules.Sandbox, b.facts.Identity, b.facts.Submission = true, "who", true
		}, "not-registered"},

		{"block: range", func(b *bench) { b.blocks("10.2.0.0/16") }, "blocked"},
		{"block: beside it", func(b *bench) { b.blocks("10.3.0.0/16") }, "registered"},
		{"block: not ended", func(b *bench) { b.blocks("10.2.3.4"); b.entries.Blocks[0].Until = later }, "blocked"},
		{"block: ended", func(b *bench) { b.blocks("10.2.3.4"); b.entries.Blocks[0].Until = earlier }, "registered"},
		{"block: sender", func(b *bench) { b.blocks("prn@campus.test"); b.path("PRN@Campus.test"); b.facts.HeaderFrom = nil }, "blocked"},
		{"block: sender, ended", func(b *bench) { b.blocks("prn@campus.test"); b.entries.Blocks[0].Until = earlier }, "registered"},
		{"block: sender in the From field only", func(b *bench) { b.blocks("Evil@campus.test"); b.shows("evil@Campus.test") }, "blocked"},
		{"block: another sender", func(b *bench) { b.blocks("evil@campus.test") }, "registered"},
		{"block: domain, From field of a report", func(b *bench) {
			b.blocks("@evil.test")
			b.facts.ReversePath = smtp.ReversePath{}
			b.shows("x@evil.test")
		}, "blocked"},

		{"helo: without", func(b *bench) { b.rules.Helo, b.facts.Helo = Enforce, "a.b" }, "registered"},
		{"helo: with", func(b *bench) { b.rules.Helo, b.facts.Helo = Enforce, "a&b" }, "helo"},
		{"helo: off", func(b *bench) { b.facts.Helo = "a&b" }, "registered"},

		{"credential", func(b *bench) { b.facts.Identity = "app" }, "registered"},
		{"credential: suspended", func(b *bench) { b.facts.Identity, b.app.Suspended = "app", true }, "credential"},
		{"credential: suspended, known by the address", func(b *bench) { b.app.Suspended = true }, "registered"},
		{"credential: vouched for, and nobody's", func(b *bench) { b.facts.Identity, b.facts.Authority = "who@REALM", Kerberos }, "not-registered"},

		{"network: workstations", func(b *bench) { b.from("10.20.0.1") }, "denied-network"},
		{"network: DHCP", func(b *bench) { b.from("10.21.0.1") }, "denied-network"},
		{"network: deny", func(b *bench) { b.from("10.22.0.1") }, "denied-network"},
		{"network: residential", func(b *bench) { b.from("10.23.0.1") }, "denied-network"},
		{"network: residential, hosted recipient", func(b *bench) { b.from("10.23.0.1"); b.reach("a@campus.test") }, "denied-network"},
		{"network: with a login", func(b *bench) { b.from("10.20.0.1"); b.facts.Identity = "app" }, "registered"},

		{"state: requested", func(b *bench) { b.device.State, b.facts.Identity = registry.StateRequested, "app" }, "device-state"},
		{"state: approved", func(b *bench) { b.device.State, b.facts.Identity = registry.StateApproved, "app" }, "device-state"},
		{"state: suspended", func(b *bench) { b.device.State = registry.StateSuspended }, "device-state"},
		{"state: retired", func(b *bench) { b.device.State, b.facts.Identity = registry.StateRetired, "app" }, "device-state"},

		{"proof: credential, without", func(b *bench) { b.device.Proof = registry.ProofCredential }, "proof"},
		{"proof: credential, from anywhere", func(b *bench) {
			b.device.Proof, b.facts.Identity = registry.ProofCredential, "app"
			b.from("192.0.2.1")
		}, "registered"},
		{"proof: both", func(b *bench) { b.device.Proof, b.facts.Identity = registry.ProofBoth, "app" }, "registered"},
		{"proof: both, login alone", func(b *bench) { b.device.Proof, b.facts.Identity = registry.ProofBoth, "app"; b.from("192.0.2.1") }, "proof"},
		{"proof: both, address alone", func(b *bench) { b.device.Proof = registry.ProofBoth }, "proof"},
		{"lock: elsewhere", func(b *bench) { b.rules.AddressLock, b.facts.Identity = Enforce, "app"; b.from("192.0.2.1") }, "address-lock"},
		{"lock: at its address", func(b *bench) { b.rules.AddressLock, b.facts.Identity = Enforce, "app" }, "registered"},
		{"lock: it has none", func(b *bench) {
			b.rules.AddressLock, b.facts.Identity, b.device.Addresses = Enforce, "app", nil
		}, "registered"},

		{"senders: listed", func(b *bench) { b.sends("prn@campus.test") }, "registered"},
		{"senders: another local part", func(b *bench) { b.sends("prn@campus.test"); b.path("scan@campus.test") }, "sender-allowed"},
		{"senders: letter case of the local part", func(b *bench) { b.sends("PRN@campus.test") }, "sender-allowed"},
		{"senders: null path", func(b *bench) { b.sends("prn@campus.test"); b.facts.ReversePath = smtp.ReversePath{} }, "registered"},
		{"senders: for From only", func(b *bench) {
			b.sends("other@campus.test")
			b.device.HeaderSenders = []string{"prn@campus.test"}
		}, "sender-allowed"},
		{"senders: From for From only", func(b *bench) {
			b.sends("prn@campus.test")
			b.device.HeaderSenders = []string{"news@campus.test"}
			b.shows("news@campus.test")
		}, "registered"},
		{"senders: From of another", func(b *bench) { b.sends("prn@campus.test"); b.shows("boss@campus.test") }, "header-from"},
		{"senders: From of another behind its own", func(b *bench) {
			b.sends("prn@campus.test")
			b.facts.HeaderFrom = []string{"prn@campus.test", "boss@campus.test"}
		}, "header-from"},
		{"senders: From unreadable", func(b *bench) {
			b.sends("prn@campus.test")
			b.facts.HeaderFrom, b.facts.FromFault = nil, FromUnreadable
		}, "header-from"},
		{"senders: a whole domain", func(b *bench) { b.sends("*@Campus.test"); b.rules.SenderWildcards = true }, "registered"},
		{"senders: a whole domain, where that is off", func(b *bench) { b.sends("*@campus.test") }, "sender-allowed"},

		{"vendor: as its subdomain", func(b *bench) { b.vendor() }, "registered"},
		{"vendor: reverse-path", func(b *bench) { b.vendor(); b.path("x@Campus.test") }, "internal-domain"},
		{"vendor: From field", func(b *bench) { b.vendor(); b.shows("x@Campus.test") }, "internal-domain"},

		{"sender: not hosted", func(b *bench) { b.rules.SenderMustBeHosted = Enforce; b.path("x@inet.test") }, "sender"},
		{"sender: hosted", func(b *bench) { b.rules.SenderMustBeHosted = Enforce }, "registered"},
		{"sender: no mailbox", func(b *bench) { b.rules.SenderMustExist, b.facts.Standing = Enforce, StandingUnknown }, "sender-exists"},
		{"sender: nobody knows", func(b *bench) { b.rules.SenderMustExist, b.facts.Standing = Enforce, StandingDoubt }, "sender-exists"},
		{"sender: the null path has no mailbox", func(b *bench) {
			b.rules.SenderMustExist, b.facts.Standing, b.facts.ReversePath = Enforce, StandingUnknown, smtp.ReversePath{}
		}, "registered"},
		{"sender: a person", func(b *bench) { b.rules.PersonalSender, b.facts.Standing = Enforce, StandingPersonal }, "personal-sender"},
		{"sender: a function", func(b *bench) { b.rules.PersonalSender, b.facts.Standing = Enforce, StandingValid }, "registered"},
		{"From field: a group", func(b *bench) { b.rules.FromField, b.facts.FromFault = Enforce, FromGroup }, "from-field"},
		{"From field: as it should be", func(b *bench) { b.rules.FromField = Enforce }, "registered"},

		{"content: held", func(b *bench) { b.facts.Scan = Hold }, "content"},
		{"content: refused", func(b *bench) { b.facts.Scan = Refuse }, "content"},
		{"content: not known", func(b *bench) { b.facts.Scan = Later }, "content"},
		{"content: admitted", func(b *bench) { b.facts.Scan = Admit }, "registered"},

		{"authenticate: no exemption", func(b *bench) { b.rules.MustAuthenticate = Enforce }, "must-authenticate"},
		{"authenticate: exempt", func(b *bench) {
			b.rules.MustAuthenticate, b.device.Exempt = Enforce, &registry.Exemption{Reason: "old", Until: later}
		}, "registered"},
		{"authenticate: exempt until now", func(b *bench) {
			b.rules.MustAuthenticate, b.device.Exempt = Enforce, &registry.Exemption{Reason: "old", Until: now}
		}, "must-authenticate"},
		{"authenticate: hosted", func(b *bench) { b.rules.MustAuthenticate = Enforce; b.reach("a@campus.test") }, "registered"},
		{"NAT", func(b *bench) { b.rules.NAT = Enforce; b.from("10.30.0.1") }, "nat"},
		{"NAT: hosted", func(b *bench) { b.rules.NAT = Enforce; b.from("10.30.0.1"); b.reach("a@campus.test") }, "registered"},
		{"NAT: login", func(b *bench) { b.rules.NAT, b.facts.Identity = Enforce, "app"; b.from("10.30.0.1") }, "registered"},
		{"cloud", func(b *bench) { b.rules.Cloud = Enforce; b.from("10.40.0.1") }, "cloud"},
		{"cloud: NAT is another", func(b *bench) { b.rules.Cloud = Enforce; b.from("10.30.0.1") }, "registered"},
		{"bulk: newsletter", func(b *bench) { b.rules.Bulk, b.device.Traffic = Enforce, registry.TrafficNewsletter }, "bulk"},
		{"bulk: scans", func(b *bench) { b.rules.Bulk, b.device.Traffic = Enforce, registry.TrafficScans }, "registered"},
		{"limit: a refusal is stronger than holding", func(b *bench) {
			b.facts.Over, b.rules.MustAuthenticate, b.rules.FCrDNS, b.facts.Name = []string{"x"}, Off, Enforce, "other.test"
		}, "fcrdns"},
		{"limit: to come again is stronger than holding", func(b *bench) {
			b.facts.Over, b.rules.FCrDNS, b.facts.NameDoubt, b.facts.Name = []string{"x"}, Enforce, true, ""
		}, "fcrdns"},
		{"limit: of two that say come again, the first", func(b *bench) {
			b.rules.FCrDNS, b.facts.NameDoubt, b.facts.Name, b.facts.Scan = Enforce, true, "", Later
		}, "content"},

		{"name: missing", func(b *bench) { b.rules.FCrDNS, b.facts.Name = Enforce, "" }, "fcrdns"},
		{"name: not known now", func(b *bench) { b.rules.FCrDNS, b.facts.Name, b.facts.NameDoubt = Enforce, "", true }, "fcrdns"},
		{"name: login", func(b *bench) { b.rules.FCrDNS, b.facts.Name, b.facts.Identity = Enforce, "", "app" }, "registered"},
		{"name: range", func(b *bench) { b.rules.FCrDNS, b.facts.Name = Enforce, ""; b.from("10.2.9.9") }, "registered"},
		{"name: the scope says it", func(b *bench) { b.rules.FCrDNS, b.facts.Name, b.device.Scope = Enforce, "", registry.ScopeHosted }, "scope"},

		{"route: who may send anywhere", func(b *bench) { b.reach("x%inet.test@campus.test") }, "registered"},
		{"route: scope hosted", func(b *bench) { b.device.Scope = registry.ScopeHosted; b.reach("x%inet.test@campus.test") }, "routing"},
		{"route: unregistered", func(b *bench) { b.from("10.9.9.9"); b.reach("inet.test!x@campus.test") }, "routing"},
		{"route: plain", func(b *bench) { b.device.Scope = registry.ScopeHosted; b.reach("x@campus.test") }, "registered"},
		{"postmaster", func(b *bench) {
			b.rules.Postmaster = "desk@campus.test"
			b.from("192.0.2.1")
			b.reach("desk@campus.test")
		}, "postmaster"},
		{"postmaster: in no hosted domain", func(b *bench) { b.rules.Postmaster = "desk@inet.test"; b.from("192.0.2.1"); b.reach("desk@inet.test") }, "not-registered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			tt.do(b)
			v := b.decide()
			admits := tt.rule == "registered" || tt.rule == "sandbox" || tt.rule == "postmaster"
			if v.Rule != tt.rule || v.Admitted() != admits {
				t.Errorf("%s by %s (%s), want %s", v.Outcome, v.Rule, v.Reason, tt.rule)
			}
		})
	}
}

// What a rule does that stops one for a while, or for good, is not the same.
func TestOutcomes(t *testing.T) {
	for rule, tt := range map[string]struct {
		do      func(*bench)
		outcome Outcome
	}{
		"doubt":   {func(b *bench) { b.rules.SenderMustExist, b.facts.Standing = Enforce, StandingDoubt }, Later},
		"mailbox": {func(b *bench) { b.rules.SenderMustExist, b.facts.Standing = Enforce, StandingUnknown }, Refuse},
		"hold":    {func(b *bench) { b.facts.Scan = Hold }, Hold},
		"virus":   {func(b *bench) { b.facts.Scan = Refuse }, Refuse},
		"scanner": {func(b *bench) { b.facts.Scan = Later }, Later},
		"name":    {func(b *bench) { b.rules.FCrDNS, b.facts.Name = Enforce, "" }, Refuse},
		"dns":     {func(b *bench) { b.rules.FCrDNS, b.facts.Name, b.facts.NameDoubt = Enforce, "", true }, Later},
	} {
		b := newBench()
		tt.do(b)
		if v := b.decide(); v.Outcome != tt.outcome {
			t.Errorf("%s: %s by %s", rule, v.Outcome, v.Rule)
		}
	}
}

// Our own reports are of a class of their own, whoever they are about.
func TestClassOfReports(t *testing.T) {
	b := newBench()
	b.device.Class = mail.ClassAlert
	if v := b.decide(); v.Class != mail.ClassAlert {
		t.Errorf("%+v", v)
	}
	b.facts.Report = true
	if v := b.decide(); v.Class != mail.ClassReport {
		t.Errorf("%+v", v)
	}
}

// A rule that admits is not recorded as one that would have refused: where it only
// observes, it admits.
func TestObservedAdmission(t *testing.T) {
	b := newBench()
	b.rules.HostedFromCampus = Observe
	b.from("10.9.9.9")
	b.reach("a@campus.test")
	if v := b.decide(); !v.Admitted() || v.Rule != "campus-to-hosted" || len(v.Observed) > 0 {
		t.Errorf("%+v", v)
	}
}

// What is wrong with the From fields, the worst first.
func TestFaultOf(t *testing.T) {
	one, two := []string{"a@campus.test"}, []string{"a@campus.test", "b@campus.test"}
	for _, tt := range []struct {
		from mail.From
		want Fault
	}{
		{mail.From{Fields: 1, Addresses: one}, ""},
		{mail.From{}, FromMissing},
		{mail.From{Fields: 2, Addresses: two, Unreadable: true, Disguised: true}, FromUnreadable},
		{mail.From{Fields: 1, Addresses: one, Disguised: true}, FromDisguised},
		{mail.From{Fields: 1, Addresses: one, Group: true}, FromGroup},
		{mail.From{Fields: 1, Addresses: two}, FromMultiple},
		{mail.From{Fields: 2, Addresses: one}, FromMultiple},
	} {
		if got := FaultOf(tt.from); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.from, got, tt.want)
		}
	}
}

// Of several confirmed names, the registered one counts.
func TestNameOf(t *testing.T) {
	b := newBench()
	b.decide()
	reg := registry.NewSnapshot(1, b.entries)
	for _, tt := range []struct {
		from, want string
		confirmed  []string
	}{
		{"10.2.3.4", "prn.campus.test", []string{"other.test.", "PRN.campus.test."}},
		{"10.2.3.4", "other.test", []string{"other.test.", "another.test."}},
		{"10.2.3.4", "", nil},
		{"10.9.9.9", "other.test", []string{"other.test.", "prn.campus.test."}},
	} {
		if got := NameOf(reg, netip.MustParseAddr(tt.from), tt.confirmed); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
