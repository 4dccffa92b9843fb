package registry

import (
	"fmt"
	"net/netip"
	"testing"
)

func nearby() *Snapshot {
	return NewSnapshot(1, Entries{Devices: []*Device{
		{Name: "prn-1.chem.test", State: StateActive, Addresses: MustAddresses("10.2.3.4"), Senders: []string{"scan@chem.test"}},
		{Name: "prn-2.chem.test", State: StateActive, Addresses: MustAddresses("10.2.3.9")},
		{Name: "lab.bio.test", State: StateActive, Addresses: MustAddresses("10.2.3.64/26"), HeaderSenders: []string{"lab@bio.test"}},
		{Name: "old.bio.test", State: StateRetired, Addresses: MustAddresses("10.2.3.7")},
		{Name: "six.bio.test", State: StateActive, Addresses: MustAddresses("2001:db8::10")},
		{Name: "mapped.bio.test", State: StateActive, Addresses: MustAddresses("::ffff:10.7.0.1")},
	}})
}

func names(list []Near) (out []string) {
	for _, n := range list {
		out = append(out, n.Device.Name)
	}
	return out
}

func TestNearestAddress(t *testing.T) {
	s := nearby()
	for addr, want := range map[string]string{
		"10.2.3.5":         "[prn-1.chem.test old.bio.test prn-2.chem.test]",
		"10.2.3.8":         "[old.bio.test prn-2.chem.test prn-1.chem.test]", // as far, but 7 sorts first
		"10.2.3.7":         "[old.bio.test prn-2.chem.test prn-1.chem.test]",
		"10.2.3.130":       "[lab.bio.test prn-2.chem.test old.bio.test]",
		"::ffff:10.2.3.70": "[lab.bio.test prn-2.chem.test old.bio.test]",
		"10.2.4.5":         "[]",
		"10.7.0.2":         "[mapped.bio.test]",
		"2001:db8::1":      "[six.bio.test]",
		"2001:db8:1::1":    "[]",
	} {
		if got := fmt.Sprint(names(s.NearestAddress(netip.MustParseAddr(addr)))); got != want {
			t.Errorf("nearest to %s are %s, want %s", addr, got, want)
		}
	}
	if got := s.NearestAddress(netip.MustParseAddr("10.2.3.130"))[0]; got.Distance != 3 || got.Address.String() != "10.2.3.64/26" {
		t.Errorf("%+v", got)
	}
	if got := s.NearestAddress(netip.MustParseAddr("10.2.3.7"))[0]; got.Distance != 0 || got.Device.State != StateRetired {
		t.Errorf("%+v", got)
	}
	if got := s.NearestAddress(netip.Addr{}); got != nil {
		t.Errorf("near to no address is %v", names(got))
	}
}

func TestNearestName(t *testing.T) {
	s := nearby()
	for name, want := range map[string]string{
		"prn-3.chem.test": "[prn-1.chem.test prn-2.chem.test]",
		"PRN-1.bio.test.": "[prn-1.chem.test]",
		"prn1.chem.test":  "[prn-1.chem.test prn-2.chem.test]",
		"web.inet.test":   "[]",
		"":                "[]",
	} {
		if got := fmt.Sprint(names(s.NearestName(name))); got != want {
			t.Errorf("nearest to %q are %s, want %s", name, got, want)
		}
	}
	for sender, want := range map[string]string{"SCAN@chem.test": "[prn-1.chem.test]", "lab@bio.test": "[lab.bio.test]", "x@bio.test": "[]", "": "[]"} {
		if got := fmt.Sprint(names(s.WithSender(sender))); got != want {
			t.Errorf("with %q: %s, want %s", sender, got, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"prn-1", "prn-2", 1}, {"prn-1", "prn1", 1}, {"abc", "bcd", 2}} {
		if got := editDistance(c.a, c.b); got != c.want || editDistance(c.b, c.a) != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
