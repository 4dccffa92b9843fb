package translate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/config"
)

// Hints are what the input says about the configuration file. What is not
// said is left out.
type Hints struct {
	Hostname        string              `json:"hostname,omitempty"`
	Certificate     string              `json:"certificate,omitempty"`
	Key             string              `json:"key,omitempty"`
	Listeners       []Listener          `json:"listeners,omitempty"`
	MessageSize     int64               `json:"message_size,omitempty"` // octets
	Recipients      int                 `json:"recipients,omitempty"`
	Routes          []config.Route      `json:"routes,omitempty"`
	RequireTLS      []config.RequireTLS `json:"require_tls,omitempty"`
	Connections     int                 `json:"connections,omitempty"`
	Lifetime        string              `json:"lifetime,omitempty"`
	ReportLifetime  string              `json:"report_lifetime,omitempty"`
	SourceAddresses []netip.Addr        `json:"source_addresses,omitempty"`
	Hosted          []string            `json:"hosted,omitempty"`
	MadeUp          int                 `json:"made_up_names,omitempty"` // devices whose name the DNS does not know
	// Observe puts the rules that the input did not have on observe.
	Observe bool `json:"-"`
}

// Listener is one that the input had.
type Listener struct {
	Name       string              `json:"name"`
	Address    string              `json:"address"`
	Mode       config.ListenerMode `json:"mode"`
	PerAddress int                 `json:"per_address,omitempty"`
}

// YAML is the fragment of a configuration file, with what an operator should
// know as comments. Hosted domains are in the registry, and named in a comment.
func (h *Hints) YAML() string {
	w := &strings.Builder{}
	fmt.Fprintln(w, "# Fragment for postrider.yaml, made by an import. Read it before you use it.")
	section := func(name string, lines ...string) {
		written := false
		for _, l := range lines {
			if l == "" {
				continue
			}
			if !written {
				fmt.Fprintln(w, name+":")
			}
			written = true
			fmt.Fprintln(w, l)
		}
	}
	section("relay", pair("hostname", h.Hostname))
	section("tls", pair("certificate", h.Certificate), pair("key", h.Key))
	var listeners []string
	for _, l := range h.Listeners {
		limit := ""
		if l.PerAddress > 0 {
			limit = fmt.Sprintf(", limits: {per_address: %d}", l.PerAddress)
		}
		listeners = append(listeners, fmt.Sprintf("  - {name: %s, address: %s, mode: %s%s}", l.Name, strconv.Quote(l.Address), l.Mode, limit))
	}
	section("listeners", listeners...)
	if len(h.Hosted) > 0 {
		fmt.Fprintf(w, "# domains.hosted: %d domains are in the registry (postrider domain ls)\n", len(h.Hosted))
	}
	if h.Observe {
		section("policy", "  # No other relay asks these. Whom they would stop: postrider check observed", "  fcrdns: observe", "  observe: [header-from]")
	} else if h.MadeUp > 0 {
		section("policy", "  # "+strconv.Itoa(h.MadeUp)+" devices have a name that was made up, which the DNS does not know.", "  fcrdns: off")
	}
	section("limits", number("message_size", h.MessageSize), number("recipients", int64(h.Recipients)))
	section("delivery", h.delivery()...)
	return w.String()
}

func (h *Hints) delivery() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if len(h.RequireTLS) > 0 {
		add("  require_tls:")
		for _, r := range h.RequireTLS {
			add("    - {domain: %s, level: %s}", strconv.Quote(r.Domain), r.Level)
		}
	}
	if len(h.Routes) > 0 {
		add("  routes:")
		for _, r := range h.Routes {
			credentials := ""
			if r.Credentials != "" {
				credentials = ", credentials: " + strconv.Quote(r.Credentials)
			}
			add("    - {domain: %s, to: %s%s}", strconv.Quote(r.Domain), strconv.Quote(r.To), credentials)
		}
	}
	if h.Connections > 0 {
		add("  connections: %d", h.Connections)
	}
	if h.Lifetime != "" || h.ReportLifetime != "" {
		add("  lifetime:")
		for _, class := range []string{"alert", "scan", "application", "default"} {
			if h.Lifetime != "" {
				add("    %s: %s", class, h.Lifetime)
			}
		}
		if h.ReportLifetime != "" {
			add("    report: %s", h.ReportLifetime)
		}
	}
	if len(h.SourceAddresses) > 0 {
		add("  source_addresses: [%s]", strings.Trim(strings.ReplaceAll(fmt.Sprintf("%q", fmt.Sprint(h.SourceAddresses)), " ", ", "), `"[]`))
	}
	return lines
}

func pair(key, value string) string {
	if value == "" {
		return ""
	}
	return "  " + key + ": " + strconv.Quote(value)
}

func number(key string, n int64) string {
	if n == 0 {
		return ""
	}
	return "  " + key + ": " + strconv.FormatInt(n, 10)
}
