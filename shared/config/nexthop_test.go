package config

import (
	"strings"
	"testing"
)

func TestParseNextHop(t *testing.T) {
	for _, test := range []struct{ in, want, address string }{
		{"smtp://mx.campus.test:25", "smtp://mx.campus.test:25", "mx.campus.test:25"},
		{"smtp://mx.campus.test", "smtp://mx.campus.test:25", "mx.campus.test:25"},
		{"SMTP+Verify://MX.Campus.TEST.:587/", "smtp+verify://mx.campus.test:587", "mx.campus.test:587"},
		{"smtp+starttls://192.0.2.1", "smtp+starttls://192.0.2.1:25", "192.0.2.1:25"},
		{"smtps://mx.campus.test", "smtps://mx.campus.test:465", "mx.campus.test:465"},
		{"lmtp://localhost", "lmtp://localhost:24", "localhost:24"},
		{"lmtp://[2001:DB8::25]", "lmtp://[2001:db8::25]:24", "[2001:db8::25]:24"},
		{"smtp://[::1]:2525", "smtp://[::1]:2525", "[::1]:2525"},
		{"smtp://mx_sink:2525", "smtp://mx_sink:2525", "mx_sink:2525"},
		{"smtp://bücher.example", "smtp://xn--bcher-kva.example:25", "xn--bcher-kva.example:25"},
	} {
		hop, err := ParseNextHop(test.in)
		if err != nil || hop.String() != test.want || hop.Address() != test.address {
			t.Errorf("%s: %v (%s), %v; want %s (%s)", test.in, hop, hop.Address(), err, test.want, test.address)
			continue
		}
		if again, err := ParseNextHop(hop.String()); err != nil || again != hop {
			t.Errorf("%s is not read back: %v, %v", hop, again, err)
		}
	}
}

func TestParseNextHopRefuses(t *testing.T) {
	for _, test := range []struct{ in, says string }{
		{"", "not a next hop"},
		{"mx.campus.test:25", "not a next hop"},
		{"http://mx.campus.test", "none of the schemes"},
		{"smtp+verfy://mx.campus.test", `did you mean "smtp+verify"?`},
		{"smtp://relay:hunter2@mx.campus.test", "no credentials"},
		{"smtp://", "not a domain name"},
		{"smtp://:25", "not a domain name"},
		{"smtp://mx.campus.test:", "not a port"},
		{"smtp://mx.campus.test:0", "not a port"},
		{"smtp://mx.campus.test:65536", "not a port"},
		{"smtp://mx.campus.test:025", "not a port"},
		{"smtp://mx.campus.test/path", "not a domain name"},
		{"smtp://mx.campus.test?a=b", "not a domain name"},
		{"smtp://2001:db8::25", "in brackets"},
		{"smtp://2001:db8::x:25", "in brackets"},
		{"smtp://[192.0.2.1]", "not an IPv6 address"},
		{"smtp://[::1", "not a"},
		{"smtp://[fe80::1%eth0]:25", "not a domain name"},
		{"smtp://192.0.2", "not a domain name"},
		{"smtp://-mx.test", "not a domain name"},
		{"smtp://mx..test", "not a domain name"},
		{"smtp://mx.test\r\nRCPT TO:<x>", "not a port"},
	} {
		hop, err := ParseNextHop(test.in)
		if err == nil {
			t.Errorf("%q: %v, want an error", test.in, hop)
			continue
		}
		if !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %q, want %q", test.in, err, test.says)
		}
	}
}

func FuzzParseNextHop(f *testing.F) {
	for _, s := range []string{"smtp://mx.campus.test:25", "lmtp://[::1]", "smtps://bücher.example", "smtp://192.0.2.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hop, err := ParseNextHop(s)
		if err != nil {
			return
		}
		if hop.Port < 1 || hop.Port > 65535 || hop.Host == "" || strings.ContainsAny(hop.Host, " \r\n@/[]") {
			t.Fatalf("%q gave %+v", s, hop)
		}
		if again, err := ParseNextHop(hop.String()); err != nil || again != hop {
			t.Fatalf("%q: %v is not read back: %v, %v", s, hop, again, err)
		}
	})
}
