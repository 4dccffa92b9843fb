package dnsx

import (
	"net/netip"
	"strings"
	"time"
)

// Meta is what every answer says about itself.
type Meta struct {
	// Canonical is the name at the end of the CNAME chain, in presentation
	// form without its last dot: for logs, and for the TLSA base domain.
	Canonical string
	// Authentic: a validating resolver at a loopback address vouched for the
	// answer and for all CNAMEs that led to it.
	Authentic bool
	// TTL is how long the answer holds from now on; 0 when it is stale.
	TTL time.Duration
	// Stale: the answer is past its end, because the servers fail.
	Stale bool
}

// MX is one MX record (RFC 1035 §3.3.9).
type MX struct {
	// Host is a host name without its last dot, or "." (RFC 7505).
	Host string
	// Preference: lower is tried first.
	Preference uint16
}

// MXAnswer is the MX records of a domain, in the order of the reply.
type MXAnswer struct {
	Meta
	// Records may be empty: then no record names anything that can be a host.
	Records []MX
}

// AddrAnswer is the addresses of a host, each once, IPv6 first, otherwise in the
// order of the replies. IPv4-mapped IPv6 addresses are given as IPv4, so that
// nobody hides 127.0.0.1 from a check.
type AddrAnswer struct {
	Meta
	Addrs []netip.Addr
	// Missing is the trouble with one of the two queries, A or AAAA, when
	// only the other one was answered; nil when Addrs are all there are.
	Missing error
}

// PTRAnswer is the names of an address, in the order of the reply.
type PTRAnswer struct {
	Meta
	Names []string
}

// TXTAnswer is the texts of a name, the strings of each record joined (RFC
// 7208 §3.3), octets as they are.
type TXTAnswer struct {
	Meta
	Texts []string
}

// meta is what an entry says about itself at the time now.
func (e entry) meta(now time.Time) Meta {
	m := Meta{
		Canonical: trimDot(e.answer.canonical),
		Authentic: e.answer.authentic,
		TTL:       max(0, e.until.Sub(now)),
		Stale:     e.stale,
	}
	if e.stale {
		m.TTL = 0
	}
	return m
}

// unescape undoes the presentation form in which the library gives the strings
// of TXT records: \DDD and \X (RFC 1035 §5.1).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			out = append(out, (s[i]-'0')*100+(s[i+1]-'0')*10+s[i+2]-'0')
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return string(out)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
