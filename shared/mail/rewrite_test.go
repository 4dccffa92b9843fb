package mail

import (
	"strings"
	"testing"
)

func TestWithFrom(t *testing.T) {
	long := strings.Repeat("x", 985)
	for _, tt := range []struct{ name, header, want string }{
		{"one", "A: 1\r\nFrom: a@b\r\nB: 2\r\n", "A: 1\r\nFrom: <s@x.test>\r\nX-Original-From: a@b\r\nB: 2\r\n"},
		{"none", "A: 1\r\n", "A: 1\r\nFrom: <s@x.test>\r\n"},
		{"no header", "", "From: <s@x.test>\r\n"},
		{"several, folded, oddly written", "FROM : a,\r\n\tb\r\nResent-From: c\r\nfrom:d\r\n", "From: <s@x.test>\r\nX-Original-From: a,\r\n\tb\r\nResent-From: c\r\nX-Original-From:d\r\n"},
		{"as long as may be", "From: " + long + "\r\n", "From: <s@x.test>\r\nX-Original-From:\r\n  " + long + "\r\n"},
		{"folded at once", "From:\r\n a@b\r\n", "From: <s@x.test>\r\nX-Original-From:\r\n a@b\r\n"},
	} {
		before := tt.header
		got := Header(tt.header).WithFrom("s@x.test")
		if string(got) != tt.want || tt.header != before {
			t.Errorf("%s: %q", tt.name, got)
		}
		for line := range strings.Lines(string(got)) {
			if len(line) > 1000 {
				t.Errorf("%s: a line of %d octets", tt.name, len(line))
			}
		}
		if from := got.From(); from.Fields != 1 || len(from.Addresses) != 1 || from.Addresses[0] != "s@x.test" {
			t.Errorf("%s: From is %+v", tt.name, from)
		}
	}
}

func TestCompleteFrom(t *testing.T) {
	for value, want := range map[string]string{
		"scanner":                   "scanner@x.test",
		"<scanner>":                 "scanner@x.test",
		"Floor 3 <scanner>":         "scanner@x.test",
		"\"a@b.test\" <scanner>":    "scanner@x.test",
		"scanner@y.test":            "", // has one
		"a, b":                      "",
		"a@b.test, c":               "",
		"<a@b>, <c>":                "",
		"":                          "",
		"two words":                 "",
		"undisclosed:;":             "",
		"a@[10.0.0.1":               "",
		"<scanner>\r\nFrom: <more>": "",
	} {
		header := Header("Subject: a\r\nFrom: " + value + "\r\n")
		got, changed := header.CompleteFrom("x.test")
		if changed != (want != "") {
			t.Errorf("%q: changed is %v: %q", value, changed, got)
			continue
		}
		if !changed {
			if string(got) != string(header) {
				t.Errorf("%q became %q", value, got)
			}
			continue
		}
		if from := got.From(); len(from.Addresses) != 1 || from.Addresses[0] != want {
			t.Errorf("%q became %q", value, got)
		}
	}
}
