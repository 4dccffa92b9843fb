package dnsx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/postrider/postrider/shared/dnstest"
)

const campus = `
	campus.test        SOA ns.campus.test. hostmaster.campus.test. 1 3600 600 86400 120
	campus.test        600 MX 10 mx1.campus.test
	campus.test        600 MX 20 mx2.campus.test
	mx1.campus.test    A    192.0.2.1
	mx1.campus.test    AAAA 2001:db8::1
	mx2.campus.test    A    192.0.2.2
	www.campus.test    CNAME mx1.campus.test
	loop.campus.test   CNAME pool.campus.test
	pool.campus.test   CNAME loop.campus.test
	bad.campus.test    MX 10 10.0.0.1.
	bad.campus.test    MX 20 a\032b.campus.test
	bad.campus.test    MX 30 mx1.campus.test
	mapped.campus.test AAAA ::ffff:127.0.0.1
	mapped.campus.test A    127.0.0.1
	text.campus.test   TXT "v=spf1 " "-all"
	xn--mnchen-3ya.test MX 10 mx1.campus.test
	1.2.0.192.in-addr.arpa PTR mx1.campus.test
	1.2.0.192.in-addr.arpa PTR evil\013name.campus.test.
	2.2.0.192.in-addr.arpa CNAME 2.0/25.2.0.192.in-addr.arpa
	2.0/25.2.0.192.in-addr.arpa PTR MX2.campus.test
	1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR mx1.campus.test
`

