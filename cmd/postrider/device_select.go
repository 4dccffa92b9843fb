package main

import (
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// A device selector chooses devices in the language of selector.go: "owner:chem
// device:prn-* state:suspended". A bare word is a name; of several names each is
// meant.
type deviceSelector struct {
	names []string
	terms []deviceTerm
	all   bool
	// reviews are what the relay found out about devices, once choose was asked.
	reviews func(device string) (*registry.Review, bool)
}

type deviceTerm struct {
	key     string
	exclude bool
	matches func(value string) bool
}

// deviceValues are the values of the keys that have no others.
var deviceValues = map[string][]string{
	"state": {"requested", "approved", "active", "suspended", "retired"}, "class": {"alert", "scan", "application", "default"},
	"exempt": {"yes", "ended", "no"}, "quirk": {"from", "domain", "hide-ehlo", "legacy-tls", "repair-newlines"},
	"traffic": {"alerts", "transactional", "scans", "newsletter", "research", "survey"}, "cause": causes,
}

// deviceKeys are the keys for devices, with what each compares.
var deviceKeys = map[string]func(*registry.Device) []string{
	"device":  func(d *registry.Device) []string { return []string{d.Name} },
	"owner":   func(d *registry.Device) []string { return []string{d.Owner} },
	"state":   func(d *registry.Device) []string { return []string{string(d.State)} },
	"class":   func(d *registry.Device) []string { return []string{string(d.Class)} },
	"traffic": func(d *registry.Device) []string { return []string{string(d.Traffic)} },
	"contact": func(d *registry.Device) []string { return d.Contacts },
	"address": func(d *registry.Device) []string { return strings.Fields(addresses(d)) },
	"terms":   func(d *registry.Device) []string { return []string{d.AcceptedTerms()} },
	"quirk":   quirksOf,
	"exempt":  func(d *registry.Device) []string { return []string{exemption(d)} },
	"cause": func(d *registry.Device) []string {
		if d.Suspension == nil {
			return nil
		}
		return []string{d.Suspension.Cause}
	},
	keyFinding: nil, // findings
}

// keyFinding is the key for the checks that a device failed: spf, personal-sender.
const keyFinding = "finding"

// findings are the checks in the last review of a device that found something.
func (s *deviceSelector) findings(d *registry.Device) (checks []string) {
	if v, ok := s.reviews(d.Name); ok {
		for _, f := range v.Findings {
			if !f.OK && !f.Doubt {
				checks = append(checks, f.Check)
			}
		}
	}
	return checks
}

// quirksOf are the quirks that a device has.
func quirksOf(d *registry.Device) (names []string) {
	q := &d.Quirks
	for _, quirk := range []struct {
		name string
		has  bool
	}{{"from", q.From != ""}, {"domain", q.Domain != ""}, {"hide-ehlo", len(q.HideEHLO) > 0}, {"legacy-tls", q.LegacyTLS}, {"repair-newlines", q.RepairNewlines}} {
		if quirk.has {
			names = append(names, quirk.name)
		}
	}
	return names
}

// deviceSelectorHelp is the part of a command's help that explains the language.
const deviceSelectorHelp = "Selector: names, or words such as owner:chem device:prn-* state:suspended.\nAll words must hold, -word excludes, * and ? match; of an address or range, what overlaps it.\nKeys: address cause class contact device exempt (yes, ended, no) finding owner quirk state terms traffic\nfinding: is a check that the daily review failed: contact dmarc mail-server personal-sender sender spf"

// parseDeviceSelector reads the words of a selector.
func parseDeviceSelector(words []string, all bool) (*deviceSelector, error) {
	s := &deviceSelector{all: all}
	for _, text := range words {
		fields := strings.Fields(text)
		if len(fields) == 0 {
			fields = []string{text}
		}
		for _, word := range fields {
			if err := s.add(word); err != nil {
				return nil, err
			}
		}
	}
	switch chosen := len(s.names) + len(s.terms); {
	case all && chosen > 0:
		return nil, usage("--all and a selector contradict each other; give one of them")
	case !all && chosen == 0:
		return nil, usage("say which: a name, a selector such as owner:chem, or --all")
	}
	return s, nil
}

func (s *deviceSelector) add(word string) error {
	bare := strings.TrimLeft(word, "-!")
	key, value, isTerm := strings.Cut(bare, ":")
	switch {
	case !isTerm && bare == word && !strings.ContainsAny(word, "*?"):
		s.names = append(s.names, deviceName(word))
		return nil
	case !isTerm:
		return usage("%q is no name; did you mean device:%s?", word, bare)
	case !isDeviceKey(key) || len(word) > len(bare)+1:
		return usage("%q: unknown key in the selector; keys: address cause class contact device exempt finding owner quirk state terms traffic", word)
	case value == "":
		return usage("%q: %s has no value", word, key)
	}
	matches, err := matching(key, value)
	if err != nil {
		return err
	}
	s.terms = append(s.terms, deviceTerm{key, len(bare) < len(word), matches})
	return nil
}

// matching compares with the value of a term: an address or range with those that
// overlap it, anything else as a pattern. What no device can have is an error.
func matching(key, value string) (func(string) bool, error) {
	if key == "address" && !strings.ContainsAny(value, "*?") {
		p, err := registry.ParseRange(value)
		if err != nil {
			return nil, usage("address: %w", err)
		}
		return func(own string) bool {
			other, err := registry.ParseRange(own)
			return err == nil && p.Overlaps(other)
		}, nil
	}
	pattern, err := glob(value)
	if err != nil {
		return nil, usage("%s: %q is no pattern", key, value)
	}
	if known := deviceValues[key]; known != nil && !slices.ContainsFunc(known, pattern.MatchString) {
		return nil, usage("%s: %q is none of %s", key, value, strings.Join(known, ", "))
	}
	return pattern.MatchString, nil
}

func isDeviceKey(key string) bool {
	_, known := deviceKeys[key]
	return known
}

// bulk reports that it may choose devices that nobody named.
func (s *deviceSelector) bulk() bool { return len(s.names) == 0 }

// choose are the devices that it means. A name that is none is an error.
func (s *deviceSelector) choose(snapshot *registry.Snapshot) (chosen []*registry.Device, err error) {
	s.reviews = snapshot.Review
	for _, name := range s.names {
		d, err := findDevice(snapshot, name)
		if err != nil {
			return nil, err
		}
		if s.matches(d) && !slices.Contains(chosen, d) {
			chosen = append(chosen, d)
		}
	}
	if s.bulk() {
		for _, d := range snapshot.Entries().Devices {
			if s.matches(d) {
				chosen = append(chosen, d)
			}
		}
	}
	return chosen, nil
}

// matches reports that every term holds for a device.
func (s *deviceSelector) matches(d *registry.Device) bool {
	for _, t := range s.terms {
		values := s.findings
		if of := deviceKeys[t.key]; of != nil {
			values = of
		}
		if slices.ContainsFunc(values(d), t.matches) == t.exclude {
			return false
		}
	}
	return true
}
