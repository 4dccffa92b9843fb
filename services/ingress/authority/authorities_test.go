package authority

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
)

// fake knows some names, all with the password "right", and says what it was
// asked.
type fake struct {
	name  authz.Authority
	names map[string]string // as typed: identity
	fails Kind              // instead of an answer
	asked []string
}

func (f *fake) Check(_ context.Context, user, password string) (string, error) {
	f.asked = append(f.asked, user)
	name, known := f.names[user]
	switch {
	case f.fails != "":
		return "", &Error{Kind: f.fails, Authority: f.name, Reason: "made"}
	case !known:
		return "", &Error{Kind: Unknown, Authority: f.name, Reason: "no such name"}
	case password != "right":
		return "", &Error{Kind: Wrong, Authority: f.name, Reason: "not the password"}
	}
	return name, nil
}

// snapshot is a registry with the credentials named; the secret of those that
// have one is "ours".
func snapshot(credentials ...*registry.Credential) func() *registry.Snapshot {
	s := registry.NewSnapshot(1, registry.Entries{Credentials: credentials})
	return func() *registry.Snapshot { return s }
}

var secrets = []registry.Secret{{Hash: registry.HashSecret("ours")}}

func TestOrder(t *testing.T) {
	held := &registry.Credential{Name: "held", Suspended: true, Entry: registry.Entry{Reason: "abuse"}}
	heldHere := &registry.Credential{Name: "held-here", Suspended: true, Secrets: secrets}
	reg := snapshot(&registry.Credential{Name: "own", Secrets: secrets}, &registry.Credential{Name: "short"}, &registry.Credential{Name: "long@R"},
		&registry.Credential{Name: "both"}, held, heldHere)
	for _, test := range []struct {
		user, password string
		kerberos, ldap Kind   // how they fail, if they do
		identity       string // "kerberos long@R", or
		kind           Kind
		reason         string
		asked          []string // of Kerberos, then of the directory
	}{
		{user: "own", password: "ours", identity: "local own"},
		{user: "own@R", password: "ours", identity: "local own"},
		{user: "own", password: "right", kind: Wrong, reason: "local"},
		{user: "OWN", password: "right", kind: Wrong, reason: "checked there only", asked: []string{"k OWN", "l OWN"}},
		{user: "short", password: "right", identity: "kerberos short", asked: []string{"k short"}},
		{user: "short@R", password: "right", identity: "kerberos short", asked: []string{"k short"}},
		{user: "long", password: "right", identity: "kerberos long@R", asked: []string{"k long"}},
		{user: "long@R", password: "right", identity: "kerberos long@R", asked: []string{"k long"}},
		{user: "stranger", password: "right", identity: "kerberos stranger", asked: []string{"k stranger"}},
		{user: "stranger@r", password: "right", kind: Unknown, asked: []string{"k stranger@r", "l stranger@r"}},
		{user: "entry", password: "right", identity: "ldap entry", asked: []string{"k entry", "l entry"}},
		{user: "both", password: "wrong", kind: Wrong, reason: "not the password", asked: []string{"k both"}},
		{user: "nobody", password: "right", kind: Unknown, reason: "kerberos: unknown: no such name; ldap: unknown: ", asked: []string{"k nobody", "l nobody"}},
		{user: "held", password: "right", kind: Locked, reason: "suspended; the password is right (abuse)", asked: []string{"k held"}},
		{user: "held", password: "wrong", kind: Wrong, reason: "not the password", asked: []string{"k held"}},
		{user: "held-here", password: "ours", kind: Locked, reason: "suspended"},
		{user: "entry", password: "right", kerberos: Unavailable, kind: Unavailable, asked: []string{"k entry"}},
		{user: "entry", password: "right", kerberos: Locked, kind: Locked, asked: []string{"k entry"}},
		{user: "short", password: "right", ldap: Unavailable, identity: "kerberos short", asked: []string{"k short"}},
		{user: "nobody", password: "right", ldap: Unavailable, kind: Unavailable, asked: []string{"k nobody", "l nobody"}},
		{user: "own", password: "ours", kerberos: Unavailable, ldap: Unavailable, identity: "local own"},
		{user: "", password: "right", kind: Unknown, reason: "empty"},
		{user: "short", password: "", kind: Wrong, reason: "empty"},
	} {
		k := &fake{name: authz.Kerberos, fails: test.kerberos, names: map[string]string{"short": "short", "long": "long", "stranger": "stranger", "both": "both", "held": "held"}}
		l := &fake{name: authz.LDAP, fails: test.ldap, names: map[string]string{"entry": "entry", "both": "both", "OWN": "own"}}
		a := &Authorities{registry: reg, realm: "R", local: Local{reg}, outside: []outside{{authz.Kerberos, k}, {authz.LDAP, l}}}
		id, err := a.Check(t.Context(), test.user, test.password)
		var asked []string
		for _, name := range k.asked {
			asked = append(asked, "k "+name)
		}
		for _, name := range l.asked {
			asked = append(asked, "l "+name)
		}
		if !slices.Equal(asked, test.asked) {
			t.Errorf("%q: asked %q, want %q", test.user, asked, test.asked)
		}
		if test.identity != "" {
			if got := string(id.Authority) + " " + id.Name; err != nil || got != test.identity {
				t.Errorf("%q: %q, %v, want %q", test.user, got, err, test.identity)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Kind != test.kind || !strings.Contains(err.Error(), test.reason) || id != (Identity{}) {
			t.Errorf("%q with %q: %+v, %v, want %s: %s", test.user, test.password, id, err, test.kind, test.reason)
		}
	}
}

func TestLocal(t *testing.T) {
	now := time.Now()
	ended := registry.Secret{Hash: registry.HashSecret("former"), Until: now.Add(-time.Hour)}
	ending := registry.Secret{Hash: registry.HashSecret("next"), Until: now.Add(time.Hour)}
	l := Local{snapshot(
		&registry.Credential{Name: "rotating", Secrets: []registry.Secret{ended, ending, secrets[0]}},
		&registry.Credential{Name: "ended", Secrets: []registry.Secret{ended}},
		&registry.Credential{Name: "outside"},
	)}
	for _, test := range []struct {
		user, password string
		kind           Kind
		reason         string
	}{
		{user: "rotating", password: "ours"},
		{user: "rotating", password: "next"},
		{"rotating", "former", Wrong, "not a secret"},
		{"ended", "former", Locked, "ended on "},
		{"outside", "former", Locked, "no secret"},
		{"nobody", "former", Unknown, "no credential"},
	} {
		name, err := l.Check(t.Context(), test.user, test.password)
		if test.kind == "" {
			if err != nil || name != test.user {
				t.Errorf("%s with %s: %q, %v", test.user, test.password, name, err)
			}
			continue
		}
		if err == nil || kindOf(err) != test.kind || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s with %s: %v, want %s: %s", test.user, test.password, err, test.kind, test.reason)
		}
	}
}

// With auth.local off no secret of the registry counts, and the name is nobody
// else's either.
func TestLocalIsOff(t *testing.T) {
	reg := snapshot(&registry.Credential{Name: "own", Secrets: secrets})
	l := &fake{name: authz.LDAP, names: map[string]string{"own": "own"}}
	a := &Authorities{registry: reg, outside: []outside{{authz.LDAP, l}}}
	for _, password := range []string{"ours", "right"} {
		if _, err := a.Check(t.Context(), "own", password); err == nil || kindOf(err) != Locked || len(l.asked) > 0 {
			t.Errorf("with %q: %v, asked %q", password, err, l.asked)
		}
	}
}

// What a file is missing is said at the start, with the key that names it.
func TestOpen(t *testing.T) {
	none := t.TempDir() + "/none"
	for key, auth := range map[string]config.Auth{
		"auth.kerberos.keytab":         {Kerberos: &config.Kerberos{Realm: "R", Keytab: none, Service: "smtp/x"}},
		"auth.ldap.ca":                 {LDAP: &config.LDAP{URL: "ldaps://x", CA: none, UserDN: "uid=%s"}},
		"auth.ldap.bind_password_file": {LDAP: &config.LDAP{URL: "ldaps://x", Filter: "(uid=%s)", BindDN: "cn=x", BindPasswordFile: none}},
		"auth.ldap.filter":             {LDAP: &config.LDAP{URL: "ldaps://x", Filter: "((uid=%s)"}},
	} {
		if _, err := Open(&config.Config{Auth: auth}, nil, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
