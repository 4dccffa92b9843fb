package registry

import (
	"net/netip"
	"strings"
	"testing"
)

// What each network says to an address, with and without another proof.
func TestMisplaced(t *testing.T) {
	var e Entries
	for kind, p := range map[Kind]string{
		KindCampus: "10.0.0.0/8", KindWorkstations: "10.1.0.0/16", KindDHCP: "10.2.0.0/16", KindResidential: "10.3.0.0/16",
		KindNAT: "10.4.0.0/16", KindCloud: "192.0.2.0/24", KindDeny: "10.5.0.0/16",
	} {
		e.Networks = append(e.Networks, &Network{Range: netip.MustParsePrefix(p), Kind: kind})
	}
	s := NewSnapshot(1, e)
	for _, c := range []struct{ address, either, both string }{
		{"10.0.0.1", "", ""},
		{"10.1.0.1", "workstations", "workstations"},                 // W2
		{"10.2.0.1", "DHCP", "DHCP"},                                 // M11
		{"10.3.0.1", "residential", "residential"},                   // P32
		{"10.4.0.1", "has to authenticate", ""},                      // P24
		{"::ffff:10.4.0.1", "has to authenticate", ""},               // mapped
		{"10.5.0.1", "has to authenticate", ""},                      // W2
		{"192.0.2.1", "has to authenticate", ""},                     // P26
		{"198.51.100.1", "outside the campus", "outside the campus"}, // M7
		{"2001:db8::1", "outside the campus", "outside the campus"},
		{"10.0.0.0/14", "DHCP", "DHCP"},      // a range that holds such addresses
		{"10.0.0.0/7", "outside", "outside"}, // one that is larger than the campus
	} {
		for proof, want := range map[Proof]string{ProofEither: c.either, "": c.either, ProofBoth: c.both, ProofCredential: c.both} {
			d := &Device{Name: "x.test", Proof: proof}
			p, err := ParseRange(c.address)
			if err != nil {
				p = netip.MustParsePrefix(c.address)
			}
			d.Addresses = []Address{{Range: p}}
			var text []string
			for _, f := range s.Misplaced(d) {
				text = append(text, f.String())
			}
			if got := strings.Join(text, "; "); (got == "") != (want == "") || !strings.Contains(got, want) {
				t.Errorf("%s with proof %q: %q, want %q", c.address, proof, got, want)
			}
		}
	}
	if f := NewSnapshot(1, Entries{}).Misplaced(&Device{Addresses: MustAddresses("198.51.100.1")}); len(f) > 0 {
		t.Errorf("no campus is known: %v", f)
	}
}

func TestFaults(t *testing.T) {
	for item, want := range map[Item]string{
		&Domain{Name: "campus.test"}: "", &Domain{Name: ".campus.test"}: "stands for many", &Domain{Name: "Campus.test"}: "is not a domain", &Domain{}: "is not a domain",
		&Domain{Name: "10.2.3.4"}: "is not a domain", &Domain{Name: "a..b"}: "is not a domain", &Domain{Name: strings.Repeat("a", 64) + ".test"}: "is not a domain",
		&Block{Subject: "10.2.3.4"}: "", &Block{Subject: "@x.test"}: "", &Block{Subject: "a@x.test"}: "", &Block{Subject: "x.test"}: "neither", &Block{Subject: "@"}: "neither", &Block{}: "neither",
		&Credential{Name: "app/x@Y"}: "", &Credential{Name: "a\x1b"}: "no name", &Credential{Name: " a"}: "no name",
		&Owner{Name: "chem", Contacts: []string{"x"}}: "contacts[0]", &Group{Name: "g", Members: []string{"a@b.test"}}: "",
		&Network{Range: netip.MustParsePrefix("10.0.0.0/8"), Kind: "moon"}: "kind", &Network{Kind: KindNAT}: "range",
	} {
		var got string
		for _, f := range item.Faults() {
			got += f.String()
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", item, got, want)
		}
	}
	for s, want := range map[string]string{"10.2.3.4/32": "10.2.3.4", "::ffff:10.2.3.4": "10.2.3.4", "A@X.test": "a@x.test", "@X.TEST.": "@x.test", "10.2.3.0/24": "10.2.3.0/24"} {
		if got := BlockSubject(s); got != want {
			t.Errorf("%s is kept as %s", s, got)
		}
	}
}
