package config

import (
	"reflect"
	"strings"
	"testing"
)

// A published list names each address once, and says what comes.
func TestPublished(t *testing.T) {
	c, err := Parse("test", []byte(`
relay:
  hostname: relay.campus.test
  addresses:
    - {address: 192.0.2.9, from: 2026-12-01}
    - {address: 192.0.2.1}
    - {address: 192.0.2.3, until: 2026-12-15}
    - {address: 192.0.2.1}
    - {address: "2001:db8::/64"}
    - {address: 192.0.2.2, until: 2026-10-01}
    - {address: 192.0.2.1}
`))
	if err != nil {
		t.Fatal(err)
	}
	list := c.Relay.Published("2026-11-06")
	var names []string
	for _, a := range list {
		names = append(names, a.Address)
	}
	if got := strings.Join(names, " "); got != "192.0.2.1 192.0.2.3 192.0.2.9 2001:db8::/64" {
		t.Errorf("%s", got)
	}
	for today, want := range map[string]*AddressChange{
		"2026-11-06": {Day: "2026-12-01", Begins: []string{"192.0.2.9"}},
		"2026-12-01": {Day: "2026-12-16", Ends: []string{"192.0.2.3"}},
		"2026-12-16": nil,
	} {
		if got := NextChange(c.Relay.Published(today), today); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", today, got)
		}
	}
	if VersionOf(list) != VersionOf(c.Relay.Published("2026-11-30")) || VersionOf(list) == VersionOf(c.Relay.Published("2026-12-16")) {
		t.Error("a version is that of its list")
	}
	for text, want := range map[string]string{
		"{address: relay}":                                              "neither an address nor a range",
		"{address: 192.0.2.1, from: soon}":                              "not a day",
		"{address: 192.0.2.1, from: 2026-12-02, until: 2026-12-01}":     "before its first day",
		"{address: 192.0.2.1}, {address: 192.0.2.1, until: 2026-12-01}": "different days",
	} {
		if _, err := Parse("test", []byte("relay: {hostname: relay.campus.test, addresses: ["+text+"]}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
