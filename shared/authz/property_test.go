package authz

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// The worlds of these tests are small, so that rules meet: three domains, a few
// addresses, devices with any registration. Most rules of a world are off, and much
// of what is sent is in order: where everything is wrong, the first rule hides all
// others. Each world is asked by every client that there is (everybody).

var (
	domains   = []string{"campus.test", "chem.campus.test", "inet.test"}
	addresses = []string{"10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.1.1", "192.0.2.1", "127.0.0.1", "::ffff:10.1.1.1", "2001:db8::1"}
	now       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

var names = []string{"", "d0.campus.test", "D1.campus.test", "other.test"}

func drawMode(t *rapid.T, name string) Mode {
	return rapid.SampledFrom([]Mode{Off, Off, Off, Observe, Enforce}).Draw(t, name)
}

// everybody asks for each client that there is, and each of the domains, in the
// same attempt otherwise.
func everybody(attempt *Facts, ask func(*Facts)) {
	for _, address := range addresses {
		for _, identity := range []string{"", "app-0", "app-1", "nobody"} {
			for _, authority := range []Authority{Local, Kerberos} {
				for _, domain := range domains {
					for _, name := range names {
						f := *attempt
						f.Address, f.Name, f.Identity, f.Authority = netip.MustParseAddr(address), name, identity, authority
						f.Recipient = &smtp.ForwardPath{Address: smtp.Address{Local: attempt.Recipient.Local, Domain: domain}}
						ask(&f)
					}
				}
			}
		}
	}
}

func drawRules(t *rapid.T) *Rules {
	r := &Rules{
		Sandbox:     rapid.IntRange(0, 9).Draw(t, "sandbox") == 0,
		MessageSize: 1000, Recipients: 3, SessionRelay: 3, SessionSubmission: 2,
		Postmaster: rapid.SampledFrom([]string{"", "prn@campus.test", "a@inet.test"}).Draw(t, "postmaster"),
	}
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		if m, ok := v.Field(i).Addr().Interface().(*Mode); ok {
			*m = drawMode(t, v.Type().Field(i).Name)
		}
	}
	r.Observing = rapid.SliceOfDistinct(rapid.SampledFrom(append(Observable(), "not-registered", "blocked")), rapid.ID).Draw(t, "observing")
	return r
}

func drawAddress(t *rapid.T, name string) string {
	local := rapid.SampledFrom([]string{"a", "b", "prn", "A"}).Draw(t, name+" local")
	return local + "@" + rapid.SampledFrom(domains).Draw(t, name+" domain")
}

func drawDevice(t *rapid.T, i int) *registry.Device {
	d := &registry.Device{
		Name:    fmt.Sprintf("d%d.campus.test", i),
		Owner:   rapid.SampledFrom([]string{"", "chem", "vendor"}).Draw(t, "owner"),
		Scope:   rapid.SampledFrom([]registry.Scope{registry.ScopeHosted, registry.ScopeAnywhere}).Draw(t, "scope"),
		Proof:   rapid.SampledFrom([]registry.Proof{"", registry.ProofEither, registry.ProofCredential, registry.ProofBoth}).Draw(t, "proof"),
		Traffic: rapid.SampledFrom([]registry.Traffic{"", registry.TrafficScans, registry.TrafficSurvey}).Draw(t, "traffic"),
		State: rapid.SampledFrom([]registry.State{
			registry.StateActive, registry.StateActive, registry.StateActive, registry.StateActive,
			registry.StateRequested, registry.StateApproved, registry.StateSuspended, registry.StateRetired,
		}).Draw(t, "state"),
	}
	for _, r := range rapid.SliceOfN(rapid.SampledFrom([]string{"10.1.1.1", "10.1.1.0/30", "10.1.0.0/16", "192.0.2.1", "2001:db8::1"}), 0, 2).Draw(t, "ranges") {
		a := registry.MustAddresses(r)[0]
		a.State = rapid.SampledFrom([]registry.State{"", registry.StateActive, registry.StateRetired}).Draw(t, "address state")
		d.Addresses = append(d.Addresses, a)
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "senders") {
		d.Senders = append(d.Senders, drawAddress(t, "allowed"))
	}
	d.Limits.Size = rapid.SampledFrom([]int64{0, 100, 5000}).Draw(t, "size")
	d.Limits.Session = rapid.IntRange(0, 4).Draw(t, "session")
	if rapid.Bool().Draw(t, "exempt") {
		d.Exempt = &registry.Exemption{Reason: "old", Until: rapid.SampledFrom([]time.Time{{}, now.Add(time.Hour), now.Add(-time.Hour)}).Draw(t, "until")}
	}
	return d
}

