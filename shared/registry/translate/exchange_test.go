package translate

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

func exchange1(t *testing.T, name, text string, o Options) *Result {
	t.Helper()
	r, err := Exchange(name, strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func export(t *testing.T, form string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/exchange/connectors." + form)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func entries(t *testing.T, r *Result) string {
	t.Helper()
	text, err := json.MarshalIndent([]any{r.Entries, r.Hints}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExchange: the four forms of one export say the same.
func TestExchange(t *testing.T) {
	r := exchange1(t, "connectors.xml", export(t, "xml"), Options{})
	golden(t, "testdata/exchange.golden", printed(r))
	if _, err := config.Parse("fragment", []byte(r.Hints.YAML())); err != nil {
		t.Errorf("the fragment: %v", err)
	}
	for _, form := range []string{"json", "csv", "txt"} {
		if other := exchange1(t, "connectors."+form, export(t, form), Options{}); entries(t, other) != entries(t, r) {
			t.Errorf("%s gives\n%s, want\n%s", form, entries(t, other), entries(t, r))
		}
	}
	var utf16LE []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + export(t, "csv"))) {
		utf16LE = binary.LittleEndian.AppendUint16(utf16LE, unit)
	}
	if other := exchange1(t, "connectors.csv", string(utf16LE), Options{}); entries(t, other) != entries(t, r) {
		t.Error("UTF-16 is read otherwise")
	}
	// The narrowest range decides, whatever the prefixes that it is made of.
	s := registry.NewSnapshot(1, r.Entries)
	for address, scope := range map[string]registry.Scope{
		"10.2.3.4": registry.ScopeAnywhere, "10.2.3.10": registry.ScopeAnywhere, "10.2.3.17": registry.ScopeAnywhere,
		"10.7.0.1": registry.ScopeAnywhere, "10.7.7.7": registry.ScopeHosted, "10.2.3.9": "", "10.2.3.18": "", "10.8.0.0": "",
	} {
		d, ok := s.ByAddress(netip.MustParseAddr(address))
		if ok != (scope != "") || ok && d.Scope != scope {
			t.Errorf("%s has %+v, want scope %q", address, d, scope)
		}
	}
	if !s.KindsOf(netip.MustParseAddr("10.2.3.9")).Has(registry.KindCampus) {
		t.Error("the anonymous range is no campus")
	}
}

// TestNarrowest: of two ranges that are not made of whole prefixes, that with
// fewer addresses decides.
func TestNarrowest(t *testing.T) {
	r := exchange1(t, "c.json", `[
		{"Name": "wide", "AuthMechanism": 32, "PermissionGroups": 4, "RemoteIPRanges": ["10.0.0.1-10.0.0.254"]},
		{"Name": "narrow", "AuthMechanism": 0, "PermissionGroups": 1, "RemoteIPRanges": ["10.0.0.0-10.0.0.3"]}]`, Options{Domain: "x.test"})
	s := registry.NewSnapshot(1, r.Entries)
	for last, want := range []registry.Scope{registry.ScopeHosted, registry.ScopeHosted, registry.ScopeHosted, registry.ScopeHosted, registry.ScopeAnywhere} {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(last)})
		d, ok := s.ByAddress(a)
		if got := s.KindsOf(a).Has(registry.KindCampus); ok && d.Scope != want || !ok && (want != registry.ScopeHosted || !got) {
			t.Errorf("%s has %+v, want %s", a, d, want)
		}
	}
}

