package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/registry"
)

// Published are the addresses as they are made known: each once, in order,
// without those that ended before a day.
func (r *Relay) Published(today string) []Ingress {
	var list []Ingress
	for _, a := range r.Addresses {
		if p, err := registry.ParseRange(a.Address); err == nil {
			a.Address = registry.Address{Range: p}.String()
		}
		if (a.Until == "" || a.Until >= today) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Ingress) int {
		p, _ := registry.ParseRange(a.Address)
		q, _ := registry.ParseRange(b.Address)
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	return list
}

// VersionOf is the version of a published list: another list has another.
func VersionOf(list []Ingress) string {
	h := sha256.New()
	for _, a := range list {
		fmt.Fprintf(h, "%s %s %s\n", a.Address, a.From, a.Until)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// AddressChange is the next day on which the published addresses change.
type AddressChange struct {
	Day    string   `json:"day"`
	Begins []string `json:"begins,omitempty"`
	Ends   []string `json:"ends,omitempty"`
}

// NextChange is the first change of a published list after a day; nil for none.
func NextChange(list []Ingress, today string) *AddressChange {
	var next *AddressChange
	at := func(day string) *AddressChange {
		if day <= today || next != nil && day > next.Day {
			return &AddressChange{}
		}
		if next == nil || day < next.Day {
			next = &AddressChange{Day: day}
		}
		return next
	}
	for _, a := range list {
		c := at(a.From)
		c.Begins = append(c.Begins, a.Address)
		if last, err := time.Parse(time.DateOnly, a.Until); err == nil {
			c := at(last.AddDate(0, 0, 1).Format(time.DateOnly))
			c.Ends = append(c.Ends, a.Address)
		}
	}
	return next
}

// published checks relay.addresses. The same entry twice is one.
func (k *checker) published() {
	seen := map[string]Ingress{}
	for i, a := range k.Relay.Addresses {
		path := item("relay.addresses", i)
		if _, err := registry.ParseRange(a.Address); err != nil {
			k.bad(member(path, "address"), "%v", err)
		}
		for key, day := range map[string]string{"from": a.From, "until": a.Until} {
			if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
				k.bad(member(path, key), "%q is not a day (example: 2026-12-01)", day)
			}
		}
		if a.From != "" && a.Until != "" && a.Until < a.From {
			k.bad(member(path, "until"), "%s is before its first day, %s", a.Until, a.From)
		}
		key := strings.ToLower(a.Address)
		if other, ok := seen[key]; ok && other != a {
			k.bad(member(path, "address"), "%s is named twice, with different days", a.Address)
		}
		seen[key] = a
	}
}
