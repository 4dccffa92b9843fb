package translate

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// routes translates transport_maps, relayhost, default_transport and the TLS
// policies of the client.
func (p *postfix) routes() {
	p.policies()
	p.each("transport_maps", "routes; its lines have rows of their own", p.transport)
	if value := p.take("relayhost", "the route of everything else"); value != "" {
		p.route(p.at("relayhost"), "*", "smtp", value)
	}
	if value := p.take("default_transport", "the route of everything else"); p.main.Set("default_transport") && value != "smtp" {
		kind, hop, _ := strings.Cut(value, ":")
		p.route(p.at("default_transport"), "*", kind, hop)
	}
	p.credentials()
	slices.SortStableFunc(p.result.Hints.Routes, func(a, b config.Route) int { return strings.Compare(a.Domain, b.Domain) })
}

// each gives every line of the tables of a parameter to do.
func (p *postfix) each(name, became string, do func(*line)) {
	if p.get(name) == "" {
		return
	}
	p.taken[name] = became
	for _, word := range postfixconf.Fields(p.get(name)) {
		t, ok := p.reference(p.at(name), word, "")
		if !ok {
			continue
		}
		for _, l := range t.lines {
			if l.said {
				continue
			}
			l.said = true
			if t.reference.Kind != postfixconf.Indexed {
				p.left(l.place(), "", "a pattern; routes and policies name a domain, or \".domain\" for its subdomains", "name the domains")
				continue
			}
			do(l)
		}
	}
}

func (p *postfix) transport(l *line) {
	kind, hop, _ := strings.Cut(l.Value, ":")
	switch domain := l.Key; {
	case strings.Contains(domain, "@"):
		p.left(l.place(), "", "a route of one recipient; routes are of domains", "give the recipient an address in a domain of its own")
	case domain != "*" && !fqdn.MatchString(strings.TrimPrefix(domain, ".")):
		p.left(l.place(), "", "this is no domain", "see what it was meant to be")
	case kind == "" && hop == "":
		p.left(l.place(), "", "an exception from a wider line: by its MX", "name its next hop, or narrow the wider route")
	default:
		p.route(l.place(), domain, kind, hop)
	}
}

// route makes one of a transport and its next hop.
func (p *postfix) route(at place, domain, kind, hop string) {
	if slices.ContainsFunc(p.result.Hints.Routes, func(r config.Route) bool { return r.Domain == domain }) {
		p.left(at, "", domain+" has a route already", "see which is meant")
		return
	}
	protocol, verb := p.protocol(kind)
	if protocol == "" {
		p.left(at, "", verb+" is no delivery over the network", "say which host takes this mail")
		return
	}
	if hop == "" {
		p.meaningless(at, "by MX, as it is without a route")
		return
	}
	host, port, bracketed, ok := nextHop(hop, protocol)
	if !ok {
		p.left(at, "", hop+" is no host that can be reached over the network", "say which host takes this mail")
		return
	}
	to := p.scheme(protocol, hop) + "://" + host
	if port != "" {
		to += ":" + port
	}
	if _, err := config.ParseNextHop(to); err != nil {
		p.left(at, "", err.Error(), "write the route by hand")
		return
	}
	p.result.Hints.Routes = append(p.result.Hints.Routes, config.Route{Domain: domain, To: to})
	p.translated(at, "route of "+domain+" to "+to)
	if !bracketed && protocol == "smtp" {
		p.left(at, "", "there "+host+" is looked up by its MX, here by its addresses", "name the host, or several")
	}
}

// protocol is smtp or lmtp for a transport that speaks it; otherwise verb says
// what it does.
func (p *postfix) protocol(kind string) (protocol, verb string) {
	switch kind {
	case "", "smtp", "relay":
		return "smtp", ""
	case "lmtp":
		return "lmtp", ""
	}
	for i := range p.services {
		s := &p.services[i]
		if s.Name == kind && s.Type == "unix" && (s.Command == "smtp" || s.Command == "lmtp") {
			if option(s, "smtp_tls_wrappermode") == "yes" {
				return "smtps", ""
			}
			return s.Command, ""
		}
	}
	return "", "the transport " + kind
}

