package config

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/registry"
)

// Warnings are what an operator should know about a valid configuration, in
// the order of the file: keys without effect in this release, and choices
// that are rarely meant.
func (c *Config) Warnings() []Problem {
	var found Problems
	for _, table := range [][]caution{unavailable(), doubtful()} {
		for _, row := range table {
			for _, path := range row.where(c) {
				found = append(found, c.problem(path, row.effect))
			}
		}
	}
	found.sort()
	return found
}

// caution is a condition with the paths of the keys that meet it, and what it
// means for the mail.
type caution struct {
	// key is how the documentation names what is affected; only of unavailable.
	key    string
	effect string
	where  func(c *Config) []string
}

// unavailable are the keys whose feature this release does not have. The
// release that brings a feature deletes its row.
func unavailable() []caution {
	return []caution{
		{"delivery.require_tls[].level: dane", "mail for this domain is delayed: DANE is not available in this release", func(c *Config) []string {
			return each("delivery.require_tls", c.Delivery.RequireTLS, "level", func(r RequireTLS) bool { return r.Level == TLSDANE })
		}},
		{"listeners[].proxy_protocol_from", "this release does not read PROXY headers; clients behind the balancer all have its address, and are refused unless it is registered", func(c *Config) []string {
			return each("listeners", c.Listeners, "proxy_protocol_from", func(l Listener) bool { return len(l.ProxyProtocolFrom) > 0 })
		}},
		{"delivery.source_addresses", "this release does not choose the address to send from; the system does", func(c *Config) []string {
			return when(len(c.Delivery.SourceAddresses) > 0, "delivery.source_addresses")
		}},
		{"console.address", "this release has no web console; nothing listens there", func(c *Config) []string {
			return when(c.Console.Address != "" && c.Console.Address != Defaults().Console.Address, "console.address")
		}},
	}
}

// doubtful are settings that work and are rarely meant.
func doubtful() []caution {
	return []caution{
		{"", "this is not a fully qualified domain name, and other servers may refuse it in EHLO; set it to the name that the DNS has", func(c *Config) []string {
			return when(!strings.Contains(c.Relay.Hostname, "."), "relay.hostname")
		}},
		{"", "there is no listener: ingress accepts no mail", func(c *Config) []string {
			return when(len(c.Listeners) == 0, "listeners")
		}},
		{"", "the key encrypts the embedded bus only; bus.url names another", func(c *Config) []string {
			return when(c.Bus.URL != "" && c.Bus.EncryptionKeyFile != "", "bus.encryption_key_file")
		}},
		{"", "a range this wide is hardly a campus; each of its addresses may send to the hosted domains", func(c *Config) []string {
			return entries("networks.campus", c.Networks.Campus, wide)
		}},
		{"", "a range this wide is hardly a device; each of its addresses may send what the device may", func(c *Config) (paths []string) {
			for i, d := range c.Devices {
				paths = append(paths, entries(member(item("devices", i), "addresses"), d.Addresses, func(a registry.Address) bool { return wide(a.Range) })...)
			}
			return paths
		}},
		{"", "this scanner is not on this machine, and sees the mail in clear on the way", func(c *Config) []string {
			u, err := url.Parse(c.Scan.Rspamd)
			return when(err == nil && u.Scheme == "http" && !loopback(u.Hostname()), "scan.rspamd")
		}},
		{"", "this scanner is not on this machine, and sees the mail in clear on the way", func(c *Config) []string {
			network, address, err := MilterAddress(c.Scan.Milter)
			host, _, _ := net.SplitHostPort(address)
			return when(err == nil && network == "tcp" && !loopback(host), "scan.milter")
		}},
		{"", "no domain is hosted: every sender but the null reverse-path is refused", func(c *Config) []string {
			return when(c.Policy.SenderMustBeHosted == Mode(authz.Enforce) && len(c.Domains.Hosted) == 0, "policy.sender_must_be_hosted")
		}},
		{"", "no policy.directory tells which addresses are personal; no sender is refused for it", func(c *Config) []string {
			return when(c.Policy.PersonalSender != Mode(authz.Off) && (c.Policy.Directory == nil || len(c.Policy.Directory.Person) == 0), "policy.personal_sender")
		}},
		{"", "RFC 5321 §4.5.3.1.7 wants at least 64KiB", func(c *Config) []string {
			return when(c.Limits.MessageSize < 64<<10, "limits.message_size")
		}},
		{"", "RFC 5321 §4.5.3.1.8 wants at least 100", func(c *Config) []string {
			return when(c.Limits.Recipients < 100, "limits.recipients")
		}},
		{"", "mail that is not delivered by then is copied; an hour and more costs less", func(c *Config) []string {
			return when(c.Retention.SettledContent < Duration(time.Hour), "retention.settled_content")
		}},
		{"", "this delay is shorter than the one before it", func(c *Config) (paths []string) {
			for i := 1; i < len(c.Delivery.Retry); i++ {
				paths = append(paths, when(c.Delivery.Retry[i] < c.Delivery.Retry[i-1], item("delivery.retry", i))...)
			}
			return paths
		}},
		{"", "the last delay repeats; one this short is for tests only", func(c *Config) []string {
			last := len(c.Delivery.Retry) - 1
			return when(last >= 0 && c.Delivery.Retry[last] < Duration(time.Minute), item("delivery.retry", last))
		}},
		{"", "answers of a resolver that is not on loopback can be forged on the way", func(c *Config) []string {
			host, _, err := splitHostPort(c.DNS.Resolver)
			return when(err == nil && !loopback(host), "dns.resolver")
		}},
	}
}

// loopback reports a host that is this one.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// wide reports ranges larger than any registry has given to one institution.
func wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 16 && p != netip.MustParsePrefix("fc00::/7")
}

func when(met bool, path string) []string {
	if met {
		return []string{path}
	}
	return nil
}

// each is the path of key in every entry of a list that meets the condition.
func each[T any](path string, list []T, key string, met func(T) bool) (paths []string) {
	for i, v := range list {
		paths = append(paths, when(met(v), member(item(path, i), key))...)
	}
	return paths
}

// entries is the path of every entry of a list that meets the condition.
func entries[T any](path string, list []T, met func(T) bool) (paths []string) {
	for i, v := range list {
		paths = append(paths, when(met(v), item(path, i))...)
	}
	return paths
}