// open makes a resolver; servers without a Dial are asked over sockets.
func open(t *testing.T, c Config) *Resolver {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// inMemory makes a resolver inside a bubble, whose time is the test's.
func inMemory(t *testing.T, s *dnstest.Server) *Resolver {
	t.Helper()
	return open(t, Config{Servers: []string{"127.0.0.1:53"}, Dial: s.Dial})
}

func TestAnswers(t *testing.T) {
	s := dnstest.Start(t, campus)
	r := open(t, Config{Servers: []string{s.Addr()}})
	ctx := t.Context()

	mx, err := r.MX(ctx, "Campus.Test.")
	if err != nil || !slices.Equal(mx.Records, []MX{{"mx1.campus.test", 10}, {"mx2.campus.test", 20}}) || mx.Canonical != "campus.test" {
		t.Errorf("MX: %+v, %v", mx, err)
	}
	if mx.TTL <= 0 || mx.TTL > 600*time.Second || mx.Stale || mx.Authentic {
		t.Errorf("MX: %+v", mx.Meta)
	}
	if mx, err := r.MX(ctx, "münchen.test"); err != nil || len(mx.Records) != 1 {
		t.Errorf("IDNA: %+v, %v", mx, err)
	}
	if mx, err := r.MX(ctx, "bad.campus.test"); err != nil || !slices.Equal(mx.Records, []MX{{"mx1.campus.test", 30}}) {
		t.Errorf("MX that name no host: %+v, %v", mx, err)
	}
	if txt, err := r.TXT(ctx, "text.campus.test"); err != nil || !slices.Equal(txt.Texts, []string{"v=spf1 -all"}) {
		t.Errorf("TXT: %+v, %v", txt, err)
	}
	for host, want := range map[string]string{
		"mx1.campus.test":    "[2001:db8::1 192.0.2.1]",
		"www.campus.test":    "[2001:db8::1 192.0.2.1]",
		"mx2.campus.test":    "[192.0.2.2]",
		"mapped.campus.test": "[127.0.0.1]",
		"localhost":          "[::1 127.0.0.1]",
		"a.LocalHost.":       "[::1 127.0.0.1]",
	} {
		if a, err := r.Addrs(ctx, host); err != nil || fmt.Sprint(a.Addrs) != want || a.Missing != nil {
			t.Errorf("Addrs %s: %+v, %v; want %s", host, a, err, want)
		}
	}
	if a, err := r.Addrs(ctx, "www.campus.test"); err != nil || a.Canonical != "mx1.campus.test" {
		t.Errorf("canonical name: %+v, %v", a, err)
	}
	if n := s.Queries("localhost", "") + s.Queries("a.localhost", ""); n != 0 {
		t.Errorf("localhost was asked for %d times", n)
	}
	for addr, want := range map[string]string{
		"192.0.2.1":        "[mx1.campus.test]",
		"::ffff:192.0.2.1": "[mx1.campus.test]",
		"192.0.2.2":        "[mx2.campus.test]",
		"2001:db8::1%eth0": "[mx1.campus.test]",
	} {
		if p, err := r.PTR(ctx, netip.MustParseAddr(addr)); err != nil || fmt.Sprint(p.Names) != want {
			t.Errorf("PTR %s: %+v, %v; want %s", addr, p, err, want)
		}
	}
	if _, err := r.PTR(ctx, netip.Addr{}); !errors.Is(err, ErrName) {
		t.Errorf("PTR of no address: %v", err)
	}
	if _, err := r.MX(ctx, "a..b"); !errors.Is(err, ErrName) || Temporary(err) {
		t.Errorf("bad name: %v", err)
	}
}

func TestFailures(t *testing.T) {
	s := dnstest.Start(t, campus)
	for _, tt := range []struct {
		name  string
		fault dnstest.Fault
		// want is part of a temporary error; empty: the records come.
		want string
		// udp and tcp are the queries that were sent.
		udp, tcp int
	}{
		{"none", dnstest.NoFault, "", 1, 0},
		{"SERVFAIL", dnstest.ServFail, "SERVFAIL", 1, 0},
		{"REFUSED", dnstest.Refused, "REFUSED", 1, 0},
		{"NOTIMP", dnstest.NotImplemented, "NOTIMP", 1, 0},
		{"lame", dnstest.Lame, "lame", 1, 0},
		{"silent", dnstest.Silent, "no answer in time", 2, 0},
		{"wrong question", dnstest.WrongQuestion, "no answer in time", 2, 0},
		{"wrong ID", dnstest.WrongID, "no answer in time", 2, 0},
		{"garbage", dnstest.Garbage, "no answer in time", 2, 0},
		{"truncated", dnstest.Truncated, "", 1, 1},
		{"truncated, silent over TCP", dnstest.TruncatedSilent, "over TCP: no answer in time", 2, 2},
		{"extra records", dnstest.Extra, "", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Fail("campus.test", tt.fault)
			udp, tcp := s.QueriesOver("udp", "campus.test", "MX"), s.QueriesOver("tcp", "campus.test", "MX")
			synctest.Test(t, func(t *testing.T) {
				mx, err := inMemory(t, s).MX(t.Context(), "campus.test")
				if tt.want == "" {
					if err != nil || len(mx.Records) != 2 {
						t.Errorf("got %+v, %v", mx, err)
					}
					return
				}
				var temporary *TemporaryError
				if !errors.As(err, &temporary) || !Temporary(err) || !strings.Contains(err.Error(), tt.want) || temporary.Question != "MX campus.test" {
					t.Errorf("got %+v, %v; want %q", mx, err, tt.want)
				}
			})
			if n := s.QueriesOver("udp", "campus.test", "MX") - udp; n != tt.udp {
				t.Errorf("%d queries over UDP, want %d", n, tt.udp)
			}
			if n := s.QueriesOver("tcp", "campus.test", "MX") - tcp; n != tt.tcp {
				t.Errorf("%d queries over TCP, want %d", n, tt.tcp)
			}
		})
	}
}

func TestDefiniteNo(t *testing.T) {
	s := dnstest.Start(t, campus)
	r := open(t, Config{Servers: []string{s.Addr()}})
	if _, err := r.MX(t.Context(), "nowhere.test"); !errors.Is(err, ErrNotExist) || Temporary(err) {
		t.Errorf("NXDOMAIN: %v", err)
	}
	if _, err := r.MX(t.Context(), "mx1.campus.test"); !errors.Is(err, ErrNoData) || Temporary(err) {
		t.Errorf("no data: %v", err)
	}
	if _, err := r.Addrs(t.Context(), "nowhere.test"); !errors.Is(err, ErrNotExist) {
		t.Errorf("addresses, NXDOMAIN: %v", err)
	}
	if _, err := r.Addrs(t.Context(), "campus.test"); !errors.Is(err, ErrNoData) {
		t.Errorf("addresses, no data: %v", err)
	}
	if _, err := r.Addrs(t.Context(), "loop.campus.test"); !Temporary(err) || !errors.Is(err, errLoop) {
		t.Errorf("CNAME loop: %v", err)
	}
}

