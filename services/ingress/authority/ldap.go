package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
)

// LDAP is a directory (RFC 4511). A user's entry is found by a search, or by
// its name alone; that a bind as this entry succeeds shows the password.
// Connections are kept and used again, for one question at a time.
type LDAP struct {
	cfg     config.LDAP
	servers []server
	tls     *tls.Config
	idle    chan *link
}

// server is where a directory listens.
type server struct {
	address, host string
	implicit      bool // TLS from the start
}

// maxIdle is how many connections are kept.
const maxIdle = 4

// OpenLDAP makes the authority of a directory.
func OpenLDAP(cfg config.LDAP) (*LDAP, error) {
	l := &LDAP{cfg: cfg, tls: &tls.Config{MinVersion: tls.VersionTLS12}, idle: make(chan *link, maxIdle)}
	for _, text := range cfg.Servers() {
		u, err := url.Parse(text)
		if err != nil {
			return nil, errors.New("auth.ldap.url is not a URL") // which may hold a password
		}
		s := server{host: u.Hostname(), implicit: u.Scheme == "ldaps"}
		port := u.Port()
		switch {
		case port != "":
		case s.implicit:
			port = "636"
		default:
			port = "389"
		}
		s.address = net.JoinHostPort(s.host, port)
		l.servers = append(l.servers, s)
	}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("open auth.ldap.ca: %w", err)
		}
		l.tls.RootCAs = x509.NewCertPool()
		if !l.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("auth.ldap.ca: %s has no certificate in PEM", cfg.CA)
		}
	}
	if cfg.BindDN != "" {
		if _, err := l.bindPassword(); err != nil {
			return nil, err
		}
	}
	if cfg.UserDN == "" {
		if _, err := ldap.CompileFilter(filterOf(cfg.Filter, "x")); err != nil {
			return nil, fmt.Errorf("auth.ldap.filter: %w", err)
		}
	}
	return l, nil
}

// bindPassword is that of the entry that searches. An empty one would bind
// nobody, and look like a success.
func (l *LDAP) bindPassword() (string, error) {
	text, err := os.ReadFile(l.cfg.BindPasswordFile)
	if err != nil {
		return "", fmt.Errorf("open auth.ldap.bind_password_file: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("auth.ldap.bind_password_file: %s is empty", l.cfg.BindPasswordFile)
	}
	return password, nil
}

// Check asks on a connection that is idle. One that broke meanwhile says
// nothing about the directory; a fresh one does.
func (l *LDAP) Check(ctx context.Context, user, password string) (string, error) {
	if password == "" {
		return "", refusal(Wrong, "empty password")
	}
	for {
		c, fresh, err := l.connection(ctx)
		if err != nil {
			return "", silent("connect: %v", err)
		}
		release := c.bound(ctx)
		name, err := l.question(c, user, password)
		release()
		if !isDown(err) {
			l.keep(c)
			return name, err
		}
		c.Close()
		if fresh {
			return "", err
		}
	}
}

// question finds the entry of a user and binds as it.
func (l *LDAP) question(c *link, user, password string) (string, error) {
	name, dn, err := l.find(c, user)
	if err != nil {
		return "", err
	}
	request := ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()})
	result, err := c.SimpleBind(request)
	if why := locked(result, err); why != "" {
		return "", refusal(Locked, "%s: %s", dn, why)
	}
	if err != nil {
		return "", verdict(err, dn)
	}
	return name, nil
}

// find gives the entry of a user, and the name that it has in the registry.
func (l *LDAP) find(c *link, user string) (name, dn string, err error) {
	switch {
	case l.cfg.UserDN == "":
		return l.search(c, user)
	case !plain(user):
		return "", "", refusal(Unknown, "not a name of the directory")
	}
	return strings.ToLower(user), strings.ReplaceAll(l.cfg.UserDN, "%s", ldap.EscapeDN(user)), nil
}

// plain is a name that a directory does not compare as equal to another, but for
// case: printable ASCII without spaces.
func plain(user string) bool {
	return !strings.ContainsFunc(user, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// search finds the one entry of a user by auth.ldap.filter.
func (l *LDAP) search(c *link, user string) (name, dn string, err error) {
	if err := l.bindSearcher(c); err != nil {
		return "", "", err
	}
	const two, seconds = 2, int(patience / 1e9)
	found, err := c.Search(ldap.NewSearchRequest(l.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, two, seconds, false,
		filterOf(l.cfg.Filter, user), []string{l.cfg.Identity}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || err == nil && len(found.Entries) > 1:
		return "", "", refusal(Unknown, "several entries match auth.ldap.filter")
	case err != nil:
		return "", "", trouble(err, "search below auth.ldap.base")
	case len(found.Entries) == 0:
		return "", "", refusal(Unknown, "no entry matches auth.ldap.filter")
	}
	entry := found.Entries[0]
	names := entry.GetEqualFoldAttributeValues(l.cfg.Identity)
	if len(names) == 0 || entry.DN == "" {
		return "", "", refusal(Unavailable, "%s has no %s that we may read (auth.ldap.identity)", entry.DN, l.cfg.Identity)
	}
	for _, n := range names {
		if strings.EqualFold(n, user) {
			return n, entry.DN, nil
		}
	}
	return names[0], entry.DN, nil
}

// bindSearcher makes the connection that of the entry that may search: the last
// question left it to a user.
func (l *LDAP) bindSearcher(c *link) error {
	if l.cfg.BindDN == "" {
		if err := c.UnauthenticatedBind(""); err != nil { // anonymous, RFC 4513 §5.1.1
			return trouble(err, "bind as anybody")
		}
		return nil
	}
	password, err := l.bindPassword()
	if err != nil {
		return silent("%v", err)
	}
	if err := c.Bind(l.cfg.BindDN, password); err != nil {
		return silent("bind as auth.ldap.bind_dn: %v", err)
	}
	return nil
}

// filterOf puts a user name into a filter, and nothing but a name (RFC 4515 §3).
func filterOf(filter, user string) string {
	return strings.ReplaceAll(filter, "%s", ldap.EscapeFilter(user))
}

// refusal is a verdict of the directory, or its lack.
func refusal(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Authority: authz.LDAP, Reason: fmt.Sprintf(format, args...)}
}

// silent is a directory that does not answer.
func silent(format string, args ...any) *Error {
	e := refusal(Unavailable, format, args...)
	e.down = true
	return e
}
