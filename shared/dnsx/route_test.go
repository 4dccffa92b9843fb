package dnsx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/smtp"
)

func TestHosts(t *testing.T) {
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "many.test MX %d h%d.test\n", 1000-i, i)
	}
	s := dnstest.Start(t, campus, many.String(), `
		null.test      MX 0 .
		null5.test     MX 5 .
		nulls.test     MX 0 .
		nulls.test     MX 1 .
		both.test      MX 0 .
		both.test      MX 10 mx.both.test
		plain.test     A 192.0.2.9
		plain6.test    AAAA 2001:db8::9
		alias.test     CNAME plain.test
		mxalias.test   CNAME campus.test
		dangling.test  CNAME nowhere.test
		texts.test     TXT "no mail"
		numbers.test   MX 10 192.0.2.1.
		servfail.test  MX 10 mx1.campus.test
		servfail.test  A 192.0.2.9
		half.test      A 192.0.2.9
		halves.test    A 192.0.2.9
		local.test     MX 10 localhost
		cname.test     MX 10 www.campus.test
	`)
	s.Fail("servfail.test", dnstest.ServFail)
	s.Fail("refused.test", dnstest.Refused)
	s.Fail("half.test", dnstest.ServFail, "AAAA")
	s.Fail("halves.test", dnstest.ServFail, "A")
	s.Fail("lame.test", dnstest.Lame)
	r := open(t, Config{Servers: []string{s.Addr()}})
	for _, tt := range []struct {
		domain string
		want   string // the names in order
		reply  smtp.Reply
	}{
		{"campus.test", "[mx1.campus.test mx2.campus.test]", smtp.Reply{}},
		{"Campus.TEST", "[mx1.campus.test mx2.campus.test]", smtp.Reply{}},
		{"münchen.test", "[mx1.campus.test]", smtp.Reply{}},
		{"mxalias.test", "[mx1.campus.test mx2.campus.test]", smtp.Reply{}},
		{"both.test", "[mx.both.test]", smtp.Reply{}},
		{"plain.test", "[plain.test implicit]", smtp.Reply{}},
		{"plain6.test", "[plain6.test implicit]", smtp.Reply{}},
		{"alias.test", "[alias.test implicit]", smtp.Reply{}},
		{"half.test", "[half.test implicit]", smtp.Reply{}},
		{"local.test", "[localhost]", smtp.Reply{}},
		{"cname.test", "[www.campus.test]", smtp.Reply{}},
		{"null.test", "", smtp.ReplyNullMX},
		{"null5.test", "", smtp.ReplyNullMX},
		{"nulls.test", "", smtp.ReplyNullMX},
		{"nowhere.test", "", smtp.ReplyNoSuchDomain},
		{"dangling.test", "", smtp.ReplyNoSuchDomain},
		{"a..b", "", smtp.ReplyNoSuchDomain},
		{"192.0.2.1", "", smtp.ReplyNoSuchDomain},
		{"texts.test", "", smtp.ReplyNoRoute},
		{"numbers.test", "", smtp.ReplyNoRoute},
		{"servfail.test", "", smtp.ReplyDNSTrouble},
		{"halves.test", "", smtp.ReplyDNSTrouble},
		{"refused.test", "", smtp.ReplyDNSTrouble},
		{"lame.test", "", smtp.ReplyDNSTrouble},
		{"loop.campus.test", "", smtp.ReplyDNSTrouble},
	} {
		hosts, err := r.Hosts(t.Context(), tt.domain, nil)
		var refusal *smtp.Error
		errors.As(err, &refusal)
		switch {
		case tt.want != "" && (err != nil || fmt.Sprint(words(hosts)) != tt.want):
			t.Errorf("%s: %v, %v; want %s", tt.domain, words(hosts), err, tt.want)
		case tt.want == "" && (refusal == nil || refusal.Reply != tt.reply || len(hosts) != 0):
			t.Errorf("%s: %v, %v; want %s", tt.domain, words(hosts), err, tt.reply)
		}
	}
	hosts, err := r.Hosts(t.Context(), "many.test", nil)
	if err != nil || len(hosts) != MaxHosts || hosts[0].Name != "h999.test" || hosts[MaxHosts-1].Preference != MaxHosts {
		t.Errorf("1000 MX: %v, %v", words(hosts), err)
	}
	// MX trouble is never covered up by an address.
	if n := s.Queries("servfail.test", "A"); n != 0 {
		t.Errorf("the address was asked for after SERVFAIL, %d times", n)
	}
}

