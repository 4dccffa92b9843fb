package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// Bounds of what may be configured.
const (
	maxMessageSize = mail.MaxMessage // octets
	maxListed      = 1 << 20         // connections, recipients, messages: more is a mistake
)

// Validate completes a Config that a program made and checks it. Its error is
// of type Problems. Parse and Load have done so already.
func (c *Config) Validate() error {
	c.complete()
	if problems := c.problems(); len(problems) > 0 {
		problems.sort()
		return problems
	}
	return nil
}

// problems checks a complete Config, section by section.
func (c *Config) problems() Problems {
	k := checker{Config: c}
	k.relay()
	k.published()
	k.bus()
	k.tls()
	k.listeners()
	k.addresses()
	k.networks()
	k.hosted()
	k.devices()
	k.switches()
	k.auth()
	k.limits()
	k.registration()
	k.dkim()
	k.requireTLS()
	k.routes()
	k.schedule()
	return k.found
}

// checker collects what is wrong.
type checker struct {
	*Config
	found Problems
}

// bad reports a problem with the key at path.
func (k *checker) bad(path, format string, args ...any) {
	k.found = append(k.found, k.problem(path, fmt.Sprintf(format, args...)))
}

// problem is a Problem at the place where path was written.
func (c *Config) problem(path, text string) Problem {
	at := c.where.of(path)
	return Problem{File: c.Path, Line: at.line, Column: at.column, Key: path, Text: path + ": " + text}
}

func (k *checker) relay() {
	if _, err := parseDomain(k.Relay.Hostname); err != nil {
		k.bad("relay.hostname", "%v", err)
	}
	if k.Relay.Data == "" {
		k.bad("relay.data", "a directory is needed")
	}
	if u := k.Relay.HelpURL; u != "" && (!isURL(u, "http", "https") || len(u) > 200) {
		k.bad("relay.help_url", "%s is not an http or https URL of at most 200 characters", quote(u))
	}
	if p := k.Relay.Postmaster; p != "" {
		if _, err := smtp.ParseAddress(p); err != nil || len(p) > 64 {
			k.bad("relay.postmaster", "%s is not an address of at most 64 characters", quote(p))
		}
	}
}

// isURL reports printable ASCII that is a URL with a host.
func isURL(s string, schemes ...string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && slices.Contains(schemes, u.Scheme)
}

// bus does not quote bus.url, which may hold a password.
func (k *checker) bus() {
	if k.Bus.URL == "" {
		return
	}
	for server := range strings.SplitSeq(k.Bus.URL, ",") {
		if !isURL(strings.TrimSpace(server), "nats", "tls", "ws", "wss") {
			k.bad("bus.url", "this is not the URL of a NATS server: nats, tls, ws or wss://host:port (example: nats://127.0.0.1:4222)")
			return
		}
	}
}

func (k *checker) tls() {
	switch {
	case k.TLS.Certificate != "" && k.TLS.Key == "":
		k.bad("tls.certificate", "a certificate needs tls.key as well")
	case k.TLS.Certificate == "" && k.TLS.Key != "":
		k.bad("tls.key", "a key needs tls.certificate as well")
	}
}

var tlsVersions = []string{"1.0", "1.1", "1.2", "1.3"}

func (k *checker) listeners() {
	names := map[string]string{}
	for i, l := range k.Listeners {
		path := item("listeners", i)
		if l.Address == "" {
			k.bad(member(path, "address"), "an address is needed (example: \"0.0.0.0:25\")")
		}
		k.oneOf(member(path, "mode"), string(l.Mode), string(ModeRelay), string(ModeSubmission), string(ModeSubmissions))
		if !isToken(l.Name) {
			k.bad(member(path, "name"), "%s is not a name of letters, digits, hyphens and underscores", quote(l.Name))
		}
		k.once(names, member(path, "name"), l.Name)
		k.oneOf(member(path, "tls_minimum"), l.TLSMinimum, tlsVersions...)
		k.oneOf(member(path, "ciphers"), l.Ciphers, CiphersDefault, CiphersLegacy)
		for j, p := range l.ProxyProtocolFrom {
			if p.Bits() == 0 {
				k.bad(item(member(path, "proxy_protocol_from"), j), "%q is every address: any client could claim to be another, which would make an open relay", p)
			}
		}
		for j, f := range l.TLSFloorBySource {
			floor := item(member(path, "tls_floor_by_source"), j)
			if !f.From.IsValid() {
				k.bad(member(floor, "from"), "a network is needed (example: 10.4.0.0/16)")
			}
			k.oneOf(member(floor, "minimum"), f.Minimum, tlsVersions...)
			k.oneOf(member(floor, "ciphers"), f.Ciphers, CiphersDefault, CiphersLegacy)
		}
		k.within(member(path, "limits.connections"), l.Limits.Connections, 1, maxListed)
		k.within(member(path, "limits.per_address"), l.Limits.PerAddress, 1, maxListed)
	}
}

