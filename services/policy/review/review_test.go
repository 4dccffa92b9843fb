package review

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

const zone = `
good.test.        60 IN TXT "v=spf1 include:_spf.relay.test -all"
CaSe.test.        60 IN TXT "V=SPF1 Include:_SPF.Relay.Test. ~all"
deep.test.        60 IN TXT "v=spf1 ip4:192.0.2.0/24 include:mid.test ?all"
mid.test.         60 IN TXT "v=spf1 a:a.test/24 mx include:_spf.relay.test"
redirect.test.    60 IN TXT "v=spf1 redirect=good.test"
unused.test.      60 IN TXT "v=spf1 -all redirect=good.test"
none.test.        60 IN TXT "google-site-verification=x"
other.test.       60 IN TXT "v=spf1 include:mid2.test -all"
mid2.test.        60 IN TXT "v=spf1 -all"
two.test.         60 IN TXT "v=spf1 -all"
two.test.         60 IN TXT "v=spf1 +all"
loop.test.        60 IN TXT "v=spf1 include:loop2.test -all"
loop2.test.       60 IN TXT "v=spf1 include:loop.test -all"
twice.test.       60 IN TXT "v=spf1 include:mid2.test include:mid2.test include:_spf.relay.test -all"
macro.test.       60 IN TXT "v=spf1 include:%{i}._spf.test include:_spf.relay.test -all"
long.test.        60 IN TXT "v=spf1 a mx a:1.test a:2.test a:3.test exists:4.test ptr a:6.test a:7.test a:8.test include:_spf.relay.test -all"
broken.test.      60 IN TXT "v=spf1 include:nowhere.test -all"
_spf.relay.test.  60 IN TXT "v=spf1 ip4:192.0.2.25 -all"

_dmarc.strict.test.     60 IN TXT "v=DMARC1; p=reject; adkim=s"
_dmarc.campus.test.     60 IN TXT "v=DMARC1; p=quarantine; sp=reject"
_dmarc.none.test.       60 IN TXT "v=DMARC1; p=none"
_dmarc.good.test.       60 IN TXT "v=DMARC1; p=reject"
`

func startDNS(t *testing.T) (*dnstest.Server, *dnsx.Resolver) {
	t.Helper()
	server := dnstest.Start(t, zone)
	r, err := dnsx.New(dnsx.Config{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return server, r
}

func TestIncludes(t *testing.T) {
	t.Parallel()
	server, dns := startDNS(t)
	server.Fail("silent.test", dnstest.ServFail)
	for domain, want := range map[string]struct {
		found   bool
		lookups int
		err     string
	}{
		"good.test": {true, 1, ""}, "case.test": {true, 1, ""}, "deep.test": {true, 4, ""}, "redirect.test": {true, 2, ""},
		"unused.test": {false, 0, ""}, "other.test": {false, 1, ""}, "twice.test": {true, 3, ""}, "macro.test": {true, 2, ""},
		"none.test": {false, 0, "has none"}, "absent.test": {false, 0, "has none"}, "two.test": {false, 0, "has two"},
		"loop.test": {false, 2, "includes itself"}, "long.test": {true, 11, "11 lookups, 10 are allowed"}, "broken.test": {false, 1, "nowhere.test has none"},
		"silent.test": {false, 0, "SERVFAIL"},
	} {
		found, lookups, err := includes(t.Context(), dns, domain, "_spf.Relay.test.")
		said := ""
		if err != nil {
			said = err.Error()
		}
		if found != want.found || lookups != want.lookups || (want.err == "") != (err == nil) || !strings.Contains(said, want.err) {
			t.Errorf("%s: %v, %d lookups, %v", domain, found, lookups, err)
		}
		if domain == "silent.test" && errors.Is(err, errPolicy) {
			t.Error("a DNS that does not answer is no broken policy")
		}
	}
}

func TestDMARC(t *testing.T) {
	t.Parallel()
	_, dns := startDNS(t)
	r := &Reviewer{DNS: dns, Signer: "relay.campus.test"}
	for domain, want := range map[string]struct {
		spf, ok bool
		text    string
	}{
		"campus.test":       {false, true, "signature of relay.campus.test is aligned"},
		"chem.campus.test":  {false, true, "signature of relay.campus.test is aligned"},
		"strict.test":       {false, false, "receivers will reject it"},
		"sub.strict.test":   {true, true, "SPF is aligned"},
		"none.test":         {false, true, "asks for nothing"},
		"nothing.test":      {false, true, "asks for nothing"},
		"relay.campus.test": {false, true, "is aligned"},
	} {
		if f := r.dmarc(t.Context(), domain, want.spf); f.OK != want.ok || !strings.Contains(f.Text, want.text) || f.Doubt {
			t.Errorf("%s: %+v", domain, f)
		}
	}
}

// greet answers every connection with a line, until the test ends.
func greet(t *testing.T, line string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, line)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for line, ok := range map[string]bool{"220 mail.campus.test ESMTP\r\n": false, "421 busy\r\n": true, strings.Repeat("220", 1000): true, "": true} {
		r := &Reviewer{Port: greet(t, line)}
		if f := r.probe(t.Context(), netip.MustParseAddr("127.0.0.1")); f.OK != ok {
			t.Errorf("%.20q: %+v", line, f)
		}
	}
}

// A device that was approved is activated, unless its SPF policy is enforced and
// fails; what is in doubt stops it for as long as it is.
func TestActivation(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	reg, err := store.Open(t.Context(), bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, sender := range map[string]string{"good.campus.test": "prn@good.test", "bad.campus.test": "prn@other.test"} {
		d := &registry.Device{Name: name, State: registry.StateApproved, Scope: registry.ScopeAnywhere, Senders: []string{sender}, Contacts: []string{"a@x.test", "b@x.test"}}
		d.Stamp(registry.Change{By: "anna", Reason: "fits", At: now})
		if err := reg.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	_, dns := startDNS(t)
	r := &Reviewer{Bus: bus, Registry: reg, DNS: dns, Log: queuetest.Log(t), Instance: "test", Signer: "relay.test", Include: "_spf.relay.test", Enforce: true}
	look := func(after time.Duration) *registry.Snapshot {
		if _, err := reg.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.round(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		s, err := reg.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := look(time.Hour)
	good, _ := s.Device("good.campus.test")
	bad, _ := s.Device("bad.campus.test")
	if good.State != registry.StateActive || !good.Dates.Activated.Equal(now.Add(time.Hour)) || good.By != actor || bad.State != registry.StateApproved {
		t.Errorf("good %+v, bad %+v", good, bad)
	}
	v, _ := s.Review("bad.campus.test")
	if len(v.Findings) != 2 || v.Findings[0].OK || !strings.Contains(v.Findings[0].Text, "add include:_spf.relay.test") {
		t.Errorf("findings %+v", v.Findings)
	}
	// What waits is due again after ten minutes, the rest after a day.
	at, soon, later := look(time.Hour+9*time.Minute), look(2*time.Hour), look(26*time.Hour)
	if at.Revision != s.Revision || soon.Revision != s.Revision+1 || later.Revision != s.Revision+3 {
		t.Errorf("revisions %d, %d, %d", s.Revision, soon.Revision, later.Revision)
	}
}
