package dnstest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

const zone = `
	campus.test          SOA ns.campus.test. hostmaster.campus.test. 1 3600 600 86400 30
	campus.test          MX  10 mx.campus.test
	mx.campus.test       A   127.0.0.1
	www.campus.test      CNAME alias.campus.test
	alias.campus.test    CNAME mx.campus.test
	gone.campus.test     CNAME nowhere.campus.test
	loop.campus.test     CNAME loop.campus.test
	a.b.campus.test      TXT "deep" "er"
	*.wild.campus.test   MX  5 mx.campus.test
	x.wild.campus.test   A   127.0.0.2
	outside.test         A   127.0.0.3
`

func ask(t *testing.T, s *Server, network, name, qtype string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	m.AuthenticatedData = true
	reply, _, err := (&dns.Client{Net: network}).Exchange(m, s.Addr())
	if err != nil {
		t.Fatalf("%s %s: %v", name, qtype, err)
	}
	return reply
}

func TestAnswers(t *testing.T) {
	s := Start(t, zone)
	for _, tt := range []struct {
		name, qtype string
		rcode       int
		answer      string // owner and data, in order
		soa         string // owner of the SOA in the authority section
	}{
		{"campus.test", "MX", 0, "campus.test. 10 mx.campus.test.", ""},
		{"CAMPUS.test", "MX", 0, "campus.test. 10 mx.campus.test.", ""},
		{"campus.test", "A", 0, "", "campus.test."},
		{"b.campus.test", "A", 0, "", "campus.test."},
		{"a.b.campus.test", "TXT", 0, `a.b.campus.test. "deep" "er"`, ""},
		{"nowhere.campus.test", "A", dns.RcodeNameError, "", "campus.test."},
		{"nowhere.test", "A", dns.RcodeNameError, "", "."},
		{"outside.test", "MX", 0, "", "."},
		{"www.campus.test", "A", 0, "www.campus.test. alias.campus.test., alias.campus.test. mx.campus.test., mx.campus.test. 127.0.0.1", ""},
		{"www.campus.test", "CNAME", 0, "www.campus.test. alias.campus.test.", ""},
		{"gone.campus.test", "A", dns.RcodeNameError, "gone.campus.test. nowhere.campus.test.", "campus.test."},
		{"y.wild.campus.test", "MX", 0, "y.wild.campus.test. 5 mx.campus.test.", ""},
		{"y.wild.campus.test", "A", 0, "", "campus.test."},
		{"z.y.wild.campus.test", "MX", 0, "z.y.wild.campus.test. 5 mx.campus.test.", ""},
		{"x.wild.campus.test", "MX", 0, "", "campus.test."},
		{"y.x.wild.campus.test", "MX", dns.RcodeNameError, "", "campus.test."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, s, network, tt.name, tt.qtype)
			var answer []string
			for _, rr := range m.Answer {
				answer = append(answer, rr.Header().Name+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			soa := ""
			if len(m.Ns) == 1 {
				soa = m.Ns[0].Header().Name
			}
			if got := strings.Join(answer, ", "); m.Rcode != tt.rcode || got != tt.answer || soa != tt.soa {
				t.Errorf("%s %s over %s: rcode %d, answer %q, SOA %q; want %d %q %q",
					tt.name, tt.qtype, network, m.Rcode, got, soa, tt.rcode, tt.answer, tt.soa)
			}
		}
	}
	if m := ask(t, s, "udp", "loop.campus.test", "A"); len(m.Answer) == 0 || len(m.Answer) > maxChain {
		t.Errorf("loop: %d records", len(m.Answer))
	}
}

func TestChanges(t *testing.T) {
	s := Start(t, zone)
	if err := s.Set("mx.campus.test A 127.0.0.9\n mx.campus.test A 127.0.0.10"); err != nil {
		t.Fatal(err)
	}
	if m := ask(t, s, "udp", "mx.campus.test", "A"); len(m.Answer) != 2 {
		t.Errorf("after Set: %v", m.Answer)
	}
	if m := ask(t, s, "udp", "campus.test", "MX"); len(m.Answer) != 1 {
		t.Errorf("Set touched another name: %v", m.Answer)
	}
	s.Remove("MX.campus.test")
	if m := ask(t, s, "udp", "mx.campus.test", "A"); m.Rcode != dns.RcodeNameError {
		t.Errorf("after Remove: %v", m)
	}
	if err := s.Replace("other.test A 127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if m := ask(t, s, "udp", "campus.test", "MX"); m.Rcode != dns.RcodeNameError {
		t.Errorf("after Replace: %v", m)
	}
	if err := s.Replace("other.test A not-an-address"); err == nil {
		t.Error("a broken zone was taken")
	}
	if m := ask(t, s, "udp", "other.test", "A"); len(m.Answer) != 1 {
		t.Errorf("a broken zone replaced the old one: %v", m)
	}
	if n := s.Queries("campus.test", "MX"); n != 2 {
		t.Errorf("%d queries counted, want 2", n)
	}
	if n := s.Queries("mx.campus.test", ""); n != 2 {
		t.Errorf("%d queries counted, want 2", n)
	}
}

func TestFaults(t *testing.T) {
	s := Start(t, zone)
	over := func(network string, f Fault) *dns.Msg {
		s.Fail("campus.test", f)
		m := new(dns.Msg).SetQuestion("campus.test.", dns.TypeMX)
		return s.reply(network, m, nil)
	}
	for f, rcode := range map[Fault]int{
		ServFail: dns.RcodeServerFailure, Refused: dns.RcodeRefused, NotImplemented: dns.RcodeNotImplemented,
	} {
		if m := over("udp", f); m.Rcode != rcode || len(m.Answer) != 0 {
			t.Errorf("fault %d: %v", f, m)
		}
	}
	if m := over("udp", Silent); m != nil {
		t.Errorf("silent: %v", m)
	}
	if m := over("udp", Truncated); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("truncated, UDP: %v", m)
	}
	if m := over("tcp", Truncated); m.Truncated || len(m.Answer) != 1 {
		t.Errorf("truncated, TCP: %v", m)
	}
	if m := over("tcp", TruncatedSilent); m != nil {
		t.Errorf("truncated and silent, TCP: %v", m)
	}
	if m := over("udp", WrongQuestion); m.Question[0].Name != "wrong.campus.test." || len(m.Answer) != 1 {
		t.Errorf("wrong question: %v", m)
	}
	if m := over("udp", Lame); m.Rcode != 0 || len(m.Answer) != 0 || m.Ns[0].Header().Rrtype != dns.TypeNS {
		t.Errorf("lame: %v", m)
	}
	if m := over("udp", Extra); len(m.Answer) != 4 {
		t.Errorf("extra: %v", m)
	}
	s.Fail("www.campus.test", OneLink)
	if m := s.reply("udp", new(dns.Msg).SetQuestion("www.campus.test.", dns.TypeA), nil); len(m.Answer) != 1 || len(m.Ns) != 0 {
		t.Errorf("one link: %v", m)
	}
	packet, err := over("udp", Garbage).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if new(dns.Msg).Unpack(packet) == nil {
		t.Error("garbage can be read")
	}
	if m := over("udp", NoFault); len(m.Answer) != 1 {
		t.Errorf("fault did not end: %v", m)
	}
}

