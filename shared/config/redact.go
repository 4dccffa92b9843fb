package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// hidden stands for a credential in everything that is shown.
const hidden = "***"

// String is the effective configuration as YAML, with every default and
// without credentials. It is meant for people; what is hidden cannot be read
// back.
func (c Config) String() string {
	text, err := yaml.Marshal(c.redacted())
	if err != nil {
		return fmt.Sprintf("configuration of %s", c.Path) // every type in it can be marshalled
	}
	return string(text)
}

// GoString keeps %#v from showing more than String.
func (c Config) GoString() string { return c.String() }

// String is for logs and shows no credential.
func (b Bus) String() string {
	type plain Bus
	return fmt.Sprintf("%+v", plain(b.redacted()))
}

// GoString keeps %#v from showing more than String.
func (b Bus) GoString() string { return b.String() }

// String is for logs and shows no credential.
func (r Route) String() string {
	type plain Route
	return fmt.Sprintf("%+v", plain(r.redacted()))
}

// GoString keeps %#v from showing more than String.
func (r Route) GoString() string { return r.String() }

// String is for logs and shows no credential.
func (s Scan) String() string {
	type plain Scan
	return fmt.Sprintf("%+v", plain(s.redacted()))
}

// GoString keeps %#v from showing more than String.
func (s Scan) GoString() string { return s.String() }

// String is for logs and shows no credential.
func (l LDAP) String() string {
	type plain LDAP
	return fmt.Sprintf("%+v", plain(l.redacted()))
}

// GoString keeps %#v from showing more than String.
func (l LDAP) GoString() string { return l.String() }

func (c Config) redacted() Config {
	c.Bus = c.Bus.redacted()
	c.Scan = c.Scan.redacted()
	if c.Auth.LDAP != nil {
		ldap := c.Auth.LDAP.redacted()
		c.Auth.LDAP = &ldap
	}
	if c.Policy.Directory != nil {
		directory := c.Policy.Directory.redacted()
		c.Policy.Directory = &directory
	}
	c.Delivery.Routes = slices.Clone(c.Delivery.Routes)
	for i, r := range c.Delivery.Routes {
		c.Delivery.Routes[i] = r.redacted()
	}
	return c
}

func (b Bus) redacted() Bus {
	servers := strings.Split(b.URL, ",")
	for i := range servers {
		servers[i] = hideUser(servers[i])
	}
	b.URL = strings.Join(servers, ",")
	b.Credentials = hideCredentials(b.Credentials)
	b.SystemCredentials = hideCredentials(b.SystemCredentials)
	return b
}

func (l LDAP) redacted() LDAP {
	servers := l.Servers()
	for i := range servers {
		servers[i] = hideUser(servers[i])
	}
	l.URL = strings.Join(servers, ",")
	return l
}

func (r Route) redacted() Route {
	r.To = hideUser(r.To)
	r.Credentials = hideCredentials(r.Credentials)
	return r
}

func (s Scan) redacted() Scan {
	s.Rspamd, s.Milter = hideUser(s.Rspamd), hideUser(s.Milter)
	return s
}

// hideCredentials shows a path and nothing else: what has no slash in front
// may be a secret itself.
func hideCredentials(s string) string {
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(s, prefix) {
			return s
		}
	}
	if s == "" {
		return ""
	}
	return hidden
}

// hideUser removes the user information of a URL, and everything when it
// cannot be told apart.
func hideUser(s string) string {
	if !strings.Contains(s, "@") && !strings.Contains(s, "?") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return hidden
	}
	if u.User != nil {
		u.User = url.User("hidden")
	}
	u.RawQuery = ""
	return u.String()
}
