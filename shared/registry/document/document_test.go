package document

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

var at = time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC)

// everything has an entry of each kind with every sort of field.
func everything() registry.Entries {
	by := registry.Entry{Origin: registry.OriginCommand, At: at, By: "kim", Reason: "asked: twice", Revision: 7}
	return registry.Entries{
		Devices: []*registry.Device{
			{
				Name: "prn-1.chem.campus.test", Owner: "chem", Contacts: []string{"it@campus.test", "b@campus.test"},
				Addresses: []registry.Address{{Range: netip.MustParsePrefix("10.2.3.4/32")}, {Range: netip.MustParsePrefix("2001:db8::/64"), State: registry.StateSuspended, Since: at}},
				Proof:     registry.ProofBoth, Senders: []string{"prn@campus.test"}, Scope: registry.ScopeAnywhere, Class: mail.ClassScan, Traffic: registry.TrafficScans,
				Limits: registry.Limits{Size: 5_000_000, MessagesPerHour: 100}, Quirks: registry.Quirks{From: "prn@campus.test", HideEHLO: []string{"CHUNKING"}, LegacyTLS: true},
				PHI: true, Exempt: &registry.Exemption{Reason: "old: no AUTH", Until: at.AddDate(1, 0, 0)}, State: registry.StateSuspended,
				Suspension: &registry.Suspension{Cause: "reports", At: at, NeedsTicket: true}, Application: &registry.Application{By: "kim", Purpose: "scans # to mail\nand more"},
				Dates: registry.Dates{Requested: at, Approved: at.Add(time.Nanosecond)}, Approver: "lee", Entry: by,
			},
			{Name: "file.campus.test", Scope: registry.ScopeAnywhere, Class: mail.ClassDefault, State: registry.StateActive, Entry: registry.Entry{Origin: registry.OriginFile}},
		},
		Credentials: []*registry.Credential{{Name: "smtp-relay/app@CAMPUS", Device: "prn-1.chem.campus.test", Secrets: []registry.Secret{{Hash: "$argon2id$secret", Made: at}}, Entry: by}},
		Domains:     []*registry.Domain{{Name: "campus.test", Route: "smtp+verify://mx.campus.test:25", Internal: true, Entry: by}},
		Networks:    []*registry.Network{{Range: netip.MustParsePrefix("10.0.0.0/8"), Kind: registry.KindCampus, Note: "no", Entry: by}, {Range: netip.MustParsePrefix("2001:db8::/32"), Kind: registry.KindCampus, Entry: by}},
		Blocks:      []*registry.Block{{Subject: "10.9.9.9", Until: at, Entry: by}, {Subject: "@spam.test", Entry: by}},
		Owners:      []*registry.Owner{{Name: "chem", Contacts: []string{"chem@campus.test"}, Entry: by}, {Name: "1e5", Entry: by}, {Name: "010", Entry: by}, {Name: "true", Entry: by}, {Name: "größe: #", Entry: by}},
		Groups:      []*registry.Group{{Name: "mailrelay.updates", Members: []string{"a@campus.test"}, Entry: by}},
	}
}

