package mail

import (
	"reflect"
	"testing"
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
		"From: (a comment: with a colon) a@x.test\r\n":         {Fields: 1, Unreadable: true},
		"From: good@x.test\r\nFrom: not an address\r\n":        {Fields: 2, Addresses: []string{"good@x.test"}, Unreadable: true},
	} {
		if got := Header(header).From(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", header, got, want)
		}
	}
}
