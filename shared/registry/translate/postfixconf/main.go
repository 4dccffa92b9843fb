package postfixconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Parameter is one line of main.cf.
type Parameter struct {
	Place
	Name, Value string
	// Fault says why the line cannot be read.
	Fault string
}

// Main is a main.cf.
type Main struct {
	// Parameters are all its lines, in their order; of several with one name
	// the last counts.
	Parameters []Parameter
	values     map[string]string
}

// ReadMain reads a main.cf.
func ReadMain(file string, text []byte) *Main {
	m := &Main{values: map[string]string{}}
	for _, at := range logical(file, text) {
		p := Parameter{Place: at}
		name, value, ok := strings.Cut(at.Text, "=")
		p.Name, p.Value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || p.Name == "" || strings.ContainsAny(p.Name, " \t") {
			p.Fault = "this is not \"name = value\""
		} else {
			m.values[p.Name] = p.Value
		}
		m.Parameters = append(m.Parameters, p)
	}
	return m
}

// With is the configuration with some values replaced, as "-o" in master.cf
// does.
func (m *Main) With(options []Option) *Main {
	out := &Main{Parameters: m.Parameters, values: make(map[string]string, len(m.values))}
	for name, value := range m.values {
		out.values[name] = value
	}
	for _, o := range options {
		out.values[o.Name] = o.Value
	}
	return out
}

// Set reports a parameter that has a value of its own.
func (m *Main) Set(name string) bool {
	_, ok := m.values[name]
	return ok
}

// Get is the expanded value of a parameter, or its default.
func (m *Main) Get(name string) (string, error) { return m.expand("$"+name, nil) }

// Level is the first number of compatibility_level.
func (m *Main) Level() int {
	first, _, _ := strings.Cut(m.values["compatibility_level"], ".")
	n, _ := strconv.Atoi(first)
	return n
}

// defaults are those of Postfix, for what is asked here.
var defaults = map[string]string{
	"config_directory": "/etc/postfix", "myorigin": "$myhostname",
	"mydestination":           "$myhostname, localhost.$mydomain, localhost",
	"virtual_alias_domains":   "$virtual_alias_maps",
	"virtual_mailbox_domains": "$virtual_mailbox_maps",
	"virtual_alias_maps":      "$virtual_maps",
	"parent_domain_matches_subdomains": "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks," +
		"qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
	"message_size_limit": "10240000", "smtpd_recipient_limit": "1000", "smtpd_delay_reject": "yes",
	"default_transport": "smtp", "relay_transport": "relay", "smtpd_sasl_auth_enable": "no",
	"maximal_queue_lifetime": "5d", "bounce_queue_lifetime": "5d", "default_database_type": "hash",
	"recipient_delimiter": "", "mail_name": "Postfix",
}

func (m *Main) raw(name string) (value string, known bool) {
	if value, known = m.values[name]; known {
		return value, true
	}
	switch name {
	case "mydomain":
		if _, domain, ok := strings.Cut(m.values["myhostname"], "."); ok {
			return domain, true
		}
		return "localdomain", true
	case "relay_domains":
		if m.Level() < 2 {
			return "$mydestination", true
		}
		return "", true
	case "smtpd_relay_restrictions":
		if m.Level() < 1 {
			return "", true
		}
		return "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination", true
	}
	value, known = defaults[name]
	return value, known
}

// Expand replaces the $names in a text.
func (m *Main) Expand(text string) (string, error) { return m.expand(text, nil) }

func (m *Main) expand(text string, within []string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		if text[i+1] == '$' {
			out.WriteByte('$')
			i++
			continue
		}
		macro, length := macroAt(text[i+1:])
		if length == 0 {
			return "", fmt.Errorf("%.60q has a $ without a name", text)
		}
		value, err := m.macro(macro, within)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		i += length
	}
	return out.String(), nil
}