func TestExchangeUntranslated(t *testing.T) {
	all := `[{"Name": "Default", "AuthMechanism": 0, "PermissionGroups": 1, "RemoteIPRanges": ["0.0.0.0-255.255.255.255"], "Fqdn": "m.x.test"},
		{"Name": "Anon", "AuthMechanism": 0, "PermissionGroups": "AnonymousUsers", "RemoteIPRanges": ["10.1.1.1"], "RequireTLS": true, "NewThing": 7, "MessageRateLimit": "600"},
		{"Name": "Off", "Enabled": false, "RemoteIPRanges": ["10.1.1.2"]}]`
	r := exchange1(t, "c.json", all, Options{})
	text := printed(r)
	for _, want := range []string{
		"every address may send to the accepted domains there", "concerns: unnamed", `import again with --anywhere "Anon"`, "clients without TLS are refused there",
		"Anon: NewThing: 7\n    untranslated: nothing here corresponds", "the connector is switched off", "a limit by the minute", "postrider domain add",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no row says %q:\n%s", want, text)
		}
	}
	if len(r.Entries.Devices) != 1 || r.Entries.Devices[0].Scope != registry.ScopeHosted {
		t.Errorf("devices: %s", entries(t, r))
	}
	if r := exchange1(t, "c.json", all, Options{Anywhere: []string{"anon"}}); r.Entries.Devices[0].Scope != registry.ScopeAnywhere {
		t.Error("--anywhere changes nothing")
	}
	// What the export has lost.
	cut := exchange1(t, "c.txt", "Name : A\nFqdn : m.x.test\nAuthMechanism : None\nPermissionGroups : AnonymousUsers\nRemoteIPRanges : {10.1.1.1, 10.1.1.2, 10.1.1.3...}\n", Options{})
	if !strings.Contains(printed(cut), "the export shows only a part of the ranges") || len(cut.Entries.Devices) != 3 {
		t.Errorf("a list that is cut off:\n%s", printed(cut))
	}
	lost := exchange1(t, "c.csv", "Name,RemoteIPRanges,Fqdn\nA,Microsoft.Exchange.Data.MultiValuedProperty`1[Microsoft.Exchange.Data.IPRange],m.x.test\n", Options{})
	if !strings.Contains(printed(lost), "the export shows only a part of the ranges, or none") {
		t.Errorf("a list that is lost:\n%s", printed(lost))
	}
	for _, text := range []string{"", "{}", "[1]", "<Objs/>", "<a><b>", "hello", "[{\"Name\": 1}]", "\xff\xfe\x00", "a,b\n1,2\n", strings.Repeat("<a>", 1000), strings.Repeat("[", 5000)} {
		if _, err := Exchange("x", strings.NewReader(text), Options{}); err == nil {
			t.Errorf("%.20q is read", text)
		}
	}
	if _, err := Exchange("x", strings.NewReader(`[{"RemoteIPRanges": ["10.1.1.1"]}]`), Options{}); err == nil {
		t.Error("a name is made up in no domain")
	}
}

// A range is exactly its prefixes, and there is no shorter list of them.
func TestRanges(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1/32", "10.0.0.0-10.0.0.255": "10.0.0.0/24", "10.0.0.1-10.0.0.6": "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32",
		"10.1.2.3/24": "10.1.2.0/24", "10.0.0.0/255.255.255.0": "10.0.0.0/24", "0.0.0.0-255.255.255.255": "0.0.0.0/0",
		"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "::/0", "255.255.255.254-255.255.255.255": "255.255.255.254/31", "2001:db8::1-2001:db8::2": "2001:db8::1/128 2001:db8::2/128",
	} {
		a, err := parseRange(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, p := range a.prefixes() {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is %v, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "-", "10.0.0.5-10.0.0.1", "10.0.0.1-::1", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "host"} {
		if _, err := parseRange(text); err == nil {
			t.Errorf("%q is a range", text)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		low, high := r.IntN(1<<12), r.IntN(1<<12)
		if low > high {
			low, high = high, low
		}
		at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
		prefixes := addresses{at(low), at(high)}.prefixes()
		for n := range 1 << 12 {
			in := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(at(n)) })
			if in != (low <= n && n <= high) {
				t.Fatalf("%s-%s is %v", at(low), at(high), prefixes)
			}
		}
	}
}
