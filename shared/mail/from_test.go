package mail

import (
	"net/mail"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestFrom(t *testing.T) {
	one := []string{"a@x.test"}
	for header, want := range map[string]From{
		"From: a@x.test\r\n":                                   {Fields: 1, Addresses: one},
		"From: Printer 3 <a@x.test>\r\n":                       {Fields: 1, Addresses: one},
		"From: \"a@x.test\" <a@x.test>\r\n":                    {Fields: 1, Addresses: one},
		"From: a@x.test\r\nfrom: b@x.test\r\n":                 {Fields: 2, Addresses: []string{"a@x.test", "b@x.test"}},
		"From: a@x.test, b@x.test\r\n":                         {Fields: 1, Addresses: []string{"a@x.test", "b@x.test"}},
		"From: the boss: a@x.test;\r\n":                        {Fields: 1, Addresses: one, Group: true},
		"From: \"Note: read this\" <a@x.test>\r\n":             {Fields: 1, Addresses: one},
		"From: \"boss@campus.test\" <a@x.test>\r\n":            {Fields: 1, Addresses: one, Disguised: true},
		"From: boss@campus.test via relay <a@x.test>\r\n":      {Fields: 1, Unreadable: true},
		"From: \"The boss (boss@campus.test)\" <a@x.test>\r\n": {Fields: 1, Addresses: one, Disguised: true},
		"From: =?utf-8?q?boss=40campus.test?= <a@x.test>\r\n":  {Fields: 1, Addresses: one, Disguised: true},
		"From: at @ the desk <a@x.test>\r\n":                   {Fields: 1, Unreadable: true},
		"From:\r\n":                                            {Fields: 1, Unreadable: true},
		"From: <>\r\n":                                         {Fields: 1, Unreadable: true},
		"Subject: none\r\n":                                    {},
		"From: a@[IPv6:2001:db8::1]\r\n":                       {Fields: 1, Unreadable: true},
		"From: (a comment: with a colon) a@x.test\r\n":         {Fields: 1, Addresses: one},
		"From: (Scanner 3) Room 4 <a@x.test>\r\n":              {Fields: 1, Addresses: one},
		"From: a@x.test, (second) b@x.test\r\n":                {Fields: 1, Addresses: []string{"a@x.test", "b@x.test"}},
		"From: Room 4 <a@x.test (first (floor))>\r\n":          {Fields: 1, Unreadable: true},
		"From: (boss@campus.test) a@x.test\r\n":                {Fields: 1, Addresses: one, Disguised: true},
		"From: Room 4 (boss@campus.test) <a@x.test>\r\n":       {Fields: 1, Addresses: one, Disguised: true},
		"From: (=?utf-8?q?boss=40campus.test?=) a@x.test\r\n":  {Fields: 1, Addresses: one, Disguised: true},
		"From: (boss\\@campus.test) a@x.test\r\n":              {Fields: 1, Addresses: one, Disguised: true},
		"From: (\") all: a@x.test;\r\n":                        {Fields: 1, Addresses: one, Group: true},
		"From: (never ends a@x.test\r\n":                       {Fields: 1, Unreadable: true},
		"From: (ends \\) never) a@x.test\r\n":                  {Fields: 1, Addresses: one},
		"From: a(hidden)b@x.test\r\n":                          {Fields: 1, Unreadable: true},
		"From: \"(not a comment)\" <a@x.test>\r\n":             {Fields: 1, Addresses: one},
		"From: good@x.test\r\nFrom: not an address\r\n":        {Fields: 2, Addresses: []string{"good@x.test"}, Unreadable: true},
	} {
		if got := Header(header).From(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", header, got, want)
		}
	}
}

// Whoever reads a field as we do reads the same addresses; a comment before it
// changes none, and hides nothing.
func FuzzFrom(f *testing.F) {
	for _, v := range []string{
		"a@x.test", "a@x.test (Scanner)", "(c) a@x.test", "Room <a@x.test>", "all: a@x.test;", `"boss@campus.test" <a@x.test>`, `(") "x" <a@x.test>`,
		"a@x.test (=?utf-8?q?boss=40campus.test?=)", `(\)) a@x.test`, "a@x.test, (c) b@x.test", `"(" <a@x.test>`, `a@x.test ("b@y.test")`,
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if strings.ContainsFunc(v, unicode.IsControl) {
			return
		}
		is := Header("From: " + v + "\r\n").From()
		list, err := new(mail.AddressParser).ParseList(strings.TrimSpace(v))
		if err == nil {
			var want []string
			for _, a := range list {
				want = append(want, a.Address)
			}
			if is.Unreadable || !slices.Equal(is.Addresses, want) {
				t.Errorf("%q: %+v, want %q", v, is, want)
			}
		}
		behind := Header("From: (a comment: \"or so) " + v + "\r\n").From()
		if !is.Unreadable && (behind.Unreadable || !slices.Equal(behind.Addresses, is.Addresses) || is.Disguised && !behind.Disguised || is.Group != behind.Group) {
			t.Errorf("%q: %+v, behind a comment %+v", v, is, behind)
		}
	})
}
