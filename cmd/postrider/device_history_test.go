package main

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// The history of a device that follows the DNS has its moves, and not that the DNS
// still says the same (P12).
func TestHistoryOfMoves(t *testing.T) {
	r := start(t)
	const name = "moves.campus.test"
	r.ok("device", "request", name, "--owner", "chem")
	_, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	s, err := store.Open(t.Context(), bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	res := &registry.Resolution{Device: name}
	for i, address := range []string{"127.8.0.1", "127.8.0.1", "127.8.0.2"} {
		at := time.Now().UTC().Add(time.Duration(i) * time.Hour)
		a := netip.MustParseAddr(address)
		res.Addresses, res.Confirmed = []netip.Addr{a}, map[netip.Addr]time.Time{a: at}
		res.Stamp(registry.Change{By: "dns", Reason: "as the DNS says", At: at})
		if err := s.Put(t.Context(), res); err != nil {
			t.Fatal(err)
		}
	}
	r.ok("device", "approve", name)
	var got []string
	for _, row := range r.list("device", "history", name) {
		got = append(got, row["by"].(string)+" "+row["change"].(string))
	}
	if want := []string{actor() + " added", "dns added", "dns changed", actor() + " changed"}; strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%q, want %q", got, want)
	}
	if table := r.ok("device", "history", name); !strings.Contains(table, "127.8.0.1") || !strings.Contains(table, "127.8.0.2") {
		t.Errorf("%s", table)
	}
}

// A sender that is a whole domain is refused by every command, or by none.
func TestSenderWildcards(t *testing.T) {
	r := start(t)
	file := t.TempDir() + "/registry.yaml"
	write(t, file, "devices: [{name: by-file.campus.test, senders: ['*@campus.test']}]\n")
	commands := [][]string{
		{"device", "request", "wild.campus.test", "--sender", "*@campus.test"},
		{"device", "edit", "tame.campus.test", "senders+=*@campus.test"},
	}
	r.ok("device", "request", "tame.campus.test", "--sender", "tame@campus.test")
	for _, c := range commands {
		r.fails(2, "stands for many", c...)
	}
	if got := r.do("registry", "diff", file); !strings.Contains(got.stdout+got.err, "stands for many") {
		t.Errorf("%+v", got)
	}
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.file, string(text)+"policy: {sender_wildcards: true}\n")
	for _, c := range commands {
		r.ok(c...)
	}
	if got := r.do("registry", "diff", file); strings.Contains(got.stdout+got.err, "stands for many") {
		t.Errorf("%+v", got)
	}
	if d := r.device("tame.campus.test"); len(d.Senders) != 2 {
		t.Errorf("%+v", d)
	}
	r.fails(2, "stands for many", "device", "edit", "tame.campus.test", "senders=a*@campus.test")
}
