package registry

import (
	"net/netip"
	"testing"
)

func TestByAddressMostSpecific(t *testing.T) {
	wide := &Device{Name: "b.test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	narrow := &Device{Name: "a.test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.3.4/32"), netip.MustParsePrefix("::ffff:10.5.0.0/112")}}
	s := NewSnapshot(3, []*Device{wide, narrow}, nil)
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