func TestFaultOfOneType(t *testing.T) {
	s := Start(t, zone)
	s.Fail("campus.test", Refused, "A", "AAAA")
	for qtype, want := range map[string]int{"A": dns.RcodeRefused, "AAAA": dns.RcodeRefused, "MX": dns.RcodeSuccess} {
		if m := ask(t, s, "udp", "campus.test", qtype); m.Rcode != want {
			t.Errorf("%s: %v", qtype, m)
		}
	}
}

func TestHold(t *testing.T) {
	s := Start(t, zone)
	arrived, release := s.Hold("campus.test")
	answered := make(chan *dns.Msg)
	go func() {
		m := new(dns.Msg).SetQuestion("campus.test.", dns.TypeMX)
		answered <- s.reply("udp", m, nil)
	}()
	<-arrived
	select {
	case m := <-answered:
		t.Fatalf("answered while held: %v", m)
	default:
	}
	release()
	if m := <-answered; len(m.Answer) != 1 {
		t.Errorf("after release: %v", m)
	}
}

func TestCloseAnswersNothingThatIsHeld(t *testing.T) {
	s, err := New(zone)
	if err != nil {
		t.Fatal(err)
	}
	arrived, _ := s.Hold("campus.test")
	failed := make(chan error)
	go func() {
		client := &dns.Client{Net: "tcp", Timeout: time.Hour}
		_, _, err := client.Exchange(new(dns.Msg).SetQuestion("campus.test.", dns.TypeMX), s.Addr())
		failed <- err
	}()
	<-arrived
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := <-failed; err == nil {
		t.Error("a held query was answered")
	}
}