// The answer of 40 MX does not fit into a datagram.
func TestTruncated(t *testing.T) {
	var zone strings.Builder
	for i := range 40 {
		fmt.Fprintf(&zone, "many.test MX %d mx-number-%d-with-a-very-long-name-indeed.many-%d.test\n", i, i, i)
	}
	s := dnstest.Start(t, zone.String())
	r := open(t, Config{Servers: []string{s.Addr()}})
	mx, err := r.MX(t.Context(), "many.test")
	if err != nil || len(mx.Records) != 40 {
		t.Errorf("%d records, %v", len(mx.Records), err)
	}
	if s.QueriesOver("udp", "many.test", "MX") != 1 || s.QueriesOver("tcp", "many.test", "MX") != 1 {
		t.Error("not asked once over UDP and once over TCP")
	}
}

// An authoritative server gives a chain as far as its own zones go.
func TestChainIsAskedToItsEnd(t *testing.T) {
	s := dnstest.Start(t, campus, "step.test CNAME next.test\nnext.test CNAME campus.test")
	s.Fail("step.test", dnstest.OneLink)
	s.Fail("next.test", dnstest.OneLink)
	s.Fail("loop.campus.test", dnstest.OneLink)
	s.Fail("pool.campus.test", dnstest.OneLink)
	r := open(t, Config{Servers: []string{s.Addr()}})
	mx, err := r.MX(t.Context(), "step.test")
	if err != nil || len(mx.Records) != 2 || mx.Canonical != "campus.test" {
		t.Errorf("got %+v, %v", mx, err)
	}
	for _, name := range []string{"step.test", "next.test", "campus.test"} {
		if n := s.Queries(name, "MX"); n != 1 {
			t.Errorf("%s was asked for %d times", name, n)
		}
	}
	if _, err := r.MX(t.Context(), "loop.campus.test"); !errors.Is(err, errLoop) {
		t.Errorf("loop: %v", err)
	}
}

func TestAuthentic(t *testing.T) {
	s := dnstest.Start(t, campus)
	s.SetAuthentic(true)
	for _, tt := range []struct {
		server string
		want   bool
	}{
		{"127.0.0.1:53", true}, {"[::1]:53", true}, {"[::ffff:127.0.0.1]:53", true},
		{"192.0.2.53:53", false}, {"localhost:53", false},
	} {
		r := open(t, Config{Servers: []string{tt.server}, Dial: s.Dial})
		mx, err := r.MX(t.Context(), "campus.test")
		if err != nil || mx.Authentic != tt.want {
			t.Errorf("%s: MX authentic %v, %v; want %v", tt.server, mx.Authentic, err, tt.want)
		}
		a, err := r.Addrs(t.Context(), "mx1.campus.test")
		if err != nil || a.Authentic != tt.want {
			t.Errorf("%s: addresses authentic %v, %v; want %v", tt.server, a.Authentic, err, tt.want)
		}
	}
}

// Whoever knows the port of a query may send before the server does.
func TestForgedRepliesBeforeTheRightOne(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		packet := make([]byte, 1500)
		n, client, err := socket.ReadFrom(packet)
		if err != nil {
			return
		}
		query := new(dns.Msg)
		if query.Unpack(packet[:n]) != nil {
			return
		}
		send := func(host string, change func(m *dns.Msg)) {
			m := new(dns.Msg).SetReply(query)
			m.Answer = []dns.RR{&dns.MX{
				Hdr: dns.RR_Header{Name: "campus.test.", Rrtype: dns.TypeMX, Class: dns.ClassINET, Ttl: 60},
				Mx:  host,
			}}
			change(m)
			if out, err := m.Pack(); err == nil {
				socket.WriteTo(out, client)
			}
		}
		socket.WriteTo([]byte{0}, client)
		socket.WriteTo([]byte("a forger's packet without sense"), client)
		send("evil.test.", func(m *dns.Msg) { m.Id++ })
		send("evil.test.", func(m *dns.Msg) { m.Question[0].Name = "other.test." })
		send("evil.test.", func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeNameError, nil })
		send("mx.campus.test.", func(*dns.Msg) {})
	}()
	r := open(t, Config{Servers: []string{socket.LocalAddr().String()}, Attempts: 1, Timeout: time.Hour})
	mx, err := r.MX(t.Context(), "campus.test")
	if err != nil || !slices.Equal(mx.Records, []MX{{"mx.campus.test", 0}}) {
		t.Errorf("got %+v, %v", mx, err)
	}
}

