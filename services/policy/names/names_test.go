package names

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/timetest"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const zone = `
prn.campus.test.               60 IN A   10.1.1.1
1.1.1.10.in-addr.arpa.         60 IN PTR prn.campus.test.
wrong.campus.test.             60 IN A   10.1.1.2
2.1.1.10.in-addr.arpa.         60 IN PTR other.campus.test.
moves.campus.test.             60 IN A   10.1.1.3
moves.campus.test.             60 IN A   192.0.2.9
moves.campus.test.             60 IN A   10.9.1.1
3.1.1.10.in-addr.arpa.         60 IN PTR moves.campus.test.
`

type rig struct {
	*Names
	t   *testing.T
	dns *dnstest.Server
}

// startRig has three devices, one of which follows the DNS.
func startRig(t *testing.T) *rig {
	t.Helper()
	bus := queuetest.Start(t)
	r := &rig{t: t, dns: dnstest.Start(t, zone)}
	network := func(s string, k registry.Kind) *registry.Network {
		return &registry.Network{Range: netip.MustParsePrefix(s), Kind: k}
	}
	file := registry.Entries{
		Networks: []*registry.Network{network("10.0.0.0/8", registry.KindCampus), network("10.9.0.0/16", registry.KindWorkstations)},
		Devices: []*registry.Device{
			{Name: "prn.campus.test", State: registry.StateActive, Scope: registry.ScopeAnywhere, Addresses: registry.MustAddresses("10.1.1.1")},
			{Name: "wrong.campus.test", State: registry.StateActive, Scope: registry.ScopeAnywhere, Addresses: registry.MustAddresses("10.1.1.2")},
			{Name: "moves.campus.test", State: registry.StateActive, Scope: registry.ScopeAnywhere, FollowDNS: true},
		},
	}
	reg, err := store.Open(t.Context(), bus, file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- reg.Follow(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	r.Names = &Names{Bus: bus, Registry: reg, Log: queuetest.Log(t), Instance: "test", Confirm: true}
	r.ask()
	return r
}

// ask begins with a resolver that has no answers yet.
func (r *rig) ask() {
	r.t.Helper()
	resolver, err := dnsx.New(dnsx.Config{Servers: []string{r.dns.Addr()}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(resolver.Close)
	r.DNS = resolver
}

func (r *rig) roundAt(after time.Duration) {
	r.t.Helper()
	if err := r.Round(r.t.Context(), start.Add(after)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) await(what string, good func(*registry.Snapshot) bool) {
	r.t.Helper()
	timetest.Await(r.t, what, func() bool { return good(r.Registry.Snapshot()) })
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestRounds(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.roundAt(0)
	r.await("every device was asked about", func(s *registry.Snapshot) bool { return len(s.Entries().Resolutions) == 3 })
	s := r.Registry.Snapshot()
	if name, at, ok := s.Confirmed(addr("10.1.1.1"), time.Hour, start); !ok || name != "prn.campus.test" || !at.Equal(start) {
		t.Errorf("prn: %q %s %v", name, at, ok)
	}
	if _, _, ok := s.Confirmed(addr("10.1.1.2"), time.Hour, start); ok {
		t.Error("a wrong name is confirmed")
	}
	if d, ok := s.ByAddress(addr("10.1.1.3")); !ok || d.Name != "moves.campus.test" || !s.Sends(d, addr("10.1.1.3")) {
		t.Errorf("moves: %+v", d)
	}
	for _, a := range []string{"192.0.2.9", "10.9.1.1"} { // outside the campus, and a workstation
		if d, ok := s.ByAddress(addr(a)); ok {
			t.Errorf("%s is %s", a, d.Name)
		}
	}
	if res, _ := s.Resolution("moves.campus.test"); res.By != actor || res.Reason == "" {
		t.Errorf("audit: %+v", res)
	}

	// It moves; the old address is no longer its own.
	if err := r.dns.Replace(strings.ReplaceAll(zone, "10.1.1.3", "10.1.1.4")); err != nil {
		t.Fatal(err)
	}
	r.ask()
	r.roundAt(10 * time.Minute)
	if d, ok := r.Registry.Snapshot().ByAddress(addr("10.1.1.3")); !ok {
		t.Errorf("asked too early: %+v", d)
	}
	r.roundAt(20 * time.Minute)
	r.await("the device has moved", func(s *registry.Snapshot) bool {
		_, there := s.ByAddress(addr("10.1.1.4"))
		_, still := s.ByAddress(addr("10.1.1.3"))
		return there && !still
	})
}

// While the DNS is down, what it last said stands, for as long as it may.
func TestDNSDown(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	r.roundAt(0)
	r.await("every device was asked about", func(s *registry.Snapshot) bool { return len(s.Entries().Resolutions) == 3 })
	for _, name := range []string{"prn.campus.test", "moves.campus.test", "1.1.1.10.in-addr.arpa", "3.1.1.10.in-addr.arpa"} {
		r.dns.Fail(name, dnstest.ServFail)
	}
	r.ask()
	r.roundAt(24 * time.Hour)
	s := r.Registry.Snapshot()
	if _, at, ok := s.Confirmed(addr("10.1.1.1"), 72*time.Hour, start.Add(24*time.Hour)); !ok || !at.Equal(start) {
		t.Errorf("forgotten: %s %v", at, ok)
	}
	if _, ok := s.ByAddress(addr("10.1.1.3")); !ok {
		t.Error("the device that follows lost its address")
	}
	if _, _, ok := s.Confirmed(addr("10.1.1.1"), 72*time.Hour, start.Add(73*time.Hour)); ok {
		t.Error("it holds for ever")
	}
}

func TestNext(t *testing.T) {
	d := &registry.Device{Name: "d.test", FollowDNS: true}
	old := &registry.Resolution{Device: "d.test", Addresses: []netip.Addr{addr("10.1.1.1")}, Confirmed: map[netip.Addr]time.Time{
		addr("10.1.1.1"): start.Add(-time.Hour), addr("10.1.1.9"): start.Add(-80 * time.Hour),
	}}
	all := func(netip.Addr) bool { return true }
	for _, test := range []struct {
		name      string
		answer    answer
		addresses []netip.Addr
		confirmed []netip.Addr
	}{
		{"in doubt", answer{}, []netip.Addr{addr("10.1.1.1")}, []netip.Addr{addr("10.1.1.1")}},
		{"gone", answer{addresses: []netip.Addr{}}, nil, []netip.Addr{addr("10.1.1.1")}},
		{"no longer confirmed", answer{confirmed: map[netip.Addr]bool{addr("10.1.1.1"): false}}, []netip.Addr{addr("10.1.1.1")}, nil},
		{"moved", answer{addresses: []netip.Addr{addr("10.1.1.2"), addr("10.1.1.2")}, confirmed: map[netip.Addr]bool{addr("10.1.1.2"): true}},
			[]netip.Addr{addr("10.1.1.2")}, []netip.Addr{addr("10.1.1.1"), addr("10.1.1.2")}},
	} {
		r, changed := next(d, old, test.answer, all, start)
		var confirmed []netip.Addr
		for _, a := range []string{"10.1.1.1", "10.1.1.2", "10.1.1.9"} {
			if _, ok := r.Confirmed[addr(a)]; ok {
				confirmed = append(confirmed, addr(a))
			}
		}
		if len(r.Addresses)+len(test.addresses) > 0 && !reflect.DeepEqual(r.Addresses, test.addresses) || !reflect.DeepEqual(confirmed, test.confirmed) || !changed {
			t.Errorf("%s: %+v, changed %v", test.name, r, changed)
		}
		if again, changed := next(d, r, test.answer, all, start); changed {
			t.Errorf("%s, again: %+v", test.name, again)
		}
	}
}
