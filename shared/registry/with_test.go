package registry

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A snapshot that was changed step by step answers as one that was made at once,
// and leaves those before it as they were.
func TestWith(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := map[string]Item{}
		s := NewSnapshot(0, Entries{})
		for revision := range uint64(rapid.IntRange(1, 12).Draw(t, "steps")) {
			before, said := s, answers(s)
			var put, gone []Item
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				item := drawItem(t)
				key := item.Key()
				touched := func(other Item) bool { return other.Key() == key }
				if slices.ContainsFunc(put, touched) || slices.ContainsFunc(gone, touched) {
					continue
				}
				if old, ok := held[key]; ok && rapid.Bool().Draw(t, "remove") {
					gone = append(gone, old)
					delete(held, key)
				} else {
					put = append(put, item)
					held[key] = item
				}
			}
			s = s.With(revision+1, put, gone)
			var all Entries
			for _, item := range held {
				all.Add(item)
			}
			want := NewSnapshot(revision+1, all)
			if got := answers(s); got != answers(want) {
				t.Fatalf("after %v and without %v:\n%s\nwant\n%s", put, gone, got, answers(want))
			}
			if !reflect.DeepEqual(s.Entries(), want.Entries()) {
				t.Fatalf("entries %+v, want %+v", s.Entries(), want.Entries())
			}
			if answers(before) != said {
				t.Fatal("a snapshot changed")
			}
		}
	})
}

func drawItem(t *rapid.T) Item {
	n := rapid.IntRange(0, 3).Draw(t, "n")
	ranges := func() []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "10.1.1.2", "2001:db8::/32"}), 0, 3, rapid.ID).Draw(t, "ranges")
	}
	name := fmt.Sprintf("d%d.test", n)
	switch rapid.SampledFrom([]string{"device", "device", "resolution", "network", "block", "domain", "credential"}).Draw(t, "kind") {
	case "resolution":
		return &Resolution{Device: name, Addresses: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.1.1.%d", rapid.IntRange(1, 3).Draw(t, "host")))}}
	case "network":
		kind := rapid.SampledFrom([]Kind{KindCampus, KindDeny, KindNAT}).Draw(t, "network")
		return &Network{Range: MustAddresses(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.1.1"}).Draw(t, "range"))[0].Range, Kind: kind}
	case "block":
		return &Block{Subject: rapid.SampledFrom([]string{"10.1.1.1", "10.1.0.0/16", "a@x.test", "@x.test"}).Draw(t, "subject")}
	case "domain":
		return &Domain{Name: name}
	case "credential":
		return &Credential{Name: fmt.Sprint("app-", n), Device: name}
	}
	return &Device{
		Name: name, Addresses: MustAddresses(ranges()...), FollowDNS: rapid.Bool().Draw(t, "follow"),
		State: rapid.SampledFrom([]State{StateRequested, StateActive, StateActive, StateSuspended}).Draw(t, "state"),
	}
}

// answers are what a snapshot says of everything that these tests know.
func answers(s *Snapshot) (out string) {
	for _, a := range []string{"10.1.1.1", "10.1.1.2", "10.1.1.3", "10.1.9.9", "10.9.9.9", "2001:db8::1", "192.0.2.1"} {
		addr, name := netip.MustParseAddr(a), "-"
		if d, ok := s.ByAddress(addr); ok {
			name = d.Name + " " + string(d.State)
		}
		_, blocked := s.BlockedAddress(addr)
		out += fmt.Sprintln(a, name, s.KindsOf(addr), blocked)
	}
	for n := range 4 {
		name := fmt.Sprintf("d%d.test", n)
		d, ok := s.Device(name)
		out += fmt.Sprintln(name, ok, d, s.Hosted(name))
		if ok {
			rival, has := s.Rival(d)
			out += fmt.Sprintln(rival, has)
		}
		by, ok := s.ByCredential(fmt.Sprint("app-", n))
		out += fmt.Sprintln(by, ok)
	}
	for _, sender := range []string{"a@x.test", "b@x.test", "a@y.test"} {
		_, blocked := s.BlockedSender(sender)
		out += fmt.Sprintln(sender, blocked, s.BlocksSenders(), s.HasKind(KindNAT))
	}
	return out
}