// nextHop takes "[host]:port", "host:port" and "inet:host:port" apart.
func nextHop(hop, protocol string) (host, port string, bracketed, ok bool) {
	hop = strings.TrimPrefix(hop, "inet:")
	if strings.HasPrefix(hop, "unix:") || strings.HasPrefix(hop, "/") || strings.ContainsAny(hop, ", ") {
		return "", "", false, false
	}
	host = hop
	bracketed = strings.HasPrefix(hop, "[")
	if i := strings.LastIndexByte(hop, ':'); i > strings.LastIndexByte(hop, ']') {
		host, port = hop[:i], hop[i+1:]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(strings.Trim(host, "[]"), "ipv6:"), ".")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	switch port {
	case "smtp":
		port = "25"
	case "submission":
		port = "587"
	case "smtps", "submissions":
		port = "465"
	}
	if _, err := strconv.Atoi(port); port != "" && err != nil || host == "" {
		return "", "", false, false
	}
	if net.ParseIP(host) != nil || protocol != "smtp" {
		bracketed = true
	}
	return host, port, bracketed, true
}

// scheme is the protocol with what the policies ask of TLS towards a next hop.
func (p *postfix) scheme(protocol, hop string) string {
	if protocol != "smtp" {
		return protocol
	}
	level, ok := p.hops[strings.ToLower(hop)]
	if !ok {
		level = p.level
	}
	switch level {
	case config.TLSEncrypt:
		return "smtp+starttls"
	case config.TLSVerify:
		return "smtp+verify"
	}
	return "smtp"
}

// policies translates smtp_tls_security_level and smtp_tls_policy_maps.
func (p *postfix) policies() {
	p.hops = map[string]config.TLSLevel{}
	const name = "smtp_tls_security_level"
	level, exact := levelOf(p.take(name, "how routes are encrypted"))
	if p.level = level; level != "" {
		p.left(p.at(name), "", "it holds for every destination; delivery.require_tls names domains", "name the domains that matter; routes have it already")
	}
	if !exact {
		p.left(p.at(name), "", "TLS is used here wherever it is offered, with DANE only where delivery.require_tls says so", "name the domains that matter")
	}
	p.each("smtp_tls_policy_maps", "delivery.require_tls; its lines have rows of their own", p.policy)
}

func levelOf(word string) (level config.TLSLevel, exact bool) {
	switch word {
	case "", "may":
		return "", true
	case "encrypt":
		return config.TLSEncrypt, true
	case "verify", "secure":
		return config.TLSVerify, true
	case "dane-only":
		return config.TLSDANE, true
	case "fingerprint":
		return config.TLSVerify, false
	}
	return "", false // none, dane
}

func (p *postfix) policy(l *line) {
	words := strings.Fields(l.Value)
	level, exact := levelOf(words[0])
	switch key := l.Key; {
	case !exact:
		p.left(l.place(), "", "level "+words[0]+" does not exist here: TLS is used wherever it is offered", "choose encrypt, verify or dane in delivery.require_tls, if any")
		return
	case level == "":
		p.meaningless(l.place(), "TLS is used wherever it is offered")
	case strings.HasPrefix(key, "[") || strings.Contains(key, ":"):
		p.hops[key] = level
		p.translated(l.place(), "the scheme of routes to "+key)
	case !fqdn.MatchString(strings.TrimPrefix(key, ".")):
		p.left(l.place(), "", "this is no domain", "see what it was meant to be")
		return
	default:
		p.hops[key] = level
		p.result.Hints.RequireTLS = append(p.result.Hints.RequireTLS, config.RequireTLS{Domain: key, Level: level})
		p.translated(l.place(), "require_tls "+string(level)+" for "+key)
	}
	if len(words) > 1 {
		p.left(l.place(), "", strings.Join(words[1:], " ")+": of a level nothing can be set here but its name", "see that certificates are valid for the name of the host")
	}
}

// credentials names the routes that need a login. What the login is stays
// where it is.
func (p *postfix) credentials() {
	p.each("smtp_sasl_password_maps", "credentials of routes; its lines have rows of their own", func(l *line) {
		at := l.place()
		at.text = l.Key + " (secret)"
		for i, r := range p.result.Hints.Routes {
			hop, err := config.ParseNextHop(r.To)
			host, port, _, ok := nextHop(l.Key, "smtp")
			if err != nil || !ok || hop.Host != strings.Trim(host, "[]") || port != "" && port != strconv.Itoa(hop.Port) {
				continue
			}
			file := "/etc/postrider/credentials/" + label(hop.Host)
			p.result.Hints.Routes[i].Credentials = file
			p.left(at, "", "the secret is not copied", "write its user:password into "+file+" with mode 0600")
			return
		}
		p.left(at, "", "no route leads to this host", "see whether it is still in use")
	})
}
