package delivery

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/smtpclient"
)

// Level is how much encryption a next hop needs. Higher includes lower.
type Level int

// The levels. LevelDANE has no implementation in this release and therefore
// fails closed: mail waits.
const (
	LevelOpportunistic Level = iota // TLS if offered, else clear (RFC 7435)
	LevelEncrypt                    // TLS, any certificate
	LevelVerify                     // TLS, a certificate valid for the host
	LevelDANE                       // TLS, authenticated by TLSA records (RFC 7672)
)

// String is the word of the configuration.
func (l Level) String() string {
	return [...]string{"opportunistic", string(config.TLSEncrypt), string(config.TLSVerify), string(config.TLSDANE)}[l]
}

// policy is the level as the client knows it.
func (l Level) policy() smtpclient.TLSPolicy {
	switch l {
	case LevelEncrypt:
		return smtpclient.Encrypt
	case LevelVerify, LevelDANE:
		return smtpclient.Verify
	}
	return smtpclient.Opportunistic
}

// NextHop is where the mail of a destination goes, as far as the
// configuration decides it.
type NextHop struct {
	// Destination is a domain as A-label, or an address literal.
	Destination string
	// Host is the fixed host of a route or literal: a name with addresses of
	// its own, or an IP address. Empty means the MXs of Destination.
	Host string
	// Port to connect to.
	Port uint16
	// Routed says that the operator named Host.
	Routed bool
	// TLS is the least that is accepted.
	TLS Level
	// ImplicitTLS starts TLS before the greeting (RFC 8314 §3.3).
	ImplicitTLS bool
	// LMTP speaks RFC 2033.
	LMTP bool

	auth smtpclient.Credential
}

// ByMX reports that the DNS names the hosts (RFC 5321 §5.1).
func (h NextHop) ByMX() bool { return h.Host == "" }

// String is the next hop for people: "MX of example.test", or host and port.
func (h NextHop) String() string {
	if h.ByMX() {
		return "MX of " + h.Destination
	}
	return fmt.Sprintf("%s port %d", h.Host, h.Port)
}

// Rules are what the configuration says about next hops, ready to be asked.
type Rules struct {
	routes  patterns[NextHop]
	require patterns[Level]
	sealed  bool // nothing leaves the machine but by a route
	port    uint16
	// hosted tells of a domain that is hosted its route, which may be empty. It may
	// be nil.
	hosted func(domain string) (route string, ok bool)
}

// NewRules reads delivery.routes, delivery.require_tls and the routes of
// hosted domains. Credentials in files are read now.
func NewRules(c *config.Config) (*Rules, error) {
	r := &Rules{routes: patterns[NextHop]{}, require: patterns[Level]{}, sealed: c.Sandbox, port: uint16(c.Delivery.MXPort)}
	for _, h := range c.Domains.Hosted {
		if h.Route == "" {
			continue
		}
		if err := r.addRoute(config.Route{Domain: h.Name, To: h.Route}); err != nil {
			return nil, err
		}
	}
	for _, route := range c.Delivery.Routes {
		if err := r.addRoute(route); err != nil {
			return nil, err
		}
	}
	for _, t := range c.Delivery.RequireTLS {
		level, err := levelOf(t.Level)
		if err != nil {
			return nil, err
		}
		r.require[t.Domain] = level
	}
	return r, nil
}

func levelOf(l config.TLSLevel) (Level, error) {
	for level := LevelEncrypt; level <= LevelDANE; level++ {
		if level.String() == string(l) {
			return level, nil
		}
	}
	return 0, fmt.Errorf("read delivery.require_tls: %q is no level", l)
}

func (r *Rules) addRoute(route config.Route) error {
	hop, err := routed(route)
	if err == nil {
		r.routes[route.Domain] = hop
	}
	return err
}

// routed is the next hop that a route names.
func routed(route config.Route) (NextHop, error) {
	to, err := config.ParseNextHop(route.To)
	if err != nil {
		return NextHop{}, fmt.Errorf("read route of %s: %w", route.Domain, err)
	}
	hop := NextHop{Host: to.Host, Port: uint16(to.Port), Routed: true}
	switch to.Scheme {
	case config.SchemeStartTLS:
		hop.TLS = LevelEncrypt
	case config.SchemeVerify:
		hop.TLS = LevelVerify
	case config.SchemeSMTPS:
		hop.TLS, hop.ImplicitTLS = LevelVerify, true
	case config.SchemeLMTP:
		hop.LMTP = true
	}
	if hop.auth, err = credential(route.Credentials); err != nil {
		return NextHop{}, fmt.Errorf("read credentials of the route of %s: %w", route.Domain, err)
	}
	return hop, nil
}

// credential reads "user:password", or the file that holds it. What names an
// existing file is a file.
func credential(s string) (smtpclient.Credential, error) {
	if s == "" {
		return smtpclient.Credential{}, nil
	}
	if content, err := os.ReadFile(s); err == nil {
		s = strings.TrimSpace(string(content))
	} else if !strings.Contains(s, ":") {
		return smtpclient.Credential{}, err
	}
	user, password, ok := strings.Cut(s, ":")
	if !ok || user == "" {
		return smtpclient.Credential{}, fmt.Errorf("they are not user:password")
	}
	return smtpclient.Credential{User: user, Password: password}, nil
}

// NextHop decides where the mail of a destination goes. A route for exactly
// the domain comes first, then that of a hosted domain, the longest ".suffix",
// "*", and then the MX. require_tls raises the level of a route and never lowers
// it. ok is false when the mail may not leave this machine, and when the route of
// a hosted domain cannot be read.
func (r *Rules) NextHop(destination string) (hop NextHop, ok bool) {
	hop, found, err := r.route(strings.ToLower(destination))
	switch ip, literal := literalIP(destination); {
	case err != nil:
		return NextHop{Destination: destination}, false
	case found:
	case r.sealed:
		return NextHop{Destination: destination}, false
	case literal: // RFC 5321 §4.1.3: the host itself
		hop = NextHop{Host: ip.String(), Port: r.port}
	default:
		hop = NextHop{Port: r.port}
	}
	hop.Destination = destination
	if level, found := r.require.find(destination); found {
		hop.TLS = max(hop.TLS, level)
	}
	return hop, true
}

// beyond reports a destination that is not hosted.
func (r *Rules) beyond(destination string) bool {
	if r.hosted == nil {
		return true
	}
	_, ok := r.hosted(strings.ToLower(destination))
	return !ok
}

// route is the next hop that somebody named for a domain.
func (r *Rules) route(domain string) (hop NextHop, found bool, err error) {
	if _, exact := r.routes[domain]; !exact && r.hosted != nil {
		if to, _ := r.hosted(domain); to != "" {
			hop, err = routed(config.Route{Domain: domain, To: to})
			return hop, err == nil, err
		}
	}
	hop, found = r.routes.find(domain)
	return hop, found, nil
}

func literalIP(destination string) (netip.Addr, bool) {
	return smtp.Address{Local: "x", Domain: destination}.LiteralIP()
}

// patterns are values for "domain", ".suffix" and "*".
type patterns[V any] map[string]V

// find gives the value of the most specific pattern. A suffix holds for
// subdomains only, not for the domain itself.
func (p patterns[V]) find(domain string) (V, bool) {
	domain = strings.ToLower(domain)
	if v, ok := p[domain]; ok {
		return v, true
	}
	for rest := domain; !strings.HasPrefix(domain, "["); {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			break
		}
		if v, ok := p["."+parent]; ok {
			return v, true
		}
		rest = parent
	}
	v, ok := p["*"]
	return v, ok
}
