package dnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Server answers from its zones until Close. All methods may be called from
// any goroutine.
type Server struct {
	addr      string
	listeners [2]*dns.Server
	closed    chan struct{}
	closing   sync.Once
	authentic atomic.Bool

	mu      sync.Mutex
	zones   *zones
	faults  map[faulty]Fault
	delays  map[string]time.Duration
	gates   map[string]*gate
	queries map[query]int
}

// query is what is counted.
type query struct{ network, name, qtype string }

// TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start serves the zones until the test ends.
func Start(t TB, text ...string) *Server {
	t.Helper()
	s, err := New(text...)
	if err != nil {
		t.Fatalf("start DNS server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Fatalf("stop DNS server: %v", err)
		}
	})
	return s
}

// New serves the zones on a free port of 127.0.0.1.
func New(text ...string) (*Server, error) { return Listen("127.0.0.1:0", text...) }

// Listen serves the zones on address, over UDP and TCP. Port 0 takes one that
// is free for both.
func Listen(address string, text ...string) (*Server, error) {
	z, err := parse(text...)
	if err != nil {
		return nil, err
	}
	tcp, udp, err := listenBoth(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	s := &Server{
		addr:    tcp.Addr().String(),
		closed:  make(chan struct{}),
		zones:   z,
		faults:  map[faulty]Fault{},
		delays:  map[string]time.Duration{},
		gates:   map[string]*gate{},
		queries: map[query]int{},
	}
	s.listeners = [2]*dns.Server{
		{PacketConn: udp, Net: "udp", Handler: s.handler("udp")},
		{Listener: tcp, Net: "tcp", Handler: s.handler("tcp")},
	}
	for _, l := range s.listeners {
		started := make(chan struct{})
		l.NotifyStartedFunc = func() { close(started) }
		go l.ActivateAndServe() //nolint:errcheck // it ends with Close, whose error is reported
		<-started
	}
	return s, nil
}

// listenBoth takes a TCP port and the UDP port of the same number. The port
// the kernel chose for TCP may be taken for UDP: then another one is tried.
func listenBoth(address string) (net.Listener, net.PacketConn, error) {
	var failed error
	for range 16 {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp, nil
		}
		tcp.Close()
		failed = err
	}
	return nil, nil, failed
}

// Addr is the address of the server, host:port, the same for UDP and TCP.
func (s *Server) Addr() string { return s.addr }

// Close stops the server. Queries that are held get no answer.
func (s *Server) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.closed)
		for _, l := range s.listeners {
			err = errors.Join(err, l.Shutdown())
		}
	})
	return err
}

// Dial connects to the server in memory. Its signature is that of
// net.Dialer.DialContext; address is ignored. Messages have the two-octet
// length of TCP (RFC 1035 §4.2.2) for network "udp" too, but there the size
// limit of UDP holds. Close does not end the connection: its client does.
func (s *Server) Dial(_ context.Context, network, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		conn := &dns.Conn{Conn: server}
		for {
			request, err := conn.ReadMsg()
			if err != nil {
				return
			}
			if reply := s.reply(network, request, nil); reply != nil && conn.WriteMsg(reply) != nil {
				return
			}
		}
	}()
	return client, nil
}

// Replace exchanges all zones. On an error the old ones stay.
func (s *Server) Replace(text ...string) error {
	z, err := parse(text...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = z
	return nil
}

// Set replaces the record sets that the text mentions: all records of the
// same name and type.
func (s *Server) Set(text string) error {
	z, err := parse(text)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = s.zones.merged(z)
	return nil
}

// Remove deletes all records of a name.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = s.zones.without(canonical(name))
}

// SetAuthentic sets the AD bit in answers from now on, as a validating
// resolver does.
func (s *Server) SetAuthentic(on bool) { s.authentic.Store(on) }

// Queries is how often name was asked for the type, for example "MX". An empty
// type counts all types. Queries that got no answer count too.
func (s *Server) Queries(name, qtype string) int {
	return s.QueriesOver("udp", name, qtype) + s.QueriesOver("tcp", name, qtype)
}

// QueriesOver is Queries for one network, "udp" or "tcp".
func (s *Server) QueriesOver(network, name, qtype string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for q, count := range s.queries {
		if q.network == network && q.name == canonical(name) && (qtype == "" || q.qtype == qtype) {
			n += count
		}
	}
	return n
}

func (s *Server) handler(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, request *dns.Msg) {
		if reply := s.reply(network, request, s.closed); reply != nil {
			// A client that has gone away is its own affair.
			_ = w.WriteMsg(reply)
		}
	}
}

// canonical is the form of names in all maps: lower case, with the last dot.
func canonical(name string) string { return dns.CanonicalName(name) }