func drawEntries(t *rapid.T) registry.Entries {
	e := registry.Entries{
		Domains: []*registry.Domain{{Name: "campus.test", Internal: rapid.Bool().Draw(t, "internal")}, {Name: "chem.campus.test"}},
		Owners:  []*registry.Owner{{Name: "chem"}, {Name: "vendor", External: true}},
	}
	for i := range rapid.SampledFrom([]int{0, 1, 2, 3, 3}).Draw(t, "devices") {
		e.Devices = append(e.Devices, drawDevice(t, i))
		e.Credentials = append(e.Credentials, &registry.Credential{
			Name: fmt.Sprint("app-", i), Device: fmt.Sprintf("d%d.campus.test", i), Suspended: rapid.IntRange(0, 3).Draw(t, "credential suspended") == 0,
		})
	}
	for _, kind := range rapid.SliceOfDistinct(rapid.SampledFrom([]registry.Kind{
		registry.KindCampus, registry.KindDeny, registry.KindWorkstations, registry.KindNAT, registry.KindCloud,
	}), rapid.ID).Draw(t, "kinds") {
		p := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24"}).Draw(t, "network"))
		e.Networks = append(e.Networks, &registry.Network{Range: p, Kind: kind})
	}
	return e
}

func drawFacts(t *rapid.T) *Facts {
	f := &Facts{
		Listener: "devices", Submission: rapid.IntRange(0, 3).Draw(t, "submission") == 0, At: now,
		Address:    netip.MustParseAddr(rapid.SampledFrom(addresses).Draw(t, "address")),
		Name:       rapid.SampledFrom(names).Draw(t, "name"),
		NameDoubt:  rapid.Bool().Draw(t, "doubt"),
		Helo:       rapid.SampledFrom([]string{"prn", "a&b", ""}).Draw(t, "helo"),
		Identity:   rapid.SampledFrom([]string{"", "", "app-0", "app-1", "nobody"}).Draw(t, "identity"),
		Authority:  rapid.SampledFrom([]Authority{"", Local, Kerberos}).Draw(t, "authority"),
		Messages:   rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 5}).Draw(t, "messages"),
		Recipients: rapid.SampledFrom([]int{0, 0, 0, 2, 3, 5}).Draw(t, "recipients"),
		Size:       rapid.SampledFrom([]int64{0, 0, 0, 99, 101, 1001, 9000}).Draw(t, "octets"),
		Standing:   rapid.SampledFrom([]Standing{"", "", StandingValid, StandingUnknown, StandingPersonal, StandingDoubt}).Draw(t, "standing"),
		FromFault:  rapid.SampledFrom([]Fault{"", "", "", FromMissing, FromUnreadable, FromGroup}).Draw(t, "fault"),
		Scan:       rapid.SampledFrom([]Outcome{"", "", "", Admit, Hold, Refuse, Later}).Draw(t, "scan"),
	}
	if rapid.Bool().Draw(t, "sender") {
		f.ReversePath = reverse(drawAddress(t, "from"))
		f.HeaderFrom = []string{drawAddress(t, "header")}
	}
	if rapid.IntRange(0, 2).Draw(t, "in order") > 0 {
		f.Helo, f.Messages, f.Recipients, f.Size, f.Standing, f.FromFault, f.Scan = "prn", 0, 0, 0, "", "", ""
	}
	if rapid.IntRange(0, 3).Draw(t, "over") == 0 {
		f.Over = []string{"messages_per_hour"}
	}
	a, err := smtp.ParseAddress(drawAddress(t, "to"))
	if err != nil {
		t.Fatal(err)
	}
	f.Recipient = &smtp.ForwardPath{Address: a}
	return f
}

// Decide always answers, the same each time, with a reply that fits.
func TestDecideIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, reg, attempt := drawRules(t), registry.NewSnapshot(1, drawEntries(t)), drawFacts(t)
		everybody(attempt, func(f *Facts) { answers(t, rules, reg, f) })
	})
}

func answers(t *rapid.T, rules *Rules, reg *registry.Snapshot, f *Facts) {
	v := Decide(rules, reg, f)
	if again := Decide(rules, reg, f); !reflect.DeepEqual(v, again) {
		t.Fatalf("%+v, then %+v", v, again)
	}
	if (v.Outcome == Refuse) != v.Reply.Permanent() || (v.Outcome == Later) != v.Reply.Transient() {
		t.Fatalf("%s with reply %v", v.Outcome, v.Reply)
	}
	if v.Rule == "" || v.Reason == "" || v.Class == "" || len(v.Reply.Text) > maxText || strings.ContainsAny(v.Reply.Text, "\r\n") {
		t.Fatalf("%+v", v)
	}
}

// Nothing goes beyond the hosted domains but what an active device sends within
// its scope, with every proof that its registration and the rules want.
func TestNoOpenRelay(t *testing.T) {
	went := 0
	rapid.Check(t, func(t *rapid.T) {
		for range 10 { // a world is soon asked, and few have what a mistake needs
			rules, reg, attempt := drawRules(t), registry.NewSnapshot(1, drawEntries(t)), drawFacts(t)
			everybody(attempt, func(f *Facts) {
				v := Decide(rules, reg, f)
				switch {
				case !v.Passes() || rules.Sandbox && f.Address.Unmap().IsLoopback():
				case reg.Hosted(f.Recipient.Domain):
					inside(t, rules, reg, f, v)
				default:
					went++
					beyond(t, rules, reg, f, v)
				}
			})
		}
	})
	if went < 500 {
		t.Errorf("only %d messages went beyond the hosted domains: this shows nothing", went)
	}
}

