package main

import (
	"strings"
	"testing"
)

// A block says whom it stops: an address may stand for more than was meant.
func TestBlockSaysWhomItStops(t *testing.T) {
	r := startWith(t, "domains: {hosted: [{name: campus.test}]}\n")
	r.register("a.campus.test", "chem", "--address", "127.8.0.1", "--sender", "a@campus.test")
	r.register("b.campus.test", "chem", "--address", "127.8.0.2")
	r.ok("device", "request", "asked.campus.test", "--address", "127.8.0.3", "--owner", "chem")
	for subject, want := range map[string]string{
		"127.8.0.0/24":  "It stops 2 active devices: a.campus.test, b.campus.test\nNot meant? postrider block rm '127.8.0.0/24'",
		"127.9.9.9":     "",
		"@campus.test":  "campus.test is hosted: whoever sends as an address of it is refused\nIt stops 1 active devices: a.campus.test",
		"A@campus.test": "It stops 1 active devices: a.campus.test",
	} {
		got := r.do("block", "add", subject, "--reason", "test")
		if got.code != 0 || !strings.Contains(got.err, want) || want == "" && got.err != "" {
			t.Errorf("%s: %d %q", subject, got.code, got.err)
		}
	}
}