func isToken(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// addresses checks everything that is listened on: each must parse, and no
// two may be the same.
func (k *checker) addresses() {
	type claim struct {
		path, host string
		port       int
	}
	var claims []claim
	claimed := func(path, address string) {
		if address == "" {
			return
		}
		host, port, err := splitHostPort(address)
		if err == nil && host != "" {
			host, err = parseHost(host)
		}
		if err != nil {
			k.bad(path, "%v", err)
			return
		}
		for _, had := range claims {
			if port != 0 && port == had.port && overlap(host, had.host) {
				k.bad(path, "%q is taken by %s", address, had.path)
				return
			}
		}
		claims = append(claims, claim{path, host, port})
	}
	for i, l := range k.Listeners {
		claimed(member(item("listeners", i), "address"), l.Address)
	}
	claimed("console.address", k.Console.Address)
	claimed("metrics.address", k.Metrics.Address)
	if r := k.DNS.Resolver; r != "" {
		if host, port, err := splitHostPort(r); err != nil {
			k.bad("dns.resolver", "%s is not host:port (example: 127.0.0.1:53)", quote(r))
		} else if _, err := parseHost(host); err != nil || port == 0 {
			k.bad("dns.resolver", "%s is not host:port (example: 127.0.0.1:53)", quote(r))
		}
	}
}

// overlap reports that two hosts cannot both listen on one port.
func overlap(a, b string) bool {
	if a == b || a == "" || b == "" || a == "::" || b == "::" {
		return true
	}
	is4 := func(s string) bool { addr, err := netip.ParseAddr(s); return err == nil && addr.Is4() }
	return a == "0.0.0.0" && is4(b) || b == "0.0.0.0" && is4(a)
}

func (k *checker) networks() {
	for i, p := range k.Networks.Campus {
		if p.Bits() == 0 {
			k.bad(item("networks.campus", i), "%q is every address and would make an open relay; name the ranges of the campus", p)
		}
	}
}

func (k *checker) hosted() {
	names := map[string]string{}
	for i, h := range k.Domains.Hosted {
		path := item("domains.hosted", i)
		at := member(path, "name")
		switch _, err := parseDomain(h.Name); {
		case h.Name == "":
			k.bad(at, "a domain is needed")
		case strings.HasPrefix(h.Name, ".") || strings.HasPrefix(h.Name, "*"):
			k.bad(at, "%s stands for many domains; hosted domains are exact, name each", quote(h.Name))
		case err != nil:
			k.bad(at, "%v", err)
		default:
			k.once(names, at, h.Name)
		}
		if h.Route != "" {
			k.nextHop(member(path, "route"), h.Route)
		}
	}
}

// switches checks the words and URLs of the smaller sections.
func (k *checker) switches() {
	mode := func(path string, m Mode) {
		k.oneOf(path, string(m), string(authz.Off), string(authz.Observe), string(authz.Enforce))
	}
	p := &k.Policy
	for _, s := range []struct {
		key  string
		mode Mode
	}{
		{"hosted_from_campus", p.HostedFromCampus}, {"fcrdns", p.FCrDNS}, {"sender_must_be_hosted", p.SenderMustBeHosted},
		{"sender_must_exist", p.SenderMustExist}, {"personal_sender", p.PersonalSender}, {"from_field", p.FromField},
		{"must_authenticate", p.MustAuthenticate}, {"address_lock", p.AddressLock}, {"nat", p.NAT}, {"cloud", p.Cloud},
		{"bulk", p.Bulk}, {"spf", p.SPF}, {"helo_ampersand", p.HeloAmpersand},
	} {
		mode("policy."+s.key, s.mode)
	}
	for i, name := range p.Observe {
		k.oneOf(item("policy.observe", i), name, authz.Observable()...)
	}
	if p.SPF != Mode(authz.Off) && p.SPFInclude == "" {
		k.bad("policy.spf_include", "policy.spf is %s and needs the domain to be included (example: _spf.relay.campus.test)", p.SPF)
	}
	if p.Directory != nil {
		k.checkDirectory(p.Directory)
	}
	k.checkScan()
	if h := k.Ledger.TokenHeader; h != "" && !isFieldName(h) {
		k.bad("ledger.token_header", "%s is not the name of a header field", quote(h))
	}
}

// isFieldName reports printable ASCII without a colon (RFC 5322 §3.6.8).
func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return len(s) <= 76
}

