package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Scheme is the protocol towards a next hop and what it asks of TLS.
type Scheme string

// The schemes of a next hop.
const (
	SchemeSMTP     Scheme = "smtp"          // TLS if offered (RFC 7435)
	SchemeStartTLS Scheme = "smtp+starttls" // TLS required, any certificate (RFC 3207)
	SchemeVerify   Scheme = "smtp+verify"   // TLS required, certificate valid for the host
	SchemeSMTPS    Scheme = "smtps"         // TLS from the first octet, certificate valid for the host
	SchemeLMTP     Scheme = "lmtp"          // RFC 2033
)

var schemes = []string{string(SchemeSMTP), string(SchemeStartTLS), string(SchemeVerify), string(SchemeSMTPS), string(SchemeLMTP)}

// Port is the default port of the scheme: 25 (RFC 5321 §4.5.4.2), 465
// (RFC 8314 §7.3), 24 (registered for private mail systems, usual for LMTP).
func (s Scheme) Port() int {
	switch s {
	case SchemeSMTPS:
		return 465
	case SchemeLMTP:
		return 24
	}
	return 25
}

// NextHop is where a route leads: scheme://host:port.
type NextHop struct {
	Scheme Scheme
	// Host is a domain as lower-case A-labels, or an IP address without
	// brackets. A domain means its addresses, not its MX.
	Host string
	Port int
}

// Address is host:port, as a dialer wants it.
func (h NextHop) Address() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// String is the form in the configuration, with its port.
func (h NextHop) String() string { return string(h.Scheme) + "://" + h.Address() }

const nextHopExample = `(example: "smtp+verify://mx.example.test:25")`

// ParseNextHop reads scheme://host, scheme://host:port and the same with an
// IP address, IPv6 in brackets. Nothing may follow. The error never quotes a
// password that was written before the host.
func ParseNextHop(s string) (NextHop, error) {
	if strings.Contains(s, "@") {
		return NextHop{}, fmt.Errorf("a next hop holds no credentials; use the key credentials %s", nextHopExample)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return NextHop{}, fmt.Errorf("%s is not a next hop %s", quote(s), nextHopExample)
	}
	h := NextHop{Scheme: Scheme(strings.ToLower(scheme))}
	if !slices.Contains(schemes, string(h.Scheme)) {
		return NextHop{}, fmt.Errorf("%s has none of the schemes %s%s", quote(s), strings.Join(schemes, ", "), didYouMean(scheme, schemes))
	}
	host, port, err := splitPort(strings.TrimSuffix(rest, "/"), h.Scheme.Port())
	if err != nil {
		return NextHop{}, fmt.Errorf("%s: %w", quote(s), err)
	}
	if h.Host, err = parseHost(host); err != nil {
		return NextHop{}, fmt.Errorf("%s: %w", quote(s), err)
	}
	h.Port = port
	return h, nil
}

// splitPort takes host, host:port, [IPv6] or [IPv6]:port apart.
func splitPort(s string, otherwise int) (host string, port int, err error) {
	end := strings.LastIndexByte(s, ']')
	colon := strings.LastIndexByte(s, ':')
	host = s
	if port = otherwise; colon > end {
		host = s[:colon]
		if port, err = parsePort(s[colon+1:]); err != nil {
			return "", 0, err
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); !closed || err != nil || !addr.Is6() {
			return "", 0, fmt.Errorf("%s is not an IPv6 address in brackets", quote(host))
		}
		return inner, port, nil
	}
	if strings.Contains(host, ":") {
		return "", 0, fmt.Errorf("an IPv6 address stands in brackets, as in [2001:db8::25]")
	}
	return host, port, nil
}

// splitHostPort takes an address apart that must have a port; the host may be
// empty.
func splitHostPort(s string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%s is not host:port (example: \"127.0.0.1:25\")", quote(s))
	}
	if digits == "0" {
		return host, 0, nil
	}
	port, err = parsePort(digits)
	return host, port, err
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || leadingZero(s) {
		return 0, fmt.Errorf("%s is not a port (1 to 65535)", quote(s))
	}
	return int(n), nil
}

// parseHost reads an IP address without brackets or the name of a host, which
// other than a mail domain may have an underscore.
func parseHost(s string) (string, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), nil
	}
	if host := strings.ToLower(strings.TrimSuffix(s, ".")); isName(host, "_") {
		return host, nil
	}
	return parseDomain(s)
}

// parseDomain reads a domain name and gives it as lower-case A-labels without
// a trailing dot (RFC 5321 §2.3.5, RFC 5891).
func parseDomain(s string) (string, error) {
	d, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.ToLower(s), "."))
	if err != nil || !isName(d, "") {
		return "", fmt.Errorf("%s is not a domain name", quote(s))
	}
	return d, nil
}

// isName reports labels of lower-case letters, digits and hyphens (RFC 1123
// §2.1), with the other characters allowed besides. A last label of digits
// makes it an IPv4 address, or the beginning of one.
func isName(s, besides string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	last := ""
	for last = range strings.SplitSeq(s, ".") {
		if last == "" || len(last) > 63 || last[0] == '-' || last[len(last)-1] == '-' {
			return false
		}
		for _, c := range last {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && !strings.ContainsRune(besides, c) {
				return false
			}
		}
	}
	return strings.Trim(last, "0123456789") != ""
}