func written(t *testing.T, form Form) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, everything(), form); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What was written says the same when it is read, in every form.
func TestWhatWasWritten(t *testing.T) {
	for _, form := range []Form{{}, {JSON: true}, {Secrets: true}, {JSON: true, Secrets: true, File: true}, {File: true}} {
		text := written(t, form)
		d, err := Read(text)
		if err != nil {
			t.Fatalf("%+v: %v\n%s", form, err, text)
		}
		p, err := Diff(everything(), d, Options{Remove: true, AnyNetwork: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Changes) != 0 || p.ID != "" || len(p.Faults) != 0 || len(p.Others) != 0 {
			t.Errorf("%+v: %+v\n%s", form, p, text)
		}
		if bytes.Contains(text, []byte("$argon2id$")) != form.Secrets || bytes.Contains(text, []byte("file.campus.test")) != form.File {
			t.Errorf("%+v:\n%s", form, text)
		}
	}
}

var update = flag.Bool("update", false, "write the golden files")

func TestWrittenForm(t *testing.T) {
	if *update {
		if err := os.WriteFile("testdata/registry.yaml", written(t, Form{}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/registry.yaml")
	if got := written(t, Form{}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v:\n%s", err, got)
	}
}

// A file of a new relay makes the same registry there.
func TestElsewhere(t *testing.T) {
	d, err := Read(written(t, Form{Secrets: true}))
	if err != nil {
		t.Fatal(err)
	}
	var there registry.Entries
	p := diff(t, there, d, Options{AnyNetwork: true})
	if len(p.Changes) != 13 || len(p.Faults) != 0 {
		t.Fatalf("%d changes, %v", len(p.Changes), p.Faults)
	}
	for _, c := range p.Changes {
		if c.Action != Add {
			t.Errorf("%s %s", c.Action, c.Entry)
		}
		there.Add(c.Item)
	}
	if again := diff(t, there, d, Options{Remove: true}); again.ID != "" || len(again.Changes) != 0 {
		t.Errorf("a second time: %+v", again.Changes)
	}
}

func diff(t *testing.T, now registry.Entries, d *Document, o Options) *Plan {
	t.Helper()
	p, err := Diff(now, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A short file, as a person writes it, leaves alone what it does not say.
func TestByHand(t *testing.T) {
	const text = `
devices:
  - name: PRN-1.chem.campus.test.
    owner: physics
    addresses: [10.2.3.4]
    state: suspended
    contacts: [it@campus.test]
  - {name: file.campus.test, owner: other}
  - {name: new.campus.test, exempt: {reason: old, until: 2027-06-30}}
credentials:
  - {name: smtp-relay/app@CAMPUS, device: prn-1.chem.campus.test}
`
	p := diff(t, everything(), parse(t, text), Options{Remove: true})
	if len(p.Changes) != 2 || len(p.File) != 1 || p.File[0] != "device file.campus.test" || len(p.Faults) != 0 || p.ID == "" {
		t.Fatalf("%+v", p)
	}
	changed, added := p.Changes[0], p.Changes[1]
	d := changed.Item.(*registry.Device)
	if changed.Action != Modify || d.Owner != "physics" || d.Revision != 7 || d.Application.Purpose == "" || !d.Suspension.NeedsTicket || d.Approver != "lee" || !d.Dates.Requested.Equal(at) {
		t.Errorf("%+v", d)
	}
	var fields []string
	for _, f := range changed.Fields {
		fields = append(fields, f.Name)
	}
	if got := strings.Join(fields, " "); got != "addresses class contacts exempt.reason exempt.until limits.messages_per_hour limits.size owner phi proof quirks.from quirks.hide_ehlo quirks.legacy_tls senders traffic" {
		t.Error(got)
	}
	if n := added.Item.(*registry.Device); added.Action != Add || n.State != registry.StateActive || n.Scope != registry.ScopeAnywhere || !n.Exempt.Until.Equal(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", n)
	}
}

// A file that was written before contacts were told of something does not make them
// hear it again.
func TestToldSince(t *testing.T) {
	now := everything()
	d := parse(t, string(written(t, Form{})))
	now.Devices[0].Told = map[string]time.Time{"activated": at}
	if p := diff(t, now, d, Options{}); len(p.Changes) != 0 {
		t.Errorf("%+v", p.Changes)
	}
	now.Devices[0].Told = map[string]time.Time{"activated": at, "expiry": at}
	d = parse(t, string(written(t, Form{})))
	d.Devices[0].Told = map[string]time.Time{"activated": at.AddDate(0, 0, 1), "expiry": {}}
	p := diff(t, now, d, Options{})
	if len(p.Changes) != 1 || p.Changes[0].Item.(*registry.Device).Told["expiry"] != at || p.Changes[0].Item.(*registry.Device).Told["activated"] == at {
		t.Errorf("%+v", p.Changes)
	}
}

// An address keeps its standing unless the file gives it another.
func TestAddressStanding(t *testing.T) {
	for addresses, changed := range map[string]bool{
		"[10.2.3.4, {range: 2001:db8::/64, state: suspended}]":                         false,
		"[{range: 10.2.3.4, state: active}, {range: 2001:db8::/64, state: suspended}]": false,
		"['10.2.3.4', '2001:db8::/64']":                                                true, // sends again
		"[10.2.3.4, {range: 2001:db8::/64, state: retired}]":                           true,
	} {
		p := diff(t, everything(), parse(t, "devices: [{name: prn-1.chem.campus.test, addresses: "+addresses+"}]"), Options{})
		is := slices.ContainsFunc(p.Changes[0].Fields, func(f Field) bool { return f.Name == "addresses" })
		if is != changed {
			t.Errorf("%s changes the addresses: %v", addresses, is)
		}
	}
}

// Only what a file names can be removed, and only where that is wanted.
func TestRemove(t *testing.T) {
	d := func() *Document { return parse(t, "blocks: [{subject: '@SPAM.test'}]\nowners:\n") }
	p := diff(t, everything(), d(), Options{})
	if len(p.Changes) != 0 || len(p.Others) != 6 {
		t.Errorf("%+v", p)
	}
	p = diff(t, everything(), d(), Options{Remove: true})
	if len(p.Changes) != 6 || len(p.Others) != 0 {
		t.Fatalf("%+v", p)
	}
	for _, c := range p.Changes {
		if c.Action != Remove || c.Entry == "block of @spam.test" {
			t.Errorf("%s %s", c.Action, c.Entry)
		}
	}
	if p := diff(t, everything(), parse(t, ""), Options{Remove: true}); len(p.Changes) != 0 {
		t.Errorf("an empty file: %+v", p.Changes)
	}
}

// The id stands for what is done and for what it is done to.
func TestID(t *testing.T) {
	const text = "owners: [{name: chem, external: true}]"
	first := diff(t, everything(), parse(t, text), Options{}).ID
	if same := diff(t, everything(), parse(t, text), Options{}).ID; same != first || first == "" {
		t.Errorf("%q and %q", first, same)
	}
	now := everything()
	now.Owners[0].Revision++
	if other := diff(t, now, parse(t, text), Options{}).ID; other == first {
		t.Error("the same id for another state")
	}
	if other := diff(t, everything(), parse(t, text+"\nblocks: [{subject: x@y.test}]"), Options{}).ID; other == first {
		t.Error("the same id for another change")
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"devices: [{name: a.campus.test, addresses: [192.0.2.1]}]":                                              "outside the campus networks",
		"devices: [{name: a.campus.test, addresses: [10.2.3.4]}]":                                               "10.2.3.4 belongs to prn-1.chem.campus.test",
		"credentials: [{name: x, device: absent.campus.test}]":                                                  "no device absent.campus.test",
		"devices: [{name: a.campus.test, addresses: [10.7.0.1]}, {name: b.campus.test, addresses: [10.7.0.1]}]": "belongs to b.campus.test",
	} {
		now := everything()
		now.Devices[0].State = registry.StateActive
		if p := diff(t, now, parse(t, text), Options{}); len(p.Faults) == 0 || !strings.Contains(p.Faults[0], want) {
			t.Errorf("%s: %q", text, p.Faults)
		}
	}
	// Whoever takes over an address in the same file is no rival.
	const swap = "devices: [{name: prn-1.chem.campus.test, addresses: [10.2.3.5], state: active}, {name: a.campus.test, addresses: [10.2.3.4]}]"
	if p := diff(t, everything(), parse(t, swap), Options{Ticket: "4711"}); len(p.Faults) != 0 || len(p.Changes) != 2 {
		t.Errorf("%+v", p)
	}
	// It was suspended for what only a ticket lifts (P30).
	if p := diff(t, everything(), parse(t, swap), Options{}); len(p.Faults) != 1 || !strings.Contains(p.Faults[0], "suspended for reports, which a ticket lifts only") {
		t.Errorf("%+v", p)
	}
}

func TestReadErrors(t *testing.T) {
	for text, want := range map[string]string{
		"devices: [":                             "read YAML",
		"- a":                                    "lists of entries",
		"printers: []":                           `line 1: "printers" is no kind of entry; there are owners, groups`,
		`{"printers":[]}`:                        `"printers" is no kind of entry`,
		`{"devices":{}}`:                         "read JSON",
		"devices: {}":                            "a list is expected",
		"devices:\n  - name: a.b\n  - name: a.b": "line 3, devices[1]: device a.b stands on line 2 already",
		`{"devices":[{"name":"a.b"},{"name":"A.b."}]}`:       "devices[1]: device a.b is named twice",
		"devices:\n  - nmae: a.b":                            `unknown field "nmae"`,
		"devices: [{owner: x}]":                              "no name",
		"devices: [x]":                                       "a mapping is expected",
		"devices: [{name: a}]":                               "not a fully qualified domain name",
		"devices: [{name: bücher.test}]":                     "not a fully qualified domain name",
		"devices: [{name: a.b, state: on-fire}]":             `"on-fire" is none of`,
		"devices: [{name: a.b, addresses: [0.0.0.0/0]}]":     "open relay",
		"devices: [{name: a.b, addresses: [10.2.3.4/24]}]":   "did you mean 10.2.3.0/24?",
		"devices: [{name: a.b, owner: 12}]":                  "cannot unmarshal number",
		"networks: [{range: 0.0.0.0/0, kind: campus}]":       "open relay",
		"networks: [{range: 10.0.0.0/8, kind: moon}]":        "is none of campus",
		"networks: [{range: 10.0.0.1/8, kind: campus}]":      "did you mean",
		"networks: [{kind: campus}]":                         "no name",
		"blocks: [{subject: everybody}]":                     "neither an address",
		"blocks: [{subject: '::/0'}]":                        "every address",
		"blocks: [{subject: '*@x.test'}]":                    "wildcard",
		"domains: [{name: .campus.test}]":                    "stands for many domains",
		"groups: [{name: g, members: [a@b.test, a@b.test]}]": "named twice",
		"owners: [{name: ' x'}]":                             "no name for a unit",
		"a: 1\n---\nb: 2":                                    "one document",
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("devices: [{name: a.b}]"))
	f.Add([]byte(`{"devices":[{"name":"a.b"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Read(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, d.Entries, Form{Secrets: true}); err != nil {
			t.Fatal(err)
		}
		again, err := Read(b.Bytes())
		if err != nil {
			t.Fatalf("%v:\n%s", err, b.Bytes())
		}
		if p, err := Diff(d.Entries, again, Options{AnyNetwork: true}); err != nil || len(p.Changes) > 0 {
			t.Fatalf("%v %+v:\n%s", err, p, b.Bytes())
		}
	})
}