// macroAt is the inside of a macro, and how long it is with its brackets.
func macroAt(s string) (macro string, length int) {
	closing := map[byte]byte{'{': '}', '(': ')'}[s[0]]
	if closing == 0 {
		n := 0
		for n < len(s) && isName(s[n]) {
			n++
		}
		return s[:n], n
	}
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case s[0]:
			depth++
		case closing:
			if depth--; depth == 0 {
				return s[1:i], i + 1
			}
		}
	}
	return "", 0
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// Mentions reports that a value contains the parameter of that name.
func Mentions(value, name string) bool {
	for {
		_, after, ok := strings.Cut(value, "$")
		if !ok {
			return false
		}
		value = after
		inner, found := strings.CutPrefix(strings.TrimLeft(after, "({"), name)
		if found && (inner == "" || !isName(inner[0])) {
			return true
		}
	}
}

// maxDepth bounds parameters within parameters.
const maxDepth = 16

// macro is the value of what stands within ${…}.
func (m *Main) macro(macro string, within []string) (string, error) {
	macro = strings.TrimSpace(macro)
	if strings.HasPrefix(macro, "{") {
		return m.comparison(macro, within)
	}
	n := 0
	for n < len(macro) && isName(macro[n]) {
		n++
	}
	name, rest := macro[:n], strings.TrimSpace(macro[n:])
	if slices.Contains(within, name) {
		return "", fmt.Errorf("$%s is defined by itself", name)
	}
	if len(within) > maxDepth {
		return "", fmt.Errorf("$%s stands within too many others", name)
	}
	raw, _ := m.raw(name)
	value, err := m.expand(raw, append(within[:len(within):len(within)], name))
	if err != nil || rest == "" {
		return value, err
	}
	if yes, no, ok := branches(rest); ok {
		if value != "" {
			return m.expand(yes, within)
		}
		return m.expand(no, within)
	}
	return "", fmt.Errorf("%.60q is no expression that can be read", macro)
}

// branches reads "?{x}:{y}", "?x" and ":y".
func branches(s string) (yes, no string, ok bool) {
	switch {
	case strings.HasPrefix(s, "?"):
		yes, rest := operand(s[1:])
		if rest == "" {
			return yes, "", true
		}
		if after, more := strings.CutPrefix(rest, ":"); more {
			no, _ := operand(after)
			return yes, no, true
		}
	case strings.HasPrefix(s, ":"):
		no, _ := operand(s[1:])
		return "", no, true
	}
	return "", "", false
}

// operand takes a text in braces, or all that is left.
func operand(s string) (text, rest string) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") {
		if inner, n := macroAt(s); n > 0 {
			return strings.TrimSpace(inner), strings.TrimSpace(s[n:])
		}
	}
	return s, ""
}

// comparison is "{a} op {b} ? {x} : {y}".
func (m *Main) comparison(macro string, within []string) (string, error) {
	left, rest := operand(macro)
	op, right := "", ""
	for _, known := range []string{"==level", "!=level", "<=level", ">=level", "<level", ">level", "==", "!=", "<=", ">=", "<", ">"} {
		if after, ok := strings.CutPrefix(rest, known); ok {
			op, right = known, after
			break
		}
	}
	right, rest = operand(right)
	yes, no, ok := branches(rest)
	if op == "" || !ok {
		return "", fmt.Errorf("%.60q is no expression that can be read", macro)
	}
	a, err := m.expand(left, within)
	if err != nil {
		return "", err
	}
	b, err := m.expand(right, within)
	if err != nil {
		return "", err
	}
	if holds(a, op, b) {
		return m.expand(yes, within)
	}
	return m.expand(no, within)
}

func holds(a, op, b string) bool {
	sign := strings.TrimSuffix(op, "level")
	order := strings.Compare(a, b)
	x, errX := number(a)
	y, errY := number(b)
	if errX == nil && errY == nil {
		order = 0
		switch {
		case x < y:
			order = -1
		case x > y:
			order = 1
		}
	}
	return map[string]bool{"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[sign]
}

func number(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