func TestPartialAddresses(t *testing.T) {
	boom := &TemporaryError{"AAAA a.test", errTimeout}
	one := AddrAnswer{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	six := AddrAnswer{Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	secure := AddrAnswer{Meta{Authentic: true}, six.Addrs, nil}
	for _, answers := range [][2]AddrAnswer{{secure, one}, {one, secure}} {
		if a, err := both(answers[0], nil, answers[1], nil); err != nil || a.Authentic {
			t.Errorf("authentic by one half: %+v, %v", a, err)
		}
	}
	for _, tt := range []struct {
		name       string
		v6         AddrAnswer
		err6       error
		v4         AddrAnswer
		err4       error
		addrs      int
		missing    error
		want, deny error
	}{
		{"both", six, nil, one, nil, 2, nil, nil, nil},
		{"A only", AddrAnswer{}, ErrNoData, one, nil, 1, nil, nil, nil},
		{"AAAA denies the name", AddrAnswer{}, ErrNotExist, one, nil, 1, nil, nil, nil},
		{"AAAA fails", AddrAnswer{}, boom, one, nil, 1, boom, nil, nil},
		{"A fails", six, nil, AddrAnswer{}, boom, 1, boom, nil, nil},
		{"no data and failure", AddrAnswer{}, boom, AddrAnswer{}, ErrNoData, 0, nil, boom, ErrNoData},
		{"denied and failure", AddrAnswer{}, ErrNotExist, AddrAnswer{}, boom, 0, nil, boom, ErrNotExist},
		{"denied and no data", AddrAnswer{}, ErrNotExist, AddrAnswer{}, ErrNoData, 0, nil, ErrNoData, ErrNotExist},
		{"no data and denied", AddrAnswer{}, ErrNoData, AddrAnswer{}, ErrNotExist, 0, nil, ErrNoData, ErrNotExist},
		{"denied", AddrAnswer{}, ErrNotExist, AddrAnswer{}, ErrNotExist, 0, nil, ErrNotExist, ErrNoData},
	} {
		a, err := both(tt.v6, tt.err6, tt.v4, tt.err4)
		if len(a.Addrs) != tt.addrs || a.Missing != tt.missing || !errors.Is(err, tt.want) || tt.deny != nil && errors.Is(err, tt.deny) {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
}

func TestCancelIsObeyedAtOnce(t *testing.T) {
	s := dnstest.Start(t, campus)
	arrived, release := s.Hold("campus.test")
	defer release()
	// Only the cancellation can end this wait before the test's own limit.
	r := open(t, Config{Servers: []string{s.Addr()}, Timeout: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := r.Hosts(ctx, "campus.test", nil)
		failed <- err
	}()
	<-arrived
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) || !Temporary(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.MX(ctx, "campus.test"); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	s := dnstest.Start(t, campus)
	arrived, release := s.Hold("campus.test")
	defer release()
	r := open(t, Config{Servers: []string{s.Addr()}, Timeout: time.Hour})
	failed := make(chan error)
	go func() {
		_, err := r.MX(t.Context(), "campus.test")
		failed <- err
	}()
	<-arrived
	r.Close()
	if err := <-failed; !Temporary(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Clients with many names cost waiting, not sockets.
func TestLookupsUnderWayAreBounded(t *testing.T) {
	s := dnstest.Start(t, "*.many.test TXT x")
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var dials atomic.Int32
		r := open(t, Config{Servers: []string{"127.0.0.1:53"}, Timeout: time.Hour, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			<-gate
			return s.Dial(ctx, network, address)
		}})
		var wg sync.WaitGroup
		for i := range maxUnderWay + 100 {
			wg.Go(func() {
				if _, err := r.TXT(t.Context(), fmt.Sprintf("n%d.many.test", i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := dials.Load(); n != maxUnderWay {
			t.Errorf("%d connections, want %d", n, maxUnderWay)
		}
		close(gate)
		wg.Wait()
	})
}
