package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// Auth names the authorities for AUTH.
type Auth struct {
	// Kerberos checks passwords against a realm. Default: none.
	Kerberos *Kerberos `yaml:"kerberos"`
	// LDAP checks passwords against a directory. Default: none.
	LDAP *LDAP `yaml:"ldap"`
	// Local checks the credentials of the registry.
	Local bool `yaml:"local"`
}

// Any reports that somebody can authenticate at all.
func (a *Auth) Any() bool { return a.Local || a.Kerberos != nil || a.LDAP != nil }

// Kerberos is a realm whose principals may authenticate.
type Kerberos struct {
	// Realm exactly as the KDC has it, mostly in capitals.
	Realm string `yaml:"realm"`
	// Keytab is the file with the key of the service, by which the KDC proves
	// that it is the true one. It is read again for every check.
	Keytab string `yaml:"keytab"`
	// KDC are the servers, as host or host:port, in the order in which they are
	// asked. Empty: as the DNS says (_kerberos._tcp).
	KDC []string `yaml:"kdc"`
	// Service is the principal whose key is in the keytab, without the realm.
	// Default: smtp/ and relay.hostname.
	Service string `yaml:"service"`
}

// LDAP is a directory whose entries may authenticate.
type LDAP struct {
	// URL of the directory, ldaps://host or ldap://host, which must offer
	// STARTTLS; several separated by commas, in the order in which they are asked.
	URL string `yaml:"url"`
	// CA is a PEM file with the certificates that the server's must come from.
	// Empty: the system's.
	CA string `yaml:"ca"`
	// Base is the entry below which users are searched.
	Base string `yaml:"base"`
	// Filter finds the one entry of a user; %s stands for the name given in AUTH.
	Filter string `yaml:"filter"`
	// Identity is the attribute with the name that the registry knows.
	Identity string `yaml:"identity"`
	// BindDN is the entry that may search. Empty: anybody may.
	BindDN string `yaml:"bind_dn"`
	// BindPasswordFile holds its password, and is read again for every check.
	BindPasswordFile string `yaml:"bind_password_file"`
	// UserDN is the entry of a user, %s standing for the name given in AUTH:
	// nothing is searched then, and the identity is that name in lower case.
	UserDN string `yaml:"user_dn"`
	// Clear sends passwords without TLS. The url must be ldap:// and a loopback
	// address.
	Clear bool `yaml:"clear"`
}

// Servers are the URLs of the directory.
func (l *LDAP) Servers() []string {
	servers := strings.Split(l.URL, ",")
	for i := range servers {
		servers[i] = strings.TrimSpace(servers[i])
	}
	return servers
}

func (k *checker) auth() {
	if k.Auth.Kerberos != nil {
		k.kerberos(k.Auth.Kerberos)
	}
	if k.Auth.LDAP != nil {
		k.directory("auth.ldap", k.Auth.LDAP)
		k.directoryUsers(k.Auth.LDAP)
	}
}

func (k *checker) kerberos(c *Kerberos) {
	if !isPrincipal(c.Realm) || strings.Contains(c.Realm, "/") {
		k.bad("auth.kerberos.realm", "%s is not a realm (example: CAMPUS.TEST)", quote(c.Realm))
	}
	if c.Keytab == "" {
		k.bad("auth.kerberos.keytab", "a file with the key of the service is needed, or anybody could play the KDC")
	}
	if !isPrincipal(c.Service) {
		k.bad("auth.kerberos.service", "%s is not a principal without its realm (example: smtp/relay.campus.test)", quote(c.Service))
	}
	for i, server := range c.KDC {
		host := server
		if at, _, err := splitHostPort(server); err == nil {
			host = at
		}
		if _, err := parseHost(host); err != nil {
			k.bad(item("auth.kerberos.kdc", i), "%s is neither host nor host:port (example: kdc1.campus.test)", quote(server))
		}
	}
}

func isPrincipal(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsAny(s, "@\\ \t\r\n\x00")
}

// directory checks how the servers are reached, in a section. Nothing is quoted: a
// URL may hold a password.
func (k *checker) directory(section string, c *LDAP) {
	for _, server := range c.Servers() {
		u, err := url.Parse(server)
		switch {
		case err != nil || !isURL(server, "ldap", "ldaps") || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			k.bad(section+".url", "this is not the URL of a directory: ldaps://host[:port], or ldap://host[:port] for STARTTLS (example: ldaps://ldap.campus.test)")
			return
		case c.Clear && (u.Scheme != "ldap" || !isLoopback(u.Hostname())):
			k.bad(section+".clear", "passwords go in clear to loopback only: the url must be ldap:// and an address as 127.0.0.1")
			return
		}
	}
	switch {
	case c.BindDN != "" && c.BindPasswordFile == "":
		k.bad(section+".bind_dn", "an entry that searches needs %s.bind_password_file as well", section)
	case c.BindDN == "" && c.BindPasswordFile != "":
		k.bad(section+".bind_password_file", "a password needs %s.bind_dn as well", section)
	}
}

// directoryUsers checks how the entry of a user is found.
func (k *checker) directoryUsers(c *LDAP) {
	if c.UserDN != "" {
		if strings.Count(c.UserDN, "%s") != 1 || !strings.Contains(c.UserDN, "=") {
			k.bad("auth.ldap.user_dn", "%s is not the name of an entry with one %%s in it (example: \"uid=%%s,ou=people,dc=campus,dc=test\")", quote(c.UserDN))
		}
		if c.Base != "" || c.BindDN != "" {
			k.bad("auth.ldap.user_dn", "with it nothing is searched; remove auth.ldap.base and bind_dn, or this")
		}
		return
	}
	if c.Base == "" {
		k.bad("auth.ldap.base", "the entry below which users are found is needed (example: \"ou=people,dc=campus,dc=test\"), or auth.ldap.user_dn")
	}
	k.filter("auth.ldap.filter", c.Filter, "(uid=%s)")
	if !isFieldName(c.Identity) || c.Identity == "" {
		k.bad("auth.ldap.identity", "%s is not the name of an attribute (example: uid)", quote(c.Identity))
	}
}

func (k *checker) filter(key, filter, example string) {
	if !strings.Contains(filter, "%s") || !strings.HasPrefix(filter, "(") || !strings.HasSuffix(filter, ")") {
		k.bad(key, "%s is not a filter with %%s in it (example: %q)", quote(filter), example)
	}
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