func (k *checker) registration() {
	for i, a := range k.Registration.Affiliations {
		if a == "" || a != strings.ToLower(strings.TrimSpace(a)) {
			k.bad(item("registration.affiliations", i), "%s is no affiliation in lower case (example: staff)", quote(a))
		}
	}
	if u := k.Registration.TermsURL; u != "" && !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
		k.bad("registration.terms_url", "%s is not the address of a page (example: https://relay.campus.test/terms)", quote(u))
	}
}

func (k *checker) limits() {
	if s := k.Limits.MessageSize; s < 1 || s > maxMessageSize {
		k.bad("limits.message_size", "%v is not between 1 and %v", s, Size(maxMessageSize))
	}
	k.within("limits.recipients", k.Limits.Recipients, 1, maxListed)
	k.within("limits.messages_per_session.relay", k.Limits.MessagesPerSession.Relay, 1, maxListed)
	k.within("limits.messages_per_session.submission", k.Limits.MessagesPerSession.Submission, 1, maxListed)
	if l := k.Lifecycle; (l.UnusedNotice == 0) != (l.UnusedEnd == 0) || l.UnusedEnd < l.UnusedNotice {
		k.bad("lifecycle.unused_end", "%v does not follow lifecycle.unused_notice (%v); both are 0, or the notice comes first", l.UnusedEnd, l.UnusedNotice)
	}
	k.within("policy.received_hops", k.Policy.ReceivedHops, 0, mail.MaxHops)
	k.within("lifecycle.reports", k.Lifecycle.Reports, 0, maxListed)
	k.within("lifecycle.problems", k.Lifecycle.Problems, 0, maxListed)
	k.within("lifecycle.reports_most", k.Lifecycle.ReportsMost, 0, maxListed)
	k.within("limits.unregistered.messages_per_hour", k.Limits.Unregistered.MessagesPerHour, 0, maxListed)
	k.within("limits.unregistered.recipients_per_hour", k.Limits.Unregistered.RecipientsPerHour, 0, maxListed)
	if k.Retention.Ledger < Duration(24*time.Hour) {
		k.bad("retention.ledger", "%v is too short; the books are kept for at least 1d", k.Retention.Ledger)
	}
	if k.Retention.SettledContent > k.Retention.Ledger {
		k.bad("retention.settled_content", "%v is longer than the books are kept (%v), which say what is settled", k.Retention.SettledContent, k.Retention.Ledger)
	}
}

// oneOf reports a word that is none of those allowed.
func (k *checker) oneOf(path, word string, allowed ...string) {
	if !slices.Contains(allowed, word) {
		k.bad(path, "%s is none of %s%s", quote(word), strings.Join(allowed, ", "), didYouMean(word, allowed))
	}
}

// within reports a number out of its bounds.
func (k *checker) within(path string, n, least, most int) {
	if n < least || n > most {
		k.bad(path, "%d is not between %d and %d", n, least, most)
	}
}

// once reports a name that was given before.
func (k *checker) once(seen map[string]string, path, name string) bool {
	first, twice := seen[name]
	if twice {
		k.bad(path, "%s is the same as %s", quote(name), first)
		return false
	}
	seen[name] = path
	return true
}
