package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/postrider/postrider/shared/registry"
)

// The checks of who may send and of how mail goes out.

func (k *checker) devices() {
	names, ranges := map[string]string{}, map[netip.Prefix]string{}
	for i, d := range k.Devices {
		path := item("devices", i)
		k.deviceName(member(path, "name"), d.Name, names)
		faults := d.Check()
		if k.Policy.SenderWildcards {
			faults = registry.WithoutWildcards(faults)
		}
		for _, f := range faults {
			k.bad(member(path, f.Field), "%s", f.Text)
		}
		for j, a := range d.Addresses {
			if other, taken := ranges[a.Range]; taken && other != path {
				k.bad(item(member(path, "addresses"), j), "%q is an address of %s already", a.Range, other)
			}
			ranges[a.Range] = path
		}
	}
}

// deviceName wants a name with a dot: it is compared with what the DNS says
// about an address.
func (k *checker) deviceName(path, name string, names map[string]string) {
	if name == "" {
		k.bad(path, "a device needs a name (example: prn-1.campus.test)")
		return
	}
	if host, err := parseHost(name); err != nil || isAddress(host) || !strings.Contains(host, ".") {
		k.bad(path, "%s is not a fully qualified domain name (example: prn-1.campus.test)", quote(name))
		return
	}
	k.once(names, path, name)
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func (k *checker) dkim() {
	if _, err := parseDomain(k.DKIM.Domain); err != nil && k.DKIM.Domain != k.Relay.Hostname {
		k.bad("dkim.domain", "%v", err)
	}
	selectors := map[string]string{}
	for i, key := range k.DKIM.Keys {
		path := item("dkim.keys", i)
		switch at := member(path, "selector"); {
		case key.Selector == "":
			k.bad(at, "a selector is needed (example: 2026a)")
		case !isSelector(key.Selector):
			k.bad(at, "%s is not a selector of letters, digits and hyphens", quote(key.Selector))
		default:
			k.once(selectors, at, strings.ToLower(key.Selector)) // as the DNS compares
		}
		k.oneOf(member(path, "algorithm"), key.Algorithm, AlgorithmRSA, AlgorithmEd25519)
		if key.File == "" {
			k.bad(member(path, "file"), "the file of the private key is needed")
		}
	}
}

// isSelector reports labels in front of "_domainkey" (RFC 6376 §3.1).
func isSelector(s string) bool { return isName(strings.ToLower(s)+".x", "_") }

func (k *checker) requireTLS() {
	domains := map[string]string{}
	for i, r := range k.Delivery.RequireTLS {
		path := item("delivery.require_tls", i)
		k.pattern(member(path, "domain"), r.Domain, domains)
		k.oneOf(member(path, "level"), string(r.Level), string(TLSEncrypt), string(TLSVerify), string(TLSDANE))
	}
}

func (k *checker) routes() {
	domains := map[string]string{}
	for i, r := range k.Delivery.Routes {
		path := item("delivery.routes", i)
		if at := member(path, "domain"); r.Domain == "*" {
			k.once(domains, at, "*")
		} else {
			k.pattern(at, r.Domain, domains)
		}
		if r.To == "" {
			k.bad(member(path, "to"), "a next hop is needed %s", nextHopExample)
			continue
		}
		if hop, ok := k.nextHop(member(path, "to"), r.To); ok {
			k.contradiction(path, r, hop)
		}
	}
}

// contradiction reports a domain that a hosted entry routes elsewhere.
func (k *checker) contradiction(path string, r Route, hop NextHop) {
	for j, h := range k.Domains.Hosted {
		if h.Name != r.Domain || h.Route == "" {
			continue
		}
		if other, err := ParseNextHop(h.Route); err == nil && other != hop {
			k.bad(member(path, "to"), "%s has another route in %s; keep one", quote(r.Domain), member(item("domains.hosted", j), "route"))
		}
	}
}

func (k *checker) nextHop(path, s string) (NextHop, bool) {
	hop, err := ParseNextHop(s)
	if err != nil {
		k.bad(path, "%v", err)
	}
	return hop, err == nil
}

// pattern checks a domain or ".domain" for its subdomains.
func (k *checker) pattern(path, s string, seen map[string]string) {
	_, err := parseDomain(strings.TrimPrefix(s, "."))
	switch {
	case s == "":
		k.bad(path, "a domain is needed")
	case strings.HasPrefix(s, "*."):
		k.bad(path, "%s is not a domain; did you mean %q for its subdomains?", quote(s), s[1:])
	case err != nil:
		k.bad(path, "%v", err)
	default:
		k.once(seen, path, s)
	}
}

func (k *checker) schedule() {
	k.within("delivery.connections", k.Delivery.Connections, 1, maxListed)
	k.within("delivery.mx_port", k.Delivery.MXPort, 1, 65535)
	if len(k.Delivery.Retry) == 0 {
		k.bad("delivery.retry", "at least one delay is needed (example: [5m, 10m, 1h])")
	}
	for i, d := range k.Delivery.Retry {
		if d <= 0 {
			k.bad(item("delivery.retry", i), "a delay must be longer than 0s")
		}
	}
	l := k.Delivery.Lifetime
	for _, class := range []struct {
		key string
		of  Duration
	}{{"alert", l.Alert}, {"scan", l.Scan}, {"application", l.Application}, {"report", l.Report}, {"default", l.Default}} {
		if class.of <= 0 {
			k.bad("delivery.lifetime."+class.key, "a lifetime must be longer than 0s")
		}
	}
	for i, a := range k.Delivery.SourceAddresses {
		if a.IsUnspecified() || a.IsMulticast() {
			k.bad(item("delivery.source_addresses", i), "%q is not an address to send from", fmt.Sprint(a))
		}
	}
}
