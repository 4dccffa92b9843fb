package registry

import (
	"net/netip"
	"testing"
)

func TestByAddressMostSpecific(t *testing.T) {
	wide := &Device{Name: "b.test", Addresses: MustAddresses("10.0.0.0/8")}
	narrow := &Device{Name: "a.test", Addresses: MustAddresses("10.2.3.4/32", "::ffff:10.5.0.0/112")}
	s := NewSnapshot(3, Entries{Devices: []*Device{wide, narrow}})
	for addr, want := range map[string]string{
		"10.2.3.4": "a.test", "10.2.3.5": "b.test", "::ffff:10.2.3.4": "a.test", "10.5.7.7": "a.test", "192.0.2.1": "",
	} {
		got := ""
		if d, ok := s.ByAddress(netip.MustParseAddr(addr)); ok {
			got = d.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	secret := NewSecret()
	hash := HashSecret(secret)
	if !CheckSecret(hash, secret) || CheckSecret(hash, secret+"x") || CheckSecret("", "") || CheckSecret("$argon2id$v=19$m=1,t=0,p=1$$", "") {
		t.Error("wrong answer")
	}
	if HashSecret(secret) == hash {
		t.Error("no salt")
	}
}

// A request, or a registration that ended, takes nothing from the device that
// has the address, however it is called and however narrow its range.
func TestOnlyApprovedDevicesHaveAddresses(t *testing.T) {
	devices := []*Device{
		{Name: "m.test", State: StateActive, Addresses: MustAddresses("10.2.3.4/32")},
		{Name: "fleet.test", State: StateActive, Addresses: MustAddresses("10.8.0.0/16")},
		{Name: "a.test", State: StateRequested, Addresses: MustAddresses("10.2.3.4/32")},
		{Name: "b.test", State: StateRetired, Addresses: MustAddresses("10.8.0.1/32")},
		{Name: "c.test", State: StateRequested, Addresses: MustAddresses("10.9.0.1/32")},
		{Name: "d.test", State: StateSuspended, Addresses: MustAddresses("10.8.0.2/32")},
	}
	s := NewSnapshot(1, Entries{Devices: devices})
	for addr, want := range map[string]string{"10.2.3.4": "m.test", "10.8.0.1": "fleet.test", "10.9.0.1": "", "10.8.0.2": "d.test"} {
		got := ""
		if d, ok := s.ByAddress(netip.MustParseAddr(addr)); ok {
			got = d.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
	for i, want := range []string{"", "", "m.test", "", "", ""} {
		got := ""
		if d, ok := s.Rival(devices[i]); ok {
			got = d.Name
		}
		if got != want {
			t.Errorf("rival of %s is %q, want %q", devices[i].Name, got, want)
		}
	}
}

func TestCheckOfLimitsAndQuirks(t *testing.T) {
	good := Device{Name: "d.test", Scope: ScopeAnywhere, Class: "default", State: StateActive}
	for want, change := range map[string]func(*Device){
		"":              func(d *Device) { d.Limits.Size = 150_000_000; d.Quirks = Quirks{From: "a@b.test", Domain: "b.test"} },
		"limits.size":   func(d *Device) { d.Limits.Size = 150_000_001 },
		"quirks.domain": func(d *Device) { d.Quirks.Domain = "@b.test" },
		"quirks.from":   func(d *Device) { d.Quirks.From = "b.test" },
	} {
		d := good
		change(&d)
		got := ""
		for _, f := range d.Check() {
			got += f.Field
		}
		if got != want {
			t.Errorf("faults in %q, want %q", got, want)
		}
	}
}
