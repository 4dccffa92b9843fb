package dnsx

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/postrider/postrider/shared/dnstest"
)

func TestForwardConfirmed(t *testing.T) {
	s := dnstest.Start(t, `
		1.2.0.192.in-addr.arpa PTR printer.campus.test
		printer.campus.test    A 192.0.2.1
		2.2.0.192.in-addr.arpa PTR liar.campus.test
		liar.campus.test       A 192.0.2.99
		3.2.0.192.in-addr.arpa PTR gone.campus.test
		4.2.0.192.in-addr.arpa PTR liar.campus.test
		4.2.0.192.in-addr.arpa PTR true.campus.test
		true.campus.test       CNAME real.campus.test
		real.campus.test       A 192.0.2.4
		5.2.0.192.in-addr.arpa PTR broken.campus.test
		5.2.0.192.in-addr.arpa PTR liar.campus.test
		6.2.0.192.in-addr.arpa PTR broken.campus.test
		6.2.0.192.in-addr.arpa PTR six.campus.test
		six.campus.test        A 192.0.2.6
		8.2.0.192.in-addr.arpa PTR g.test
		8.2.0.192.in-addr.arpa PTR f.test
		8.2.0.192.in-addr.arpa PTR e.test
		8.2.0.192.in-addr.arpa PTR d.test
		8.2.0.192.in-addr.arpa PTR c.test
		8.2.0.192.in-addr.arpa PTR b.test
		8.2.0.192.in-addr.arpa PTR a.test
		*.test                 A 192.0.2.8
		12.2.0.192.in-addr.arpa PTR half.campus.test
		half.campus.test       AAAA 2001:db8::99
		9.2.0.192.in-addr.arpa TXT "no name"
		10.2.0.192.in-addr.arpa PTR not\032a\032name.
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR printer6.campus.test
		printer6.campus.test   AAAA 2001:db8::1
	`)
	s.Fail("broken.campus.test", dnstest.ServFail)
	s.Fail("11.2.0.192.in-addr.arpa", dnstest.ServFail)
	s.Fail("half.campus.test", dnstest.ServFail, "A")
	r := open(t, Config{Servers: []string{s.Addr()}})
	for _, tt := range []struct {
		addr string
		want string
		err  error // nil with an empty want: a temporary one
	}{
		{"192.0.2.1", "[printer.campus.test]", nil},
		{"::ffff:192.0.2.1", "[printer.campus.test]", nil},
		{"2001:db8::1", "[printer6.campus.test]", nil},
		{"192.0.2.4", "[true.campus.test]", nil},
		{"192.0.2.6", "[six.campus.test]", nil},
		{"192.0.2.8", "[a.test b.test c.test d.test e.test]", nil},
		{"192.0.2.2", "", ErrNotConfirmed},
		{"192.0.2.3", "", ErrNotConfirmed},
		{"192.0.2.9", "", ErrNoData},
		{"192.0.2.10", "", ErrNoData},
		{"192.0.2.77", "", ErrNotExist},
		{"192.0.2.5", "", nil},
		{"192.0.2.11", "", nil},
		// The name has another address, and may yet have this one.
		{"192.0.2.12", "", nil},
	} {
		names, err := r.ForwardConfirmed(t.Context(), netip.MustParseAddr(tt.addr))
		switch {
		case tt.want != "" && (err != nil || fmt.Sprint(names) != tt.want):
			t.Errorf("%s: %v, %v; want %s", tt.addr, names, err, tt.want)
		case tt.err != nil && (!errors.Is(err, tt.err) || Temporary(err) || names != nil):
			t.Errorf("%s: %v, %v; want %v", tt.addr, names, err, tt.err)
		case tt.want == "" && tt.err == nil && (!Temporary(err) || names != nil):
			t.Errorf("%s: %v, %v; want a temporary error", tt.addr, names, err)
		}
	}
	if n := s.Queries("f.test", "") + s.Queries("g.test", ""); n != 0 {
		t.Errorf("more than %d names were looked at", MaxNames)
	}
}
