package lifecycle

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/registry"
)

func TestRoster(t *testing.T) {
	device := func(name string, state registry.State, contacts ...string) *registry.Device {
		return &registry.Device{Name: name, State: state, Owner: "chem", Contacts: contacts}
	}
	devices := []*registry.Device{
		device("a.test", registry.StateActive, "Anna@x.test", "bert@x.test"), device("b.test", registry.StateSuspended, "anna@x.test"),
		device("c.test", registry.StateRequested, "new@x.test"), device("d.test", registry.StateRetired, "old@x.test", "hand@x.test"),
		device("e.test", registry.StateActive), // has those of its owner
	}
	reg := registry.NewSnapshot(1, registry.Entries{Devices: devices, Owners: []*registry.Owner{{Name: "chem", Contacts: []string{"chem@x.test"}}}})
	g := &registry.Group{Members: []string{"hand@x.test", "old@x.test", "bert@x.test"}, Joined: []string{"old@x.test"}}
	members, joined := roster(reg, g)
	if got := strings.Join(members, " "); got != "hand@x.test bert@x.test Anna@x.test chem@x.test" {
		t.Errorf("members %s", got)
	}
	if got := strings.Join(joined, " "); got != "Anna@x.test chem@x.test" {
		t.Errorf("joined %s", got)
	}
}

// Whatever the group and the devices: who is a contact is in it, who was put in
// by hand stays, and doing it again changes nothing.
func TestRosterConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		people := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a@x.test", "B@x.test", "c@x.test", "d@x.test"}), strings.ToLower)
		var devices []*registry.Device
		for i := range rapid.IntRange(0, 4).Draw(t, "devices") {
			devices = append(devices, &registry.Device{
				Name: string(rune('a'+i)) + ".test", Contacts: people.Draw(t, "contacts"),
				State: rapid.SampledFrom([]registry.State{registry.StateActive, registry.StateRetired, registry.StateSuspended}).Draw(t, "state"),
			})
		}
		reg := registry.NewSnapshot(1, registry.Entries{Devices: devices})
		g := &registry.Group{Members: people.Draw(t, "members")}
		for _, m := range g.Members {
			if rapid.Bool().Draw(t, "ours") {
				g.Joined = append(g.Joined, m)
			}
		}
		members, joined := roster(reg, g)
		for _, m := range g.Members {
			if !slices.Contains(g.Joined, m) && !slices.Contains(members, m) {
				t.Fatalf("%s was put in by hand, and is out: %v", m, members)
			}
		}
		for _, d := range devices {
			for _, c := range d.Contacts {
				if d.State.Holds() && !slices.ContainsFunc(members, func(m string) bool { return strings.EqualFold(m, c) }) {
					t.Fatalf("%s of %s is not in %v", c, d.Name, members)
				}
			}
		}
		again, still := roster(reg, &registry.Group{Members: members, Joined: joined})
		if !slices.Equal(again, members) || !slices.Equal(still, joined) {
			t.Fatalf("%v then %v", members, again)
		}
	})
}
