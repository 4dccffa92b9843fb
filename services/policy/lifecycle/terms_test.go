package lifecycle

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// New terms of use are told once, in one message to each contact, for devices that
// accepted others.
func TestTerms(t *testing.T) {
	var devices []registry.Item
	device := func(name, contact, accepted string, state registry.State) *registry.Device {
		d := &registry.Device{Name: name, Contacts: []string{contact}, State: state}
		d.Origin = registry.OriginCommand
		if accepted != "" {
			d.Application = &registry.Application{TermsVersion: accepted}
		}
		devices = append(devices, d)
		return d
	}
	for n := range 1200 {
		device(fmt.Sprintf("prn-%d.campus.test", n), fmt.Sprintf("it-%d@campus.test", n%600), "2025-09", registry.StateActive)
	}
	device("new.campus.test", "new@campus.test", "2026-09", registry.StateActive)
	device("asked.campus.test", "asked@campus.test", "", registry.StateRequested)
	device("file.campus.test", "file@campus.test", "", registry.StateActive).Origin = registry.OriginFile
	reg := registry.NewSnapshot(1, registry.Entries{}).With(2, devices, nil)
	rules := &Rules{Terms: "2026-09", TermsURL: "https://relay.campus.test/terms"}

	out := newTerms(reg, rules, start)
	if len(out) != 2 || out[0].ID != "terms-2026-09-2" || out[1].ID != "terms-2026-09" {
		t.Fatalf("%d notices", len(out))
	}
	heard := map[string]int{}
	for _, n := range out {
		if found := n.Faults(); len(found) > 0 || !strings.Contains(n.Text, "version 2026-09 hold now (https://relay.campus.test/terms)") {
			t.Errorf("%v\n%s", found, n.Text)
		}
		for _, a := range n.To {
			heard[a.Contact] += len(a.Devices) + a.More
		}
	}
	if len(heard) != 600 || heard["it-7@campus.test"] != 2 || heard["new@campus.test"]+heard["asked@campus.test"]+heard["file@campus.test"] != 0 {
		t.Errorf("%d contacts, %d devices of one", len(heard), heard["it-7@campus.test"])
	}
	told := reg.With(3, []registry.Item{out[0], out[1]}, nil)
	if again := newTerms(told, rules, start); len(again) > 0 {
		t.Errorf("told again: %d", len(again))
	}
	if none := newTerms(reg, &Rules{}, start); len(none) > 0 {
		t.Error("told of no terms")
	}
	if next := newTerms(told, &Rules{Terms: "2027/01"}, start); len(next) != 2 || next[1].ID != "terms-2027-01" {
		t.Errorf("the next version: %d", len(next))
	}
}
