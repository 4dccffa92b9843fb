package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for _, test := range []struct {
		in    string
		want  time.Duration
		shown string
	}{
		{"30s", 30 * time.Second, "30s"},
		{"5m", 5 * time.Minute, "5m"},
		{"36h", 36 * time.Hour, "36h"},
		{"24h", 24 * time.Hour, "1d"},
		{"5d", 120 * time.Hour, "5d"},
		{"90m", 90 * time.Minute, "1h30m"},
		{"1h0m5s", time.Hour + 5*time.Second, "1h0m5s"},
		{"250ms", 250 * time.Millisecond, "250ms"},
		{"0", 0, "0s"},
		{" 1h ", time.Hour, "1h"},
	} {
		d, err := ParseDuration(test.in)
		if err != nil || time.Duration(d) != test.want || d.String() != test.shown {
			t.Errorf("%q: %v, %v; want %v", test.in, d, err, test.shown)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%v is not read back: %v, %v", d, again, err)
		}
	}
	for _, in := range []string{"", "d", "5", "-5m", "-1d", "1.5d", "36501d", "1d12h", "5 m", "99999999999999999999h"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q: %v, want an error", in, d)
		}
	}
}

func TestSize(t *testing.T) {
	for _, test := range []struct {
		in    string
		want  Size
		shown string
	}{
		{"0", 0, "0"},
		{"1048576", 1 << 20, "1MiB"},
		{"50MB", 50_000_000, "50MB"},
		{"50 mb", 50_000_000, "50MB"},
		{"512KiB", 512 << 10, "512KiB"},
		{"1GiB", 1 << 30, "1GiB"},
		{"7b", 7, "7"},
	} {
		z, err := ParseSize(test.in)
		if err != nil || z != test.want || z.String() != test.shown {
			t.Errorf("%q: %d (%v), %v; want %d (%s)", test.in, z, z, err, test.want, test.shown)
		}
	}
	for _, in := range []string{"", "MB", "-1", "+1", "1.5MB", "1TB", "1Mi", "010", "99999999999GB", "9223372036854775808", "5MBMB"} {
		if z, err := ParseSize(in); err == nil {
			t.Errorf("%q: %v, want an error", in, z)
		}
	}
}

func TestClosest(t *testing.T) {
	keys := []string{"tls", "relay", "certificate", "help_url", "hostname", "key", "keytab", "address", "addresses"}
	for in, want := range map[string]string{
		"tsl": "tls", "TLS": "tls", "tlss": "tls", "hostnam": "hostname", "help-url": "help_url", "helpURL": "help_url",
		"cert": "certificate", "adress": "address", "kye": "key", "address": "address",
		"x": "", "zebra": "", "addr": "", "1.4": "", strings.Repeat("a", 5000): "",
	} {
		if got := closest(in, keys); got != want {
			t.Errorf("%.20q: %q, want %q", in, got, want)
		}
	}
}

// No verb of fmt shows a credential, wherever it stands.
func TestCredentialsAreHidden(t *testing.T) {
	c, err := Parse("f.yaml", []byte(`
relay: {hostname: relay.campus.test}
bus: {url: "nats://relay:hunter2@a.test,nats://hunter2@b.test", credentials: "relay:hunter2", system_credentials: SUAhunter2}
scan: {rspamd: "http://127.0.0.1:11333/?password=hunter2"}
auth: {ldap: {url: "ldaps://ldap.test", base: "dc=test"}}
delivery: {routes: [{domain: a.test, to: "smtp://mx.a.test", credentials: "relay:hunter2"},
                    {domain: b.test, to: "smtp://mx.b.test", credentials: /etc/postrider/b}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	c.Auth.LDAP.URL = "ldaps://cn=relay:hunter2@ldap.test" // no file may have it there
	for _, value := range []any{c, *c, c.Bus, &c.Bus, c.Scan, c.Auth, c.Auth.LDAP, c.Delivery, c.Delivery.Routes, c.Warnings()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "hunter2") {
				t.Errorf("%s of %T shows it: %s", verb, value, text)
			}
		}
	}
	for _, want := range []string{"/etc/postrider/b", "ldaps://", "a.test,", "credentials: \"***\""} {
		if !strings.Contains(c.String(), want) {
			t.Errorf("%s is not shown: %s", want, c)
		}
	}
	if c.Bus.Credentials != "relay:hunter2" {
		t.Error("hiding changed the configuration")
	}
}
