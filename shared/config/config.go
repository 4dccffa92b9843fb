// Package config is the configuration: one YAML file, read strictly, with
// defaults for every key.
//
// It consumes the file named by --config, by $POSTRIDER_CONFIG, or found at
// one of two places ([Find]); without one it yields the [Sandbox]. It produces
// a [Config] that is complete (every default filled in), canonical (domains
// as lower-case A-labels, networks without host bits) and consistent, or a
// [Problems] error that lists everything that is wrong, each with file, line,
// column and, for a misspelt key, the one that was meant.
//
// Guarantees:
//
//   - No key is ignored: an unknown or repeated one is an error. A key whose
//     feature this release does not have is accepted and yields a warning
//     that says what happens instead ([Config.Warnings]).
//   - No surprise of YAML changes a value: "010" is not eight, "yes" is not
//     true, 1.0 stays "1.0"; anchors, tags and further documents are refused.
//   - Nothing makes an open relay: /0 is refused where it would admit.
//   - No text made here shows a credential: not a Problem, and neither
//     Config.String nor the %v of a part of it.
//
// Limits: the file is at most 16 MiB. Files that keys name (certificates,
// keys, credentials) are not opened here; whoever uses them reports them.
//
// The keys are a contract with operators. This file, policy.go, auth.go,
// directory.go and values.go are the whole structure; docs/CONFIG.md is generated
// from them ([Document]), and [Template] is the same as a file to start from. The
// defaults themselves are in defaults.go.
package config

import (
	"net/netip"

	"github.com/postrider/postrider/shared/registry"
)

// Config is everything an operator can say.
type Config struct {
	Relay        Relay             `yaml:"relay"`
	Bus          Bus               `yaml:"bus"`
	TLS          TLS               `yaml:"tls"`
	Listeners    []Listener        `yaml:"listeners"`
	Networks     Networks          `yaml:"networks"`
	Domains      Domains           `yaml:"domains"`
	Devices      []registry.Device `yaml:"devices"` // The devices of the file; commands cannot change them.
	Policy       Policy            `yaml:"policy"`
	Scan         Scan              `yaml:"scan"`
	Auth         Auth              `yaml:"auth"`
	Limits       Limits            `yaml:"limits"`
	Registration Registration      `yaml:"registration"`
	Lifecycle    Lifecycle         `yaml:"lifecycle"`
	DNS          DNS               `yaml:"dns"`
	DKIM         DKIM              `yaml:"dkim"`
	Delivery     Delivery          `yaml:"delivery"`
	Retention    Retention         `yaml:"retention"`
	Ledger       Ledger            `yaml:"ledger"`
	Console      Console           `yaml:"console"`
	Metrics      Metrics           `yaml:"metrics"`

	// Path is the file it came from; empty in the sandbox.
	Path string `yaml:"-"`
	// Sandbox says that no configuration file exists: nothing leaves the machine.
	Sandbox bool `yaml:"-"`

	// where says at which place of the file a key was written.
	where positions
}

// Relay is the relay itself.
type Relay struct {
	// Hostname is what the relay calls itself in its greeting, EHLO and
	// Received. Default: the machine's name.
	Hostname string `yaml:"hostname"`
	// Data is the directory for the embedded bus, the ledger's index and made
	// keys. Default: /var/lib/postrider, and ./postrider-data in the sandbox.
	Data string `yaml:"data"`
	// HelpURL is where a refused sender finds help; "/w/REF" is appended.
	// Empty shows none.
	HelpURL string `yaml:"help_url"`
	// Postmaster is where mail for the postmaster of the relay goes, be it
	// "<postmaster>" or with relay.hostname (RFC 5321 §4.5.1): an address of a
	// hosted domain, to which everybody may then write. Refusals show it where
	// there is no help_url. Empty: nobody reads that mail.
	Postmaster string `yaml:"postmaster"`
	// Addresses are those at which clients reach the relay, as they are made known
	// for their firewalls (postrider addresses). What is listened to is in
	// listeners.
	Addresses []Ingress `yaml:"addresses"`
}

// Contact is whom to write to about the relay.
func (r *Relay) Contact() string {
	if r.Postmaster != "" {
		return r.Postmaster
	}
	return "postmaster@" + r.Hostname
}

// Help is what a refusal shows for help: the URL, or the address, or nothing.
func (r *Relay) Help() string {
	if r.HelpURL != "" {
		return r.HelpURL
	}
	return r.Postmaster
}

