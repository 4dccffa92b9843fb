package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/registry"
)

// Local is the registry: the secrets of its credentials.
type Local struct {
	Registry func() *registry.Snapshot
}

// Check compares a password with the secrets of a credential. An unknown name
// costs as much as a wrong secret.
func (l Local) Check(_ context.Context, user, password string) (string, error) {
	c, known := l.Registry().Credential(user)
	now := time.Now()
	if c.Check(password, now) {
		return c.Name, nil
	}
	no := func(kind Kind, format string, args ...any) error {
		return &Error{Kind: kind, Authority: authz.Local, Reason: fmt.Sprintf(format, args...)}
	}
	switch last, ended := expired(c, now); {
	case !known:
		return "", no(Unknown, "no credential has that name")
	case len(c.Secrets) == 0:
		return "", no(Locked, "credential %s has no secret, and no authority outside is configured", c.Name)
	case ended:
		return "", no(Locked, "the last secret of credential %s ended on %s", c.Name, last.UTC().Format(time.DateTime))
	}
	return "", no(Wrong, "not a secret of credential %s", c.Name)
}

// expired reports that every secret has ended, and when the last one did.
func expired(c *registry.Credential, now time.Time) (last time.Time, all bool) {
	if c == nil {
		return last, false
	}
	for _, s := range c.Secrets {
		if s.Until.IsZero() || now.Before(s.Until) {
			return last, false
		}
		if s.Until.After(last) {
			last = s.Until
		}
	}
	return last, len(c.Secrets) > 0
}
