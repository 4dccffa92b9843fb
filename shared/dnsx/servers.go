package dnsx

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// restTime is how long a server that did not answer is asked last.
	restTime = 30 * time.Second
	// reloadTime is how often the system's configuration is looked at.
	reloadTime = 5 * time.Second
)

// server is one recursive resolver.
type server struct {
	address string
	// trusted: its AD bit is believed.
	trusted bool
	// resting is the time, in Unix nanoseconds, until which it is asked last.
	resting atomic.Int64
}

func (s *server) rest(now time.Time)         { s.resting.Store(now.Add(restTime).UnixNano()) }
func (s *server) wake()                      { s.resting.Store(0) }
func (s *server) isResting(t time.Time) bool { return t.UnixNano() < s.resting.Load() }

// configured makes the servers that Config names. Only a server at a loopback
// address is trusted.
func configured(addresses []string) ([]*server, error) {
	var list []*server
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("read DNS server: %w", err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("read DNS server %q: want host:port", address)
		}
		ip, err := netip.ParseAddr(host)
		list = append(list, &server{address: address, trusted: err == nil && ip.Unmap().IsLoopback()})
	}
	return list, nil
}

// inTurn is the order in which servers are asked: as configured, but those
// that did not answer lately come last. Trusted servers stay before the others:
// one slow answer must not cost all others their authenticity.
func inTurn(list []*server, now time.Time) []*server {
	rank := func(s *server) int {
		n := 0
		if !s.trusted {
			n += 2
		}
		if s.isResting(now) {
			n++
		}
		return n
	}
	order := slices.Clone(list)
	slices.SortStableFunc(order, func(a, b *server) int { return rank(a) - rank(b) })
	return order
}

// system are the servers of resolv.conf(5), read again when it changes, as
// under DHCP. A file without servers, or none, means the local machine.
type system struct {
	path string

	mu      sync.Mutex
	looked  time.Time
	changed time.Time
	list    []*server
}

func (s *system) servers(now time.Time) []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil && now.Sub(s.looked) < reloadTime {
		return s.list
	}
	s.looked = now
	var changed time.Time
	if info, err := os.Stat(s.path); err == nil {
		changed = info.ModTime()
	}
	if s.list == nil || !changed.Equal(s.changed) {
		s.changed = changed
		s.list = readSystem(s.path)
	}
	return s.list
}

func readSystem(path string) []*server {
	var list []*server
	if c, err := dns.ClientConfigFromFile(path); err == nil {
		for _, host := range c.Servers {
			list = append(list, &server{address: net.JoinHostPort(host, c.Port)})
		}
	}
	if len(list) == 0 {
		list = []*server{{address: "127.0.0.1:53"}}
	}
	return list
}
