package delivery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/smtp"
)

// resolver is what delivery asks of the DNS.
type resolver interface {
	Hosts(ctx context.Context, domain string, rng *rand.Rand) ([]dnsx.Host, error)
	Addrs(ctx context.Context, host string) (dnsx.AddrAnswer, error)
}

// target is one address of one host.
type target struct {
	host string // name for the certificate and for people; the address itself where there is none
	addr netip.AddrPort
}

// mta is the target as records name it: "mx.test [192.0.2.1]".
func (t target) mta() string {
	literal := "[" + t.addr.Addr().String() + "]"
	if t.host == t.addr.Addr().String() {
		return literal
	}
	return t.host + " " + literal
}

// finder finds the hosts of a next hop and refuses those that are ourselves.
type finder struct {
	dns   resolver
	self  self
	avoid *ailing
}

// errNowhere is a host whose addresses cannot be a mail server's.
var errNowhere = errors.New("address is not one to send mail to")

// targets yields the addresses to try, in order (RFC 5321 §5.1), each with a
// nil error, and between them what went wrong with a host: a *smtp.Error. An
// address that did not answer lately comes after its equals.
func (f *finder) targets(ctx context.Context, hop NextHop) iter.Seq2[target, error] {
	return func(yield func(target, error) bool) {
		hosts, err := f.hosts(ctx, hop)
		if err != nil {
			yield(target{}, err)
			return
		}
		for len(hosts) > 0 {
			equals := 1
			for equals < len(hosts) && hosts[equals].Preference == hosts[0].Preference {
				equals++
			}
			targets, troubles := f.addresses(ctx, hosts[:equals], hop)
			hosts = hosts[equals:]
			loop := false
			for _, err := range troubles {
				if !yield(target{}, err) {
					return
				}
				loop = loop || isLoop(err)
			}
			if loop { // equals are not tried either, nor what is less preferred
				return
			}
			for _, t := range f.avoid.last(targets) {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

// hosts are those of the next hop. Where our own name is among the MXs, it
// and all that are not preferred to it are dropped: mail only ever moves
// towards more preferred hosts.
func (f *finder) hosts(ctx context.Context, hop NextHop) ([]dnsx.Host, error) {
	if !hop.ByMX() {
		return []dnsx.Host{{Name: hop.Host}}, nil
	}
	hosts, err := f.dns.Hosts(ctx, hop.Destination, nil)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		if !strings.EqualFold(h.Name, f.self.name) {
			continue
		}
		hosts = preferred(hosts, h.Preference)
		break
	}
	if len(hosts) == 0 {
		return nil, smtp.Refuse(smtp.ReplyMailLoop, errors.New("this relay is the best MX of "+hop.Destination))
	}
	return hosts, nil
}

// preferred are the hosts with a preference below limit; hosts is sorted.
func preferred(hosts []dnsx.Host, limit uint16) []dnsx.Host {
	for i, h := range hosts {
		if h.Preference >= limit {
			return hosts[:i]
		}
	}
	return hosts
}

// addresses resolves hosts of one preference.
func (f *finder) addresses(ctx context.Context, hosts []dnsx.Host, hop NextHop) (targets []target, troubles []error) {
	for _, h := range hosts {
		found, err := f.lookup(ctx, h.Name, hop)
		if err != nil {
			troubles = append(troubles, err)
			continue
		}
		for _, ip := range interleave(found) {
			t := target{host: h.Name, addr: netip.AddrPortFrom(ip, hop.Port)}
			switch {
			case f.self.listens(t.addr):
				troubles = append(troubles, loopError(hop, t))
			case nowhere(ip):
				troubles = append(troubles, smtp.Refuse(smtp.ReplyNoRoute, fmt.Errorf("%s: %w", t.mta(), errNowhere)))
			default:
				targets = append(targets, t)
			}
		}
	}
	return targets, troubles
}

// lookup gives the addresses of a host. What is wrong with a host that the
// operator named is his mistake: it delays, it does not bounce.
func (f *finder) lookup(ctx context.Context, host string, hop NextHop) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	answer, err := f.dns.Addrs(ctx, host)
	switch {
	case err == nil:
		return answer.Addrs, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case hop.Routed || dnsx.Temporary(err):
		return nil, smtp.Refuse(smtp.ReplyDNSTrouble, err)
	}
	return nil, smtp.Refuse(smtp.ReplyNoRoute, err)
}

func loopError(hop NextHop, t target) error {
	reply := smtp.ReplyMailLoop
	if hop.Routed {
		reply = replyRouteLoop
	}
	return smtp.Refuse(reply, fmt.Errorf("%s port %d is a listener of this relay", t.mta(), t.addr.Port()))
}

func isLoop(err error) bool {
	reply := smtp.ReplyOf(err, smtp.Reply{})
	return reply == smtp.ReplyMailLoop || reply == replyRouteLoop
}

// nowhere reports addresses that belong to no mail server: what the DNS says
// must not make us talk to the metadata service of a cloud or to a whole
// network. Private and loopback addresses are not among them: a campus has
// mail servers there, and its own resolver decides who may name them.
func nowhere(ip netip.Addr) bool {
	return ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() ||
		ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// interleave alternates between IPv6 and IPv4, so that a network without one
// of them costs one connect timeout and not one for each address.
func interleave(ips []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, ip := range ips {
		family := 0
		if ip.Is4() {
			family = 1
		}
		families[family] = append(families[family], ip)
	}
	out := make([]netip.Addr, 0, len(ips))
	for i := range max(len(families[0]), len(families[1])) {
		for _, family := range families {
			if i < len(family) {
				out = append(out, family[i])
			}
		}
	}
	return out
}

// self is what other hosts would call us.
type self struct {
	name      string
	listeners []netip.AddrPort // an unspecified address means every local one
	local     map[netip.Addr]bool
}

// newSelf reads our listeners. Names in their addresses are not resolved, and
// a listener on port 0 is not known.
func newSelf(c *config.Config) self {
	s := self{name: c.Relay.Hostname, local: map[netip.Addr]bool{}}
	for _, l := range c.Listeners {
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			continue
		}
		ip := netip.IPv6Unspecified()
		if host != "" {
			if ip, err = netip.ParseAddr(host); err != nil {
				continue
			}
		}
		s.listeners = append(s.listeners, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	addrs, _ := net.InterfaceAddrs() // without them the loopback is still known
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			s.local[prefix.Addr().Unmap()] = true
		}
	}
	return s
}

// listens reports that a connection to addr would reach one of our listeners.
func (s *self) listens(addr netip.AddrPort) bool {
	ip := addr.Addr().Unmap()
	for _, l := range s.listeners {
		if l.Port() != addr.Port() {
			continue
		}
		if l.Addr() == ip || l.Addr().IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified() || s.local[ip]) {
			return true
		}
	}
	return false
}
