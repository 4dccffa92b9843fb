package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A delegate is somebody who administers a unit, and nothing else: an
// administrator of an Owner (P18, W17). He asks for devices of his unit, changes
// where they are and who hears of them, gives and rotates their secrets, stops
// them and ends them. Who lets them send, and as whom, is for the postmaster.

// Administers are the units that somebody administers, by his login name; none
// for a postmaster, who is nobody's delegate.
func (s *Snapshot) Administers(login string) (units []string) {
	for _, o := range s.owners.sorted() {
		if slices.Contains(o.Administrators, login) {
			units = append(units, o.Name)
		}
	}
	return units
}

// Forbidden says why a delegate may not make a change; empty allows it. want is
// what an entry is to be, or, removed, what it was.
func (s *Snapshot) Forbidden(units []string, want Item) string {
	switch want := want.(type) {
	case *Device:
		was, _ := s.Device(want.Name)
		return s.forbiddenDevice(units, was, want)
	case *Credential:
		was, there := s.Credential(want.Name)
		for _, c := range []*Credential{was, want} {
			if c == nil || !there && c == was {
				continue
			}
			if d, ok := s.Device(c.Device); !ok || !slices.Contains(units, d.Owner) {
				return fmt.Sprintf("it is of %s, which is no device of %s", c.Device, strings.Join(units, " or "))
			}
		}
		if there && was.Suspended && !want.Suspended {
			return "the postmaster suspended it"
		}
		return ""
	}
	return "that is for the postmaster"
}

func (s *Snapshot) forbiddenDevice(units []string, was, want *Device) string {
	unit := want.Owner
	if was != nil && was.State != StateRetired {
		unit = was.Owner
	}
	if !slices.Contains(units, unit) || !slices.Contains(units, want.Owner) {
		return fmt.Sprintf("it belongs to %s; you administer %s", orNobody(unit), strings.Join(units, ", "))
	}
	if found := s.Misplaced(want); len(found) > 0 && want.State != StateRetired && !want.Removed {
		return found[0].String()
	}
	switch {
	case was == nil || was.State == StateRetired:
		if want.State != StateRequested {
			return "it begins as a request"
		}
		return ""
	case want.State != was.State && want.State != StateRetired && (want.State != StateSuspended || was.State != StateActive):
		return "it is " + string(was.State) + ", and who makes it " + string(want.State) + " is the postmaster"
	case slices.ContainsFunc(was.Addresses, func(a Address) bool { return a.State == StateSuspended && !slices.Contains(want.Addresses, a) }):
		return "the postmaster suspended one of its addresses"
	case was.State != StateRequested && !bytes.Equal(granted(was), granted(want)):
		return "you change its addresses and contacts, and what the form says; the rest was granted as it is"
	}
	return ""
}

// granted is what of a device the postmaster decided about.
func granted(d *Device) []byte {
	g := *d
	g.Addresses, g.FollowDNS, g.Contacts, g.Application, g.Entry = nil, false, nil, nil, Entry{}
	g.State, g.Suspension, g.Told = "", nil, nil
	g.Dates.Attested, g.Dates.Accepted, g.Dates.Retired = Dates{}.Attested, Dates{}.Accepted, Dates{}.Retired
	text, err := json.Marshal(&g)
	if err != nil {
		return nil // it was read from JSON
	}
	return text
}

func orNobody(unit string) string {
	if unit == "" {
		return "nobody"
	}
	return unit
}
