package authority

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/directory"
)

// LDAP is a directory (RFC 4511). A user's entry is found by a search, or by
// its name alone; that a bind as this entry succeeds shows the password.
type LDAP struct {
	cfg    config.LDAP
	client *directory.Client
}

// OpenLDAP makes the authority of a directory.
func OpenLDAP(cfg config.LDAP) (*LDAP, error) {
	client, err := directory.Open(cfg, "auth.ldap")
	if err != nil {
		return nil, err
	}
	return &LDAP{cfg, client}, nil
}

// Check asks the directory.
func (l *LDAP) Check(ctx context.Context, user, password string) (name string, err error) {
	if password == "" {
		return "", refusal(Wrong, "empty password")
	}
	unreached := l.client.Do(ctx, func(c *directory.Conn) (broken bool) {
		name, err = l.question(c, user, password)
		return isDown(err)
	})
	if unreached != nil {
		return "", silent("%v", unreached)
	}
	return name, err
}

// question finds the entry of a user and binds as it.
func (l *LDAP) question(c *directory.Conn, user, password string) (string, error) {
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
func (l *LDAP) find(c *directory.Conn, user string) (name, dn string, err error) {
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
func (l *LDAP) search(c *directory.Conn, user string) (name, dn string, err error) {
	if err := l.bindSearcher(c); err != nil {
		return "", "", err
	}
	const two, seconds = 2, int(patience / 1e9)
	found, err := c.Search(ldap.NewSearchRequest(l.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, two, seconds, false,
		directory.Filter(l.cfg.Filter, user), []string{l.cfg.Identity}, nil))
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

// bindSearcher makes the connection that of the entry that may search.
func (l *LDAP) bindSearcher(c *directory.Conn) error {
	err := c.BindSearcher()
	switch {
	case err == nil:
		return nil
	case l.cfg.BindDN == "":
		return trouble(err, "bind as anybody")
	}
	return silent("bind as auth.ldap.bind_dn: %v", err)
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
