package dnsx

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// reply builds a reply to "MX a.test." from records in text form, those after
// "--" in the authority section.
func reply(t *testing.T, rcode int, lines ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetReply(question{"a.test.", dns.TypeMX}.message())
	m.Rcode, m.RecursionAvailable = rcode, true
	section := &m.Answer
	for _, line := range lines {
		if line == "--" {
			section = &m.Ns
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		*section = append(*section, rr)
	}
	return onTheWire(t, m)
}

func onTheWire(t *testing.T, m *dns.Msg) *dns.Msg {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	return out
}

func links(n int) []string {
	var lines []string
	for i := range n {
		owner := "a.test."
		if i > 0 {
			owner = fmt.Sprintf("c%d.test.", i)
		}
		lines = append(lines, fmt.Sprintf("%s 600 CNAME c%d.test.", owner, i+1))
	}
	return lines
}

func TestReply(t *testing.T) {
	const soa = "test. 900 SOA ns.test. h.test. 1 1 1 1 70"
	for _, tt := range []struct {
		name  string
		rcode int
		lines []string
		// want is the answer as text, "ask NAME" for an unfinished chain, or
		// the error.
		want string
		ttl  time.Duration
	}{
		{"records", 0, []string{"a.test. 300 MX 1 m.test.", "A.TEST. 200 MX 2 n.test."}, "a.test. 2", 200 * time.Second},
		{"not exist", dns.RcodeNameError, []string{"--", soa}, "a.test. no such domain name", 70 * time.Second},
		{"not exist, no SOA", dns.RcodeNameError, nil, "a.test. no such domain name", 0},
		{"no data", 0, []string{"--", soa}, "a.test. no records of this type", 70 * time.Second},
		{"no data, no SOA", 0, nil, "a.test. no records of this type", 0},
		{"SOA of another zone", 0, []string{"--", "other. 900 SOA ns.test. h.test. 1 1 1 1 70"}, "a.test. no records of this type", 0},
		{"TTL with the high bit", 0, []string{"a.test. 4294967295 MX 1 m.test."}, "a.test. 1", 0},

		{"chain", 0, []string{"a.test. 50 CNAME b.test.", "b.test. 300 MX 1 m.test."}, "b.test. 1", 50 * time.Second},
		{"chain backwards", 0, []string{"c.test. 9 MX 1 m.test.", "b.test. 8 CNAME c.test.", "a.test. 50 CNAME B.test."}, "c.test. 1", 8 * time.Second},
		{"chain to nothing", dns.RcodeNameError, []string{"a.test. 50 CNAME b.test.", "--", soa}, "b.test. no such domain name", 50 * time.Second},
		{"chain to no data", 0, []string{"a.test. 500 CNAME b.test.", "--", soa}, "b.test. no records of this type", 70 * time.Second},
		{"unfinished chain", 0, []string{"a.test. 50 CNAME b.other."}, "ask b.other.", 0},
		{"unfinished chain with the SOA of its start", 0, []string{"a.test. 50 CNAME b.other.", "--", soa}, "ask b.other.", 0},
		{"loop of one", 0, []string{"a.test. 50 CNAME a.test."}, "CNAME loop", 0},
		{"loop of two", 0, []string{"a.test. 50 CNAME b.test.", "b.test. 50 CNAME A.test."}, "CNAME loop", 0},
		{"8 links", 0, append(links(8), "c8.test. 600 MX 1 m.test."), "c8.test. 1", 600 * time.Second},
		{"9 links", 0, append(links(9), "c9.test. 600 MX 1 m.test."), "more than 8 CNAMEs", 0},
		{"RFC 2317 name", 0, []string{"a.test. 50 CNAME 1.0/25.2.0.192.in-addr.arpa.", "1.0/25.2.0.192.in-addr.arpa. 60 MX 1 m.test."}, "1.0/25.2.0.192.in-addr.arpa. 1", 50 * time.Second},

		{"others' records too", 0, []string{"p.test. 1 MX 1 evil.test.", "a.test. 300 MX 1 m.test.", "m.test. 1 A 192.0.2.1"}, "a.test. 1", 300 * time.Second},
		{"only others' records", 0, []string{"p.test. 1 MX 1 evil.test."}, "the answer has no records of the question", 0},
		{"only another type", 0, []string{"a.test. 300 A 192.0.2.1"}, "the answer has no records of the question", 0},
		{"another class", 0, []string{"a.test. 300 CH MX 1 m.test."}, "the answer has no records of the question", 0},
		{"referral", 0, []string{"--", ". 300 NS ns.test."}, "lame", 0},
		{"SERVFAIL", dns.RcodeServerFailure, nil, "SERVFAIL", 0},
		{"REFUSED with records", dns.RcodeRefused, []string{"a.test. 300 MX 1 m.test."}, "REFUSED", 0},
		{"NOTIMP", dns.RcodeNotImplemented, nil, "NOTIMP", 0},
		{"FORMERR", dns.RcodeFormatError, nil, "FORMERR", 0},
		{"unknown code", 12, nil, "RCODE 12", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ttl := conclude(reply(t, tt.rcode, tt.lines...))
			if got != tt.want && !(tt.want == "lame" && strings.HasPrefix(got, "lame")) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if ttl != tt.ttl {
				t.Errorf("TTL %v, want %v", ttl, tt.ttl)
			}
		})
	}
}