func TestHostsAuthentic(t *testing.T) {
	s := dnstest.Start(t, campus, "plain.test A 192.0.2.9")
	s.SetAuthentic(true)
	r := open(t, Config{Servers: []string{s.Addr()}})
	for _, domain := range []string{"campus.test", "plain.test"} {
		hosts, err := r.Hosts(t.Context(), domain, nil)
		if err != nil || !hosts[0].Authentic {
			t.Errorf("%s: %+v, %v", domain, hosts, err)
		}
	}
}

// An address vouched for does not make up for the absence of MX that is not.
func TestImplicitMXNeedsAnAuthenticNo(t *testing.T) {
	s := dnstest.Start(t, "plain.test A 192.0.2.9")
	r := open(t, Config{Servers: []string{s.Addr()}})
	if _, err := r.MX(t.Context(), "plain.test"); !errors.Is(err, ErrNoData) {
		t.Fatal(err)
	}
	s.SetAuthentic(true)
	hosts, err := r.Hosts(t.Context(), "plain.test", nil)
	if err != nil || hosts[0].Authentic {
		t.Errorf("got %+v, %v", hosts, err)
	}
	if a, err := r.Addrs(t.Context(), "plain.test"); err != nil || !a.Authentic {
		t.Errorf("the address: %+v, %v", a, err)
	}
}

func words(hosts []Host) []string {
	var out []string
	for _, h := range hosts {
		name := h.Name
		if h.Implicit {
			name += " implicit"
		}
		out = append(out, name)
	}
	return out
}

func TestRouteIsOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) MX {
			return MX{
				Host:       rapid.SampledFrom([]string{".", "a.test", "b.test", "c.test", "d.test", "e.test"}).Draw(t, "host"),
				Preference: uint16(rapid.IntRange(0, 3).Draw(t, "preference")),
			}
		}), 0, 30).Draw(t, "records")
		hosts, err := Route(records, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))

		best := map[string]uint16{}
		for _, mx := range records {
			if p, ok := best[mx.Host]; mx.Host != "." && (!ok || mx.Preference < p) {
				best[mx.Host] = mx.Preference
			}
		}
		if (err != nil) != (len(best) == 0) || len(hosts) != len(best) {
			t.Fatalf("%d hosts of %d, %v", len(hosts), len(best), err)
		}
		for i, h := range hosts {
			if i > 0 && hosts[i-1].Preference > h.Preference {
				t.Fatalf("not in order: %v", hosts)
			}
			if p, ok := best[h.Name]; !ok || p != h.Preference {
				t.Fatalf("%s with preference %d, want %d", h.Name, h.Preference, p)
			}
			delete(best, h.Name)
		}
	})
}

func TestEqualsShareTheLoad(t *testing.T) {
	records := []MX{{"a.test", 10}, {"b.test", 10}, {"c.test", 10}, {"d.test", 20}}
	rng := rand.New(rand.NewPCG(1, 2))
	first := map[string]int{}
	for range 3000 {
		hosts, err := Route(records, rng)
		if err != nil || hosts[3].Name != "d.test" {
			t.Fatalf("%v, %v", hosts, err)
		}
		first[hosts[0].Name]++
	}
	for _, name := range []string{"a.test", "b.test", "c.test"} {
		if n := first[name]; n < 900 || n > 1100 {
			t.Errorf("%s came first %d times of 3000", name, n)
		}
	}
	if !slices.Equal(records, []MX{{"a.test", 10}, {"b.test", 10}, {"c.test", 10}, {"d.test", 20}}) {
		t.Error("Route changed its argument")
	}
}
