package authority

import (
	"context"
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

// Identity is who somebody proved to be.
type Identity struct {
	// Name is the credential's in the registry where it has one, otherwise the
	// authority's own.
	Name      string
	Authority authz.Authority
}

// Authorities are all that are configured.
type Authorities struct {
	registry func() *registry.Snapshot
	// realm is that of Kerberos; names may be written with it or without.
	realm string
	// local is nil when the registry's secrets do not count.
	local   Authority
	outside []outside
}

// outside is an authority beyond the registry.
type outside struct {
	name authz.Authority
	Authority
}

// Open makes the authorities of a configuration. It reads every file that
// the configuration names, and asks nobody.
func Open(cfg *config.Config, snapshot func() *registry.Snapshot, log zerolog.Logger) (*Authorities, error) {
	a := &Authorities{registry: snapshot}
	if cfg.Auth.Local {
		a.local = guarded(authz.Local, Local{snapshot}, maxHashing, log)
	}
	if c := cfg.Auth.Kerberos; c != nil {
		k, err := OpenKerberos(*c, cfg.DNS.Resolver)
		if err != nil {
			return nil, err
		}
		a.realm = c.Realm
		a.outside = append(a.outside, outside{authz.Kerberos, guarded(authz.Kerberos, k, maxQuestions, log)})
	}
	if c := cfg.Auth.LDAP; c != nil {
		l, err := OpenLDAP(*c)
		if err != nil {
			return nil, err
		}
		a.outside = append(a.outside, outside{authz.LDAP, guarded(authz.LDAP, l, maxQuestions, log)})
	}
	return a, nil
}

// Check says who has that user name and password.
func (a *Authorities) Check(ctx context.Context, user, password string) (Identity, error) {
	switch {
	case user == "":
		return Identity{}, &Error{Kind: Unknown, Authority: authz.Local, Reason: "empty user name"}
	case password == "":
		return Identity{}, &Error{Kind: Wrong, Authority: authz.Local, Reason: "empty password"}
	}
	c := a.credential(user)
	if len(a.outside) == 0 || c != nil && len(c.Secrets) > 0 {
		return a.here(ctx, c, user, password)
	}
	return a.elsewhere(ctx, user, password)
}

// here checks a secret of the registry.
func (a *Authorities) here(ctx context.Context, c *registry.Credential, user, password string) (Identity, error) {
	if a.local == nil {
		return Identity{}, &Error{Kind: Locked, Authority: authz.Local, Reason: "the secrets of the registry do not count: auth.local is off"}
	}
	if c != nil {
		user = c.Name
	}
	name, err := a.local.Check(ctx, user, password)
	if err != nil {
		return Identity{}, err
	}
	return a.admit(Identity{name, authz.Local}, c)
}

// elsewhere asks the authorities beyond the registry, until one knows the name.
func (a *Authorities) elsewhere(ctx context.Context, user, password string) (Identity, error) {
	var unknown []error
	for _, o := range a.outside {
		name, err := o.Check(ctx, strings.TrimSuffix(user, a.suffix()), password)
		if kindOf(err) == Unknown && err != nil {
			unknown = append(unknown, err)
			continue
		}
		if err != nil {
			return Identity{}, err
		}
		return a.vouched(Identity{name, o.name})
	}
	last := unknown[len(unknown)-1]
	var e *Error
	errors.As(last, &e)
	return Identity{}, &Error{Kind: Unknown, Authority: e.Authority, Reason: joined(unknown)}
}

func joined(errs []error) string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// vouched is who an authority outside vouched for. The name may be another than
// the client gave, so that it is looked at once more.
func (a *Authorities) vouched(id Identity) (Identity, error) {
	c := a.credential(id.Name)
	if c != nil && len(c.Secrets) > 0 {
		return Identity{}, &Error{Kind: Wrong, Authority: id.Authority, Reason: "credential " + c.Name + " has secrets in the registry, and is checked there only"}
	}
	return a.admit(id, c)
}

// admit holds back who proved to be a credential that is suspended (S39).
func (a *Authorities) admit(id Identity, c *registry.Credential) (Identity, error) {
	if c == nil {
		return id, nil
	}
	if c.Suspended {
		reason := "credential " + c.Name + " is suspended; the password is right"
		if c.Reason != "" {
			reason += " (" + c.Reason + ")"
		}
		return Identity{}, &Error{Kind: Locked, Authority: id.Authority, Reason: reason}
	}
	id.Name = c.Name
	return id, nil
}

// credential finds the credential of a user name, which both may be written
// with the realm or without (P17).
func (a *Authorities) credential(user string) *registry.Credential {
	s := a.registry()
	if c, ok := s.Credential(user); ok || a.realm == "" {
		return c
	}
	bare := strings.TrimSuffix(user, a.suffix())
	if c, ok := s.Credential(bare); ok {
		return c
	}
	c, _ := s.Credential(bare + a.suffix())
	return c
}

// suffix is what a name in our realm may end in. Case counts: prn@campus.test
// is an e-mail address, and nobody's name (S30).
func (a *Authorities) suffix() string {
	if a.realm == "" {
		return ""
	}
	return "@" + a.realm
}
