package translate

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry/translate/postfixconf"
)

// master reads master.cf: the listeners, and what its smtpd on port 25 has set
// otherwise than main.cf.
func (p *postfix) master() {
	text, err := readFile(p.dir, "master.cf")
	if err != nil {
		p.left(place{file: "master.cf", text: "master.cf"}, Everybody, "there is no master.cf: what its services set is not known", "copy it, and import again")
		return
	}
	p.services = postfixconf.ReadMaster("master.cf", text)
	primary := p.primary()
	for i := range p.services {
		s := &p.services[i]
		switch {
		case s.Fault != "":
			p.left(placeOf(s.Place), "", s.Fault, "mend it, and import again")
		case s.Type == "inet" && (s.Command == "smtpd" || s.Command == "postscreen"):
			p.listener(s, s == primary)
		default:
			p.service(s)
		}
	}
	if primary != nil {
		p.main = p.main.With(primary.Options)
	}
}

// primary is the service for devices: that on port 25, else the first without
// TLS from the start.
func (p *postfix) primary() *postfixconf.Service {
	var first *postfixconf.Service
	for i := range p.services {
		s := &p.services[i]
		if s.Type != "inet" || s.Command != "smtpd" {
			continue
		}
		if _, port := hostPort(s.Name); port == 25 {
			return s
		}
		if first == nil && modeOf(s) == config.ModeRelay {
			first = s
		}
	}
	// Behind postscreen the smtpd of port 25 is a service of type pass.
	for i := range p.services {
		if s := &p.services[i]; s.Type == "pass" && s.Command == "smtpd" {
			return s
		}
	}
	return first
}

func hostPort(name string) (host string, port int) {
	host, service, err := net.SplitHostPort(name)
	if err != nil {
		host, service = "", name
	}
	switch service {
	case "smtp":
		return host, 25
	case "submission":
		return host, 587
	case "smtps", "submissions":
		return host, 465
	}
	port, _ = strconv.Atoi(service)
	return host, port
}

func option(s *postfixconf.Service, name string) string {
	for i := len(s.Options) - 1; i >= 0; i-- {
		if s.Options[i].Name == name {
			return s.Options[i].Value
		}
	}
	return ""
}

func modeOf(s *postfixconf.Service) config.ListenerMode {
	_, port := hostPort(s.Name)
	switch {
	case option(s, "smtpd_tls_wrappermode") == "yes" || port == 465:
		return config.ModeSubmissions
	case port == 587, needsLogin(s):
		return config.ModeSubmission
	}
	return config.ModeRelay
}

// needsLogin reports restrictions that admit authenticated clients only.
func needsLogin(s *postfixconf.Service) bool {
	for _, list := range []string{"smtpd_client_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions"} {
		if words := postfixconf.Fields(option(s, list)); slices.Equal(words, []string{"permit_sasl_authenticated", "reject"}) {
			return true
		}
	}
	return false
}

// listener is a service that takes mail.
func (p *postfix) listener(s *postfixconf.Service, primary bool) {
	host, port := hostPort(s.Name)
	at := placeOf(s.Place)
	mode := modeOf(s)
	if port == 0 || p.takenPort(port, host) {
		p.left(at, "", "this is no listener of its own", "see listeners in the configuration")
		return
	}
	l := Listener{Name: fmt.Sprintf("%s-%d", mode, port), Address: net.JoinHostPort(host, strconv.Itoa(port)), Mode: mode}
	if host == "" {
		l.Address = ":" + strconv.Itoa(port)
	}
	if n := len(p.result.Hints.Listeners); slices.ContainsFunc(p.result.Hints.Listeners, func(h Listener) bool { return h.Name == l.Name }) {
		l.Name += "-" + strconv.Itoa(n)
	}
	p.result.Hints.Listeners = append(p.result.Hints.Listeners, l)
	p.translated(at, fmt.Sprintf("listener %s of mode %s", l.Address, mode))
	if s.Command == "postscreen" {
		p.left(at, "", "postscreen keeps zombies away from an MX; a relay of registered devices has none", "nothing")
	}
	if primary {
		return // its options are evaluated as those of main.cf
	}
	for _, o := range s.Options {
		p.override(at, mode, o)
	}
}

func (p *postfix) takenPort(port int, host string) bool {
	return slices.ContainsFunc(p.result.Hints.Listeners, func(l Listener) bool {
		had, err := strconv.Atoi(l.Address[strings.LastIndexByte(l.Address, ':')+1:])
		return err == nil && had == port && (host == "" || strings.HasPrefix(l.Address, ":") || strings.HasPrefix(l.Address, host+":"))
	})
}

// override is an option of a listener for authenticated clients.
func (p *postfix) override(at place, mode config.ListenerMode, o postfixconf.Option) {
	at.text = "-o " + o.Name + "=" + o.Value
	switch o.Name {
	case "syslog_name", "milter_macro_daemon_name", "smtpd_reject_unlisted_recipient", "smtpd_tls_wrappermode", "smtpd_tls_auth_only",
		"smtpd_sasl_auth_enable", "smtpd_tls_security_level", "local_header_rewrite_clients":
		p.meaningless(at, "what a listener of mode "+string(mode)+" does, or does not need")
	case "smtpd_client_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions":
		if value := strings.Join(postfixconf.Fields(o.Value), " "); value == "permit_sasl_authenticated reject" || value == "" || strings.HasPrefix(value, "$mua_") {
			p.meaningless(at, "what a listener of mode "+string(mode)+" does")
			return
		}
		p.left(at, Everybody, "restrictions of this listener alone are not evaluated", "see what they admit there")
	default:
		p.left(at, "", "a setting of this listener alone", "see listeners in the configuration")
	}
}

// service is one that takes no mail from the network.
func (p *postfix) service(s *postfixconf.Service) {
	at := placeOf(s.Place)
	switch s.Command {
	case "pipe", "spawn", "virtual", "local", "lmtp":
		p.meaningless(at, "delivery to programs and mailboxes of its own machine; it matters where a route names it")
	case "qmqpd":
		p.left(at, "", "Postrider takes no mail by QMQP", "let its clients use SMTP")
	case "smtp":
		p.meaningless(at, "a client of its own; it matters where a route names it")
		for _, o := range s.Options {
			if !slices.Contains([]string{"syslog_name", "smtp_tls_wrappermode", "smtp_tls_security_level", "smtp_fallback_relay"}, o.Name) {
				p.left(place{at.file, at.first, at.last, "-o " + o.Name + "=" + o.Value}, "", "a setting of the transport "+s.Name, "see delivery in the configuration")
			}
		}
	default:
		p.meaningless(at, "how Postfix is made of processes")
	}
}
