package delivery

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/smtp"
)

func resolve(t *testing.T, server *dnstest.Server) *dnsx.Resolver {
	t.Helper()
	r, err := dnsx.New(dnsx.Config{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestTargets(t *testing.T) {
	server := dnstest.Start(t, `
		two.test       MX 20 b.two.test
		two.test       MX 10 a.two.test
		a.two.test     AAAA 2001:db8::1
		a.two.test     AAAA 2001:db8::2
		a.two.test     A 192.0.2.1
		b.two.test     A 192.0.2.2
		implicit.test  A 192.0.2.3
		null.test      MX 0 .
		empty.test     TXT x
		name.test      MX 10 first.test
		name.test      MX 20 relay.campus.test
		name.test      MX 30 last.test
		first.test     A 192.0.2.4
		last.test      A 192.0.2.5
		best.test      MX 10 RELAY.campus.test
		best.test      MX 10 last.test
		address.test   MX 10 first.test
		address.test   MX 20 ours.test
		address.test   MX 20 last.test
		ours.test      A 192.0.2.99
		local.test     MX 10 loop.test
		loop.test      A 127.0.0.1
		cloud.test     MX 10 meta.test
		cloud.test     MX 20 first.test
		meta.test      A 169.254.169.254
		gone.test      MX 10 missing.gone.test
		half.test      MX 10 missing.half.test
		half.test      MX 20 first.test
		broken.test    MX 10 servfail.test
	`)
	server.Fail("servfail.test", dnstest.ServFail)
	server.Fail("down.test", dnstest.ServFail)
	self := self{name: "relay.campus.test", local: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.99"): true},
		listeners: []netip.AddrPort{netip.MustParseAddrPort("[::]:25"), netip.MustParseAddrPort("127.0.0.1:2525")}}
	f := &finder{dns: resolve(t, server), self: self, avoid: newAiling()}
	for _, tt := range []struct {
		hop  NextHop
		want string
	}{
		{NextHop{Destination: "two.test", Port: 25}, "a.two.test [2001:db8::1]; a.two.test [192.0.2.1]; a.two.test [2001:db8::2]; b.two.test [192.0.2.2]"},
		{NextHop{Destination: "implicit.test", Port: 25}, "implicit.test [192.0.2.3]"},
		{NextHop{Destination: "null.test", Port: 25}, "556"},
		{NextHop{Destination: "no.such.test", Port: 25}, "550"},
		{NextHop{Destination: "empty.test", Port: 25}, "550"},
		{NextHop{Destination: "down.test", Port: 25}, "451"},
		{NextHop{Destination: "name.test", Port: 25}, "first.test [192.0.2.4]"},
		{NextHop{Destination: "best.test", Port: 25}, "554"},
		{NextHop{Destination: "address.test", Port: 25}, "first.test [192.0.2.4]; 554"},
		{NextHop{Destination: "local.test", Port: 25}, "554"},
		{NextHop{Destination: "local.test", Port: 26}, "loop.test [127.0.0.1]"},
		{NextHop{Destination: "cloud.test", Port: 25}, "550; first.test [192.0.2.4]"},
		{NextHop{Destination: "gone.test", Port: 25}, "550"},
		{NextHop{Destination: "half.test", Port: 25}, "550; first.test [192.0.2.4]"},
		{NextHop{Destination: "broken.test", Port: 25}, "451"},
		{NextHop{Destination: "x.test", Host: "first.test", Port: 587, Routed: true}, "first.test [192.0.2.4]"},
		{NextHop{Destination: "x.test", Host: "127.0.0.1", Port: 2599, Routed: true}, "[127.0.0.1]"},
		{NextHop{Destination: "x.test", Host: "127.0.0.1", Port: 2525, Routed: true}, "451"},
		{NextHop{Destination: "x.test", Host: "no.such.test", Port: 25, Routed: true}, "451"},
		{NextHop{Destination: "[127.0.0.1]", Host: "127.0.0.1", Port: 25}, "554"},
		{NextHop{Destination: "[192.0.2.1]", Host: "192.0.2.1", Port: 25}, "[192.0.2.1]"},
	} {
		var got []string
		for target, err := range f.targets(t.Context(), tt.hop) {
			if err != nil {
				got = append(got, smtp.ReplyOf(err, smtp.Reply{Code: 999}).String()[:3])
				continue
			}
			got = append(got, target.mta())
		}
		if s := strings.Join(got, "; "); s != tt.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tt.hop.Destination, tt.hop, s, tt.want)
		}
	}
}

func TestAilingAddressesComeLast(t *testing.T) {
	a := newAiling()
	list := func() []target {
		return []target{{"a", netip.MustParseAddrPort("192.0.2.1:25")}, {"b", netip.MustParseAddrPort("192.0.2.2:25")}}
	}
	a.add(list()[0].addr)
	if got := a.last(list()); got[0].host != "b" || got[1].host != "a" {
		t.Errorf("%v", got)
	}
	a.remove(list()[0].addr)
	if got := a.last(list()); !slices.Equal(got, list()) {
		t.Errorf("%v", got)
	}
}

func TestSelf(t *testing.T) {
	c := config.Defaults()
	c.Listeners = []config.Listener{{Address: ":25"}, {Address: "192.0.2.7:587"}, {Address: "127.0.0.1:0"}}
	s := newSelf(c)
	for addr, want := range map[string]bool{
		"127.0.0.1:25": true, "127.9.9.9:25": true, "[::1]:25": true, "[::ffff:127.0.0.1]:25": true,
		"198.51.100.1:25": false, "192.0.2.7:587": true, "127.0.0.1:587": false, "127.0.0.1:2525": false,
	} {
		if got := s.listens(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("listens(%s) = %v", addr, got)
		}
	}
}

func TestSourceAddresses(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	d := dialer{sources: []netip.Addr{v4}}
	if from, err := d.source(netip.MustParseAddr("192.0.2.9")); err != nil || from.String() != "192.0.2.1:0" {
		t.Errorf("%v %v", from, err)
	}
	if _, err := d.source(v6); err == nil {
		t.Error("mail left from an address that may not send")
	}
	if from, err := d.source(netip.MustParseAddr("::1")); err != nil || from != nil {
		t.Errorf("%v %v", from, err)
	}
}
