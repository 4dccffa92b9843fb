package delivery

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/shared/config"
)

func rulesOf(t *testing.T, change func(*config.Config)) *Rules {
	t.Helper()
	c := config.Defaults()
	change(c)
	r, err := NewRules(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNextHop(t *testing.T) {
	r := rulesOf(t, func(c *config.Config) {
		c.Domains.Hosted = []config.Hosted{
			{Name: "campus.test", Route: "smtp+verify://mx.campus.test:25"},
			{Name: "plain.campus.test"},
		}
		c.Delivery.Routes = []config.Route{
			{Domain: "partner.test", To: "smtp://gw.partner.test:587"},
			{Domain: ".partner.test", To: "smtp+starttls://sub.partner.test"},
			{Domain: ".deep.partner.test", To: "smtps://[2001:db8::1]"},
			{Domain: "store.test", To: "lmtp://127.0.0.1:2424"},
		}
		c.Delivery.RequireTLS = []config.RequireTLS{
			{Domain: "partner.test", Level: config.TLSVerify},
			{Domain: "campus.test", Level: config.TLSEncrypt},
			{Domain: ".health.test", Level: config.TLSDANE},
			{Domain: "store.test", Level: config.TLSEncrypt},
		}
	})
	for _, tt := range []struct {
		destination string
		want        NextHop
	}{
		{"other.test", NextHop{Port: 25}},
		{"campus.test", NextHop{Host: "mx.campus.test", Port: 25, Routed: true, TLS: LevelVerify}}, // never lowered
		{"plain.campus.test", NextHop{Port: 25}},
		{"partner.test", NextHop{Host: "gw.partner.test", Port: 587, Routed: true, TLS: LevelVerify}}, // raised
		{"a.partner.test", NextHop{Host: "sub.partner.test", Port: 25, Routed: true, TLS: LevelEncrypt}},
		{"A.deep.Partner.test", NextHop{Host: "2001:db8::1", Port: 465, Routed: true, TLS: LevelVerify, ImplicitTLS: true}},
		{"health.test", NextHop{Port: 25}},
		{"x.y.health.test", NextHop{Port: 25, TLS: LevelDANE}},
		{"store.test", NextHop{Host: "127.0.0.1", Port: 2424, Routed: true, LMTP: true, TLS: LevelEncrypt}},
		{"[192.0.2.1]", NextHop{Host: "192.0.2.1", Port: 25}},
		{"[IPv6:2001:db8::7]", NextHop{Host: "2001:db8::7", Port: 25}},
	} {
		tt.want.Destination = tt.destination
		if got, ok := r.NextHop(tt.destination); !ok || got != tt.want {
			t.Errorf("NextHop(%s)\n got %+v %v\nwant %+v", tt.destination, got, ok, tt.want)
		}
	}
}

func TestNextHopOfSandbox(t *testing.T) {
	closed := rulesOf(t, func(c *config.Config) { c.Sandbox = true })
	for _, d := range []string{"any.test", "[192.0.2.1]"} {
		if hop, ok := closed.NextHop(d); ok {
			t.Errorf("%s leaves the sandbox for %v", d, hop)
		}
	}
	mailbox := rulesOf(t, func(c *config.Config) {
		c.Sandbox = true
		c.Delivery.Routes = []config.Route{{Domain: "*", To: "smtp://127.0.0.1:2599"}}
	})
	for _, d := range []string{"any.test", "sub.any.test", "[192.0.2.1]"} {
		if hop, ok := mailbox.NextHop(d); !ok || hop.Host != "127.0.0.1" || hop.Port != 2599 {
			t.Errorf("%s goes to %v, %v", d, hop, ok)
		}
	}
}

func TestRouteCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("relay:pass:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, user, password string }{
		{"", "", ""}, {"u:p", "u", "p"}, {"u:p:q", "u", "p:q"}, {file, "relay", "pass:word"},
	} {
		got, err := credential(tt.in)
		if err != nil || got.User != tt.user || got.Password != tt.password {
			t.Errorf("credential(%q) = %v, %v", tt.in, got, err)
		}
	}
	for _, bad := range []string{"nothing", ":p", filepath.Join(t.TempDir(), "missing")} {
		if _, err := credential(bad); err == nil {
			t.Errorf("credential(%q) accepted", bad)
		}
	}
}