// Ingress is one address at which clients reach the relay: what they open their
// firewalls for (S32).
type Ingress struct {
	// Address is an address, or a range in CIDR notation.
	Address string `yaml:"address" json:"address"`
	// From is the first day on which it is used, as 2026-12-01. Empty: already.
	From string `yaml:"from" json:"from,omitempty"`
	// Until is the last day on which it is used. Empty: no end is known.
	Until string `yaml:"until" json:"until,omitempty"`
}

// Bus is the NATS server.
type Bus struct {
	// URL of the NATS server, or several separated by commas; schemes nats,
	// tls, ws, wss. Empty embeds one (only with "up").
	URL string `yaml:"url"`
	// Credentials is a .creds file, an nkey seed file, or "user:password".
	Credentials string `yaml:"credentials"`
	// SystemCredentials are of the system account, read-only, in the same
	// forms: with them the sync setting of every server is checked.
	SystemCredentials string `yaml:"system_credentials"`
	// EncryptionKeyFile holds the key for encryption at rest of the embedded
	// bus. Empty leaves it in clear.
	EncryptionKeyFile string `yaml:"encryption_key_file"`
}

// TLS is the certificate of the listeners. Files are read again when changed.
type TLS struct {
	// Certificate is a PEM file with the chain, leaf first. Empty: one is made
	// under relay.data, which no client can verify.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of its private key.
	Key string `yaml:"key"`
}

// ListenerMode is what a listener is for.
type ListenerMode string

// The modes of a listener.
const (
	ModeRelay       ListenerMode = "relay"       // AUTH possible
	ModeSubmission  ListenerMode = "submission"  // AUTH required (RFC 6409)
	ModeSubmissions ListenerMode = "submissions" // as submission, implicit TLS (RFC 8314)
)

// The sets of cipher suites of a listener.
const (
	CiphersDefault = "default" // those the TLS library calls secure
	CiphersLegacy  = "legacy"  // also those of old devices
)

// Listener is one address that accepts SMTP.
//
// Once loaded, every field has its value, and Limits is not nil.
type Listener struct {
	// Name of the listener in logs, metrics and facts. Default: mode-port, as
	// in "relay-25".
	Name string `yaml:"name"`
	// Address is host:port or :port; port 0 takes a free one.
	Address string `yaml:"address"`
	// Mode is relay (AUTH possible), submission (AUTH required) or submissions
	// (AUTH required, implicit TLS). Default: submission on port 587,
	// submissions on 465, else relay.
	Mode ListenerMode `yaml:"mode"`
	// TLSMinimum is the oldest version spoken: "1.0" to "1.3".
	TLSMinimum string `yaml:"tls_minimum"`
	// Ciphers is "default" or "legacy".
	Ciphers string `yaml:"ciphers"`
	// ProxyProtocolFrom are the load balancers that must send a PROXY header.
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	// TLSFloorBySource allows other TLS to some sources.
	TLSFloorBySource []TLSFloor `yaml:"tls_floor_by_source"`
	// Limits bound the connections of the listener.
	Limits *ConnectionLimit `yaml:"limits"`
}

// TLSFloor allows old TLS to some sources.
type TLSFloor struct {
	// From is the network it holds for.
	From netip.Prefix `yaml:"from"`
	// Minimum is the oldest version spoken to it: "1.0" to "1.3".
	Minimum string `yaml:"minimum"`
	// Ciphers is "default" or "legacy".
	Ciphers string `yaml:"ciphers"`
}

// ConnectionLimit bounds the connections of a listener.
type ConnectionLimit struct {
	// Connections at a time; further ones are answered 421.
	Connections int `yaml:"connections"`
	// PerAddress is the same for one client address.
	PerAddress int `yaml:"per_address"`
}

// Networks are address ranges with a meaning. A plain address is a network of
// one.
type Networks struct {
	// Campus may send to hosted domains without registration.
	Campus []netip.Prefix `yaml:"campus"`
	// Deny gets nothing without authentication.
	Deny []netip.Prefix `yaml:"deny"`
	// Workstations, DHCP and Residential are treated as deny, and named in the
	// refusal's reason: end-user machines, address pools, homes.
	Workstations []netip.Prefix `yaml:"workstations"`
	// DHCP are pools of addresses that change hands.
	DHCP []netip.Prefix `yaml:"dhcp"`
	// Residential are homes and dormitories.
	Residential []netip.Prefix `yaml:"residential"`
	// NAT are ranges that stand for many machines.
	NAT []netip.Prefix `yaml:"nat"`
	// Cloud are ranges whose addresses change hands.
	Cloud []netip.Prefix `yaml:"cloud"`
}

