package config

import (
	"cmp"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// Defaults is the configuration of an empty file. Lists are empty: nothing is
// hosted, campus, routed or listened to unless said. Relay.Hostname is the
// machine's name.
func Defaults() *Config {
	const day = Duration(24 * time.Hour)
	const minute = Duration(time.Minute)
	const on, off = Mode(authz.Enforce), Mode(authz.Off)
	c := &Config{
		Relay: Relay{Hostname: machineName(), Data: "/var/lib/postrider"},
		Policy: Policy{
			HostedFromCampus: on, FCrDNS: off, SenderMustBeHosted: off, SenderMustExist: off, PersonalSender: off,
			FromField: Mode(authz.Observe), MustAuthenticate: off, AddressLock: off, NAT: on, Cloud: on, Bulk: off, SPF: off, SenderProof: off, HeloAmpersand: off, ReceivedHops: 3,
		},
		Scan: Scan{OnReject: "hold", WhenDown: "admit", Timeout: Duration(30 * time.Second)},
		Auth: Auth{Local: true},
		Limits: Limits{
			MessageSize:        50_000_000,
			Recipients:         1000,
			MessagesPerSession: SessionLimit{Relay: 1000, Submission: 100},
		},
		Registration: Registration{Affiliations: []string{"staff", "faculty"}},
		Lifecycle:    Lifecycle{Reports: 3, ReportsWithin: day, ReportsMost: 5, Problems: 20, Anomaly: Mode(authz.Observe)},
		Delivery: Delivery{
			Connections: 20,
			MXPort:      25,
			Lifetime:    Lifetime{Alert: day, Scan: 2 * day, Application: 5 * day, Report: day, Default: 5 * day},
			Retry:       []Duration{5 * minute, 10 * minute, 20 * minute, 40 * minute, 60 * minute, 120 * minute, 240 * minute},
		},
		Retention: Retention{SettledContent: day, Ledger: 400 * day},
		Console:   Console{Address: "127.0.0.1:8080"},
		Metrics:   Metrics{Address: "127.0.0.1:9464"},
	}
	return c
}

// Sandbox is the configuration of a relay without a file: three loopback
// listeners, any loopback sender to any recipient, and nothing leaves the
// machine. An empty dataDir means ./postrider-data.
func Sandbox(dataDir string) *Config {
	if dataDir == "" {
		dataDir = "./postrider-data"
	}
	c := Defaults()
	c.Sandbox = true
	c.Relay.Hostname = "sandbox.postrider.test"
	c.Relay.Data = dataDir
	c.Listeners = []Listener{
		{Address: "127.0.0.1:2525", Mode: ModeRelay},
		{Address: "127.0.0.1:2587", Mode: ModeSubmission},
		{Address: "127.0.0.1:2465", Mode: ModeSubmissions},
	}
	for i := range c.Listeners {
		c.Listeners[i].setDefaults()
	}
	c.complete()
	return c
}

func (l *Listener) setDefaults() {
	l.TLSMinimum, l.Ciphers = "1.2", CiphersDefault
	l.Limits = new(ConnectionLimit)
	l.Limits.setDefaults()
}

func (f *TLSFloor) setDefaults() { f.Minimum, f.Ciphers = "1.2", CiphersDefault }

func (l *ConnectionLimit) setDefaults() { l.Connections, l.PerAddress = 2000, 100 }

func (d *Directory) setDefaults() { d.Filter, d.Attribute = "(mail=%s)", "employeeType" }

func (l *LDAP) setDefaults() { l.Filter, l.Identity = "(uid=%s)", "uid" }

func (r *RequireTLS) setDefaults() { r.Level = TLSVerify }

// complete fills in what follows from other values, and brings names to the
// one form that is compared: lower-case A-labels. What is not a name at all
// stays as it is, for Validate to report.
func (c *Config) complete() {
	canonical(&c.Relay.Hostname)
	c.Relay.HelpURL = strings.TrimRight(c.Relay.HelpURL, "/")
	if c.DKIM.Domain == "" {
		c.DKIM.Domain = c.Relay.Hostname
	}
	canonical(&c.DKIM.Domain)
	if k := c.Auth.Kerberos; k != nil && k.Service == "" {
		k.Service = "smtp/" + c.Relay.Hostname
	}
	c.completeListeners()
	for i := range c.Domains.Hosted {
		canonical(&c.Domains.Hosted[i].Name)
	}
	for i := range c.Delivery.RequireTLS {
		canonicalPattern(&c.Delivery.RequireTLS[i].Domain)
	}
	for i := range c.Delivery.Routes {
		canonicalPattern(&c.Delivery.Routes[i].Domain)
	}
	for i := range c.Devices {
		completeDevice(&c.Devices[i])
	}
}

func (c *Config) completeListeners() {
	taken := map[string]bool{}
	for i := range c.Listeners {
		taken[c.Listeners[i].Name] = true
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		_, port, _ := splitHostPort(l.Address)
		if l.Mode == "" {
			l.Mode = modeOfPort(port)
		}
		l.TLSMinimum = cmp.Or(l.TLSMinimum, "1.2")
		l.Ciphers = cmp.Or(l.Ciphers, CiphersDefault)
		if l.Limits == nil {
			l.Limits = new(ConnectionLimit)
			l.Limits.setDefaults()
		}
		if l.Name != "" {
			continue
		}
		base := string(l.Mode) + "-" + strconv.Itoa(port)
		l.Name = base
		for n := 2; taken[l.Name]; n++ {
			l.Name = base + "-" + strconv.Itoa(n)
		}
		taken[l.Name] = true
	}
}

// modeOfPort follows the registered ports (RFC 6409 §3.1, RFC 8314 §3.3).
func modeOfPort(port int) ListenerMode {
	switch port {
	case 587:
		return ModeSubmission
	case 465:
		return ModeSubmissions
	}
	return ModeRelay
}

func completeDevice(d *registry.Device) {
	if name, err := parseHost(d.Name); err == nil {
		d.Name = name
	}
	d.Origin = registry.OriginFile
	if d.Scope == "" {
		d.Scope = registry.ScopeAnywhere
	}
	if d.Class == "" {
		d.Class = mail.ClassDefault
	}
	if d.State == "" {
		d.State = registry.StateActive
	}
}

// canonical brings a domain to its compared form where it has one.
func canonical(name *string) {
	if d, err := parseDomain(*name); err == nil {
		*name = d
	}
}

// canonicalPattern is canonical for ".example.test" and "*".
func canonicalPattern(name *string) {
	bare, dotted := strings.CutPrefix(*name, ".")
	if d, err := parseDomain(bare); err == nil {
		*name = d
		if dotted {
			*name = "." + d
		}
	}
}

// machineName is the name the machine gives itself, which may be short;
// localhost if it is no domain name, as that of a container made of digits.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	if name, err = parseDomain(name); err != nil {
		return "localhost"
	}
	return name
}