// inside is what must hold of mail to a hosted domain.
func inside(t *rapid.T, rules *Rules, reg *registry.Snapshot, f *Facts, v Verdict) {
	d, known := reg.Device(v.Device)
	switch {
	case known && d.State == registry.StateActive:
	case known:
		t.Fatalf("%+v of %+v", v, d)
	case rules.Postmaster != "" && strings.EqualFold(rules.Postmaster, f.Recipient.Address.String()):
	case rules.HostedFromCampus == Off || !reg.KindsOf(f.Address).Has(registry.KindCampus):
		t.Fatalf("neither registered nor of the campus: %+v", v)
	}
}

// beyond is what must hold of mail that goes there.
func beyond(t *rapid.T, rules *Rules, reg *registry.Snapshot, f *Facts, v Verdict) {
	d, ok := reg.Device(v.Device)
	if !ok || d.State != registry.StateActive || d.Scope != registry.ScopeAnywhere {
		t.Fatalf("%+v of %+v", v, d)
	}
	c, known := reg.Credential(f.Identity)
	byCredential := f.Identity != "" && known && c.Device == d.Name && !c.Suspended
	if !byCredential && !d.Sends(f.Address) {
		t.Fatalf("neither by credential nor by address: %+v of %+v", v, d)
	}
	observes := func(rule string) bool { return slices.Contains(rules.Observing, rule) }
	if !observes("proof") && (d.Proof == registry.ProofBoth && !(byCredential && d.Sends(f.Address)) || d.Proof == registry.ProofCredential && !byCredential) {
		t.Fatalf("without the proof: %+v of %+v", v, d)
	}
	if byCredential {
		return
	}
	kinds := reg.KindsOf(f.Address)
	switch {
	case f.Submission && !observes("authentication"):
		t.Fatalf("submitted without a login: %+v", v)
	case (kinds.Has(registry.KindDeny) || kinds.Has(registry.KindWorkstations)) && !observes("denied-network"):
		t.Fatalf("from a denied network: %+v", v)
	case rules.NAT == Enforce && kinds.Has(registry.KindNAT), rules.Cloud == Enforce && kinds.Has(registry.KindCloud):
		t.Fatalf("from an address that proves nothing: %+v", v)
	case rules.MustAuthenticate == Enforce && !d.Exempt.Holds(f.At):
		t.Fatalf("without login or exemption: %+v", v)
	case rules.FCrDNS == Enforce && !strings.EqualFold(f.Name, d.Name) && !d.Ranged(f.Address):
		t.Fatalf("under the name %q: %+v", f.Name, v)
	}
}

// A restriction more never turns a refusal into an admission.
func TestRestrictionsOnlyRestrict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, entries, attempt := drawRules(t), drawEntries(t), drawFacts(t)
		loose := registry.NewSnapshot(1, entries)
		before := map[string]Verdict{}
		everybody(attempt, func(f *Facts) { before[who(f)] = Decide(rules, loose, f) })
		tighter := *rules
		switch rapid.IntRange(0, 4).Draw(t, "restriction") {
		case 0: // a rule that did not apply does
			v := reflect.ValueOf(&tighter).Elem()
			tighter.Observing = nil
			i := rapid.IntRange(0, v.NumField()-1).Draw(t, "rule")
			m, ok := v.Field(i).Addr().Interface().(*Mode)
			if !ok {
				return
			}
			*m = Enforce
			if v.Type().Field(i).Name == "HostedFromCampus" { // it admits: its other position restricts
				*m = Off
			}
		case 1:
			entries.Blocks = append(entries.Blocks, &registry.Block{Subject: rapid.SampledFrom([]string{"10.0.0.0/8", "@campus.test", "a@inet.test"}).Draw(t, "block")})
		case 2:
			entries.Networks = append(entries.Networks, &registry.Network{Range: netip.MustParsePrefix("10.0.0.0/8"), Kind: registry.KindResidential})
		case 3:
			for _, d := range entries.Devices {
				d.Senders = append(d.Senders, "nobody@campus.test")
				if len(d.Senders) > 1 { // a list that was there allows one more: no restriction
					d.Senders = d.Senders[:len(d.Senders)-1]
				}
			}
		case 4:
			for _, c := range entries.Credentials {
				c.Suspended = true
			}
		}
		tight := registry.NewSnapshot(2, entries)
		everybody(attempt, func(f *Facts) {
			was, is := before[who(f)], Decide(&tighter, tight, f)
			if was.Outcome == Refuse && is.Outcome != Refuse || !was.Passes() && is.Passes() {
				t.Fatalf("%s: %+v, then %+v", who(f), was, is)
			}
		})
	})
}

func who(f *Facts) string {
	return fmt.Sprint(f.Address, f.Name, f.Identity, f.Authority, f.Recipient.Domain)
}