func TestDialInABubble(t *testing.T) {
	s := Start(t, zone)
	s.Delay("campus.test", time.Hour)
	synctest.Test(t, func(t *testing.T) {
		conn, err := s.Dial(t.Context(), "udp", "anywhere:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		m := new(dns.Msg).SetQuestion("campus.test.", dns.TypeMX)
		c := &dns.Conn{Conn: conn}
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		reply, err := c.ReadMsg()
		if err != nil || len(reply.Answer) != 1 {
			t.Fatalf("got %v, %v", reply, err)
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("answered after %v", took)
		}
	})
}

func TestListenOnATakenPort(t *testing.T) {
	s := Start(t, zone)
	if other, err := Listen(s.Addr(), zone); err == nil {
		other.Close()
		t.Error("two servers on one port")
	}
}

func TestTruncatesToTheAnnouncedSize(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		text.WriteString("many.test TXT " + strings.Repeat(string(rune('a'+i%26)), 60) + "\n")
	}
	s := Start(t, text.String())
	m := new(dns.Msg).SetQuestion("many.test.", dns.TypeTXT)
	if reply := s.reply("udp", m, nil); !reply.Truncated || reply.Len() > dns.MinMsgSize {
		t.Errorf("without EDNS: %d octets, TC %v", reply.Len(), reply.Truncated)
	}
	m.SetEdns0(1232, false)
	if reply := s.reply("udp", m, nil); !reply.Truncated || reply.Len() > 1232 || reply.Len() <= dns.MinMsgSize {
		t.Errorf("with 1232: %d octets, TC %v", reply.Len(), reply.Truncated)
	}
	if reply := s.reply("tcp", m, nil); reply.Truncated || len(reply.Answer) != 40 {
		t.Errorf("TCP: %d records, TC %v", len(reply.Answer), reply.Truncated)
	}
}

func TestAuthentic(t *testing.T) {
	s := Start(t, zone)
	if ask(t, s, "udp", "campus.test", "MX").AuthenticatedData {
		t.Error("AD without SetAuthentic")
	}
	s.SetAuthentic(true)
	if !ask(t, s, "udp", "campus.test", "MX").AuthenticatedData {
		t.Error("no AD after SetAuthentic")
	}
	m := new(dns.Msg).SetQuestion("campus.test.", dns.TypeMX)
	if s.reply("udp", m, nil).AuthenticatedData {
		t.Error("AD for a client that does not know it")
	}
}

func TestDefaultTTL(t *testing.T) {
	s := Start(t, "a.test 7 TXT x\nb.test TXT y", "$TTL 9\nc.test TXT z")
	for name, want := range map[string]uint32{"a.test": 7, "b.test": defaultTTL, "c.test": 9} {
		if m := ask(t, s, "udp", name, "TXT"); m.Answer[0].Header().Ttl != want {
			t.Errorf("%s: TTL %d, want %d", name, m.Answer[0].Header().Ttl, want)
		}
	}
}