func conclude(m *dns.Msg) (string, time.Duration) {
	q := question{"a.test.", dns.TypeMX}
	if err := sound(m, q); err != nil {
		return err.Error(), 0
	}
	c := newChain(q)
	a, done, err := c.read(m, true)
	switch {
	case err != nil:
		return err.Error(), 0
	case !done:
		return "ask " + c.end(), 0
	case a.no != nil:
		return a.canonical + " " + a.no.Error(), a.ttl
	}
	return fmt.Sprint(a.canonical, " ", len(a.records)), a.ttl
}

func TestEmptyReplyOfAServerThatDoesNotRecurse(t *testing.T) {
	m := reply(t, 0)
	m.RecursionAvailable = false
	if err := sound(m, question{"a.test.", dns.TypeMX}); !errors.Is(err, errLame) {
		t.Errorf("got %v, want lame", err)
	}
	m.Authoritative = true
	if err := sound(m, question{"a.test.", dns.TypeMX}); err != nil {
		t.Errorf("authoritative: %v", err)
	}
}

func TestRecordWithoutData(t *testing.T) {
	m := reply(t, 0, "a.test. 300 MX 1 m.test.")
	m.Answer[0].Header().Rdlength = 0
	if err := sound(m, question{"a.test.", dns.TypeMX}); !errors.Is(err, errUnrelated) {
		t.Errorf("got %v", err)
	}
}

// A chain is as authentic as its weakest link, wherever that stands.
func TestChainIsAuthenticAsAWhole(t *testing.T) {
	for _, links := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		c := newChain(question{"a.test.", dns.TypeMX})
		if _, done, err := c.read(reply(t, 0, "a.test. 9 CNAME b.other."), links[0]); done || err != nil {
			t.Fatal(done, err)
		}
		a, done, err := c.read(reply(t, 0, "b.other. 60 MX 1 m.test."), links[1])
		if !done || err != nil || a.authentic != (links[0] && links[1]) || a.ttl != 9*time.Second {
			t.Errorf("%v: %+v, %v", links, a, err)
		}
	}
}

func TestExtendedError(t *testing.T) {
	m := reply(t, dns.RcodeServerFailure)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus, ExtraText: "anything\r\n"}}
	err := sound(onTheWire(t, m), question{"a.test.", dns.TypeMX})
	if err == nil || err.Error() != "SERVFAIL (DNSSEC Bogus)" {
		t.Errorf("got %q", err)
	}
}

func TestMatches(t *testing.T) {
	query := question{"a.test.", dns.TypeMX}.message()
	good := func() *dns.Msg { return new(dns.Msg).SetReply(query) }
	if m := good(); !matches(query, m) {
		t.Error("the right reply does not match")
	}
	for name, change := range map[string]func(m *dns.Msg){
		"ID":           func(m *dns.Msg) { m.Id++ },
		"query":        func(m *dns.Msg) { m.Response = false },
		"opcode":       func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"no question":  func(m *dns.Msg) { m.Question = nil },
		"two":          func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"name":         func(m *dns.Msg) { m.Question = []dns.Question{{Name: "b.test.", Qtype: dns.TypeMX, Qclass: 1}} },
		"type":         func(m *dns.Msg) { m.Question = []dns.Question{{Name: "a.test.", Qtype: dns.TypeA, Qclass: 1}} },
		"class":        func(m *dns.Msg) { m.Question = []dns.Question{{Name: "a.test.", Qtype: dns.TypeMX, Qclass: 3}} },
		"longer name":  func(m *dns.Msg) { m.Question = []dns.Question{{Name: "x.a.test.", Qtype: dns.TypeMX, Qclass: 1}} },
		"escaped name": func(m *dns.Msg) { m.Question = []dns.Question{{Name: `a\.test.`, Qtype: dns.TypeMX, Qclass: 1}} },
	} {
		m := good()
		change(m)
		if matches(query, m) {
			t.Errorf("%s: a wrong reply matches", name)
		}
	}
	m := good()
	m.Question[0].Name = "A.tEsT."
	if !matches(query, m) {
		t.Error("case matters")
	}
}

func FuzzReply(f *testing.F) {
	query := question{"a.test.", dns.TypeMX}.message()
	query.Id = 1
	for _, text := range []string{"a.test. 300 MX 1 m.test.", "a.test. 1 CNAME b.test.", "a.test. 1 CNAME a.test."} {
		m := new(dns.Msg).SetReply(query)
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = []dns.RR{rr}
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) < 12 {
			return
		}
		m := read(packet, query)
		if m == nil || m.Truncated {
			return
		}
		q := question{"a.test.", dns.TypeMX}
		if sound(m, q) != nil {
			return
		}
		c := newChain(q)
		a, done, err := c.read(m, true)
		if len(c.names) > maxChain+1 {
			t.Fatalf("chain of %d names", len(c.names))
		}
		if err != nil || !done {
			return
		}
		if (a.no == nil) != (len(a.records) > 0) {
			t.Fatalf("%d records and %v", len(a.records), a.no)
		}
		for _, rr := range a.records {
			_ = rr.(*dns.MX)
		}
	})
}
