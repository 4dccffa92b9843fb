package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// modes are the ways in which mail reaches a relay that has only one of them (X11),
// as what they have otherwise than the template of a relay that has all.
var modes = map[string][][2]string{
	// No login, hosted recipients only.
	"direct": {
		{`  - {address: ":587", mode: submission}` + "\n", ""}, {`  - {address: ":465", mode: submissions}` + "\n", ""},
		{"#must_authenticate: off", "must_authenticate: enforce"},
	},
	// A login on the submission ports, from anywhere.
	"submission": {
		{`  - {address: ":25", mode: relay}` + "\n", ""},
		{"#hosted_from_campus: enforce", "hosted_from_campus: off"},
	},
	// Registered addresses only, with the name that the DNS has.
	"connector": {
		{`  - {address: ":587", mode: submission}` + "\n", ""}, {`  - {address: ":465", mode: submissions}` + "\n", ""},
		{"#hosted_from_campus: enforce", "hosted_from_campus: off"}, {"#fcrdns: off", "fcrdns: enforce"},
	},
}

// inMode is the template for one way only; empty leaves it as it is.
func inMode(template []byte, mode string) ([]byte, error) {
	changes, known := modes[mode]
	if !known && mode != "" {
		return nil, usage("--mode %q is none of %s", mode, strings.Join(slices.Sorted(maps.Keys(modes)), ", "))
	}
	text := string(template)
	for _, c := range changes {
		if strings.Count(text, c[0]) != 1 {
			return nil, fmt.Errorf("make the template for mode %s: it has no %q", mode, c[0])
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	return []byte(text), nil
}