// Domains the relay knows.
type Domains struct {
	// Hosted are the domains of the institution, each exact.
	Hosted []Hosted `yaml:"hosted"`
}

// Hosted is a domain of the institution.
type Hosted struct {
	// Name of the domain; its subdomains are not included.
	Name string `yaml:"name"`
	// Route is its next hop as in delivery.routes; empty means by MX.
	Route string `yaml:"route"`
	// Internal keeps it for internal owners: third parties may not send as it.
	Internal bool `yaml:"internal"`
}

// DNS names the resolver.
type DNS struct {
	// Resolver is host:port of a validating resolver on loopback. Empty: the
	// system's.
	Resolver string `yaml:"resolver"`
}

// Servers is the resolver as a list; nil is the system's.
func (d DNS) Servers() []string {
	if d.Resolver == "" {
		return nil
	}
	return []string{d.Resolver}
}

// DKIM is the relay's own signature (RFC 6376).
type DKIM struct {
	// Domain that signs. Default: relay.hostname.
	Domain string `yaml:"domain"`
	// Keys that sign. Empty: made under relay.data.
	Keys []DKIMKey `yaml:"keys"`
}

// The signature algorithms of DKIM (RFC 6376 §3.3, RFC 8463).
const (
	AlgorithmRSA     = "rsa-sha256"
	AlgorithmEd25519 = "ed25519-sha256"
)

// DKIMKey is one private key.
type DKIMKey struct {
	// Selector under which the public key is published.
	Selector string `yaml:"selector"`
	// Algorithm is rsa-sha256 or ed25519-sha256.
	Algorithm string `yaml:"algorithm"`
	// File holds the private key: PEM, PKCS #8 or PKCS #1.
	File string `yaml:"file"`
}

// TLSLevel is how a destination must be encrypted.
type TLSLevel string

// The levels of delivery.require_tls.
const (
	TLSEncrypt TLSLevel = "encrypt" // any certificate
	TLSVerify  TLSLevel = "verify"  // valid for the host
	TLSDANE    TLSLevel = "dane"    // by TLSA records (RFC 7672)
)

// Delivery is how mail goes out.
type Delivery struct {
	// RequireTLS names destinations that are never served in clear; it holds
	// for hosted and routed domains too.
	RequireTLS []RequireTLS `yaml:"require_tls"`
	// Routes are next hops used instead of the MX.
	Routes []Route `yaml:"routes"`
	// Connections per destination, over all workers.
	Connections int `yaml:"connections"`
	// MXPort is the port of mail exchangers that the DNS names: 25 (RFC 5321
	// §4.5.4.2). Another serves tests and networks of one's own.
	MXPort int `yaml:"mx_port"`
	// Lifetime after which mail expires, by class, or one for all.
	Lifetime Lifetime `yaml:"lifetime"`
	// Retry are the delays before the second, third, … attempt; the last
	// repeats. Each is varied by ±20 %.
	Retry []Duration `yaml:"retry"`
	// SourceAddresses to send from; empty leaves it to the system.
	SourceAddresses []netip.Addr `yaml:"source_addresses"`
}

// RequireTLS names a destination that is never served in clear.
type RequireTLS struct {
	// Domain is exact, or ".example.test" for its subdomains.
	Domain string `yaml:"domain"`
	// Level is encrypt (any certificate), verify (valid for the host) or dane.
	Level TLSLevel `yaml:"level"`
}

// Route is a next hop for a domain instead of its MX.
type Route struct {
	// Domain is exact, ".example.test" for its subdomains, "*" for the rest.
	Domain string `yaml:"domain"`
	// To is scheme://host:port; schemes: smtp (TLS if offered), smtp+starttls,
	// smtp+verify, smtps, lmtp.
	To string `yaml:"to"`
	// Credentials is "user:password" or the path of a file that holds it.
	Credentials string `yaml:"credentials"`
}

// Retention says how long things are kept.
type Retention struct {
	// SettledContent is how long content is kept once every recipient is done,
	// at most as long as the books. When the store fills up, it goes earlier.
	SettledContent Duration `yaml:"settled_content"`
	// Ledger is how long the books are kept; at least 1d.
	Ledger Duration `yaml:"ledger"`
}

// Ledger is what the books record besides.
type Ledger struct {
	// TokenHeader names a header field whose value becomes submission_id.
	TokenHeader string `yaml:"token_header"`
}

// Console is the web console.
type Console struct {
	// Address is host:port; empty turns it off.
	Address string `yaml:"address"`
}

// Metrics is the Prometheus endpoint.
type Metrics struct {
	// Address is host:port; empty turns it off.
	Address string `yaml:"address"`
}
