//go:build interop

package interop

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/services/ingress/authority"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/porttest"
)

// tried is one question to an authority, and what is to come of it.
type tried struct {
	user, password string
	identity       string         // of a success
	kind           authority.Kind // of a failure
	reason         string         // a part of it
}

func (q tried) ask(t *testing.T, a authority.Authority) {
	t.Helper()
	name, err := a.Check(t.Context(), q.user, q.password)
	var e *authority.Error
	switch {
	case q.identity != "":
		if err != nil || name != q.identity {
			t.Errorf("%q with %q: %q, %v, want %q", q.user, q.password, name, err, q.identity)
		}
	case !errors.As(err, &e) || e.Kind != q.kind || !strings.Contains(e.Reason, q.reason) || name != "":
		t.Errorf("%q with %q: %q, %v, want %s: …%s…", q.user, q.password, name, err, q.kind, q.reason)
	default:
		t.Logf("%s: %v", q.user, err)
	}
}

func openKerberos(t *testing.T, cfg *config.Kerberos) *authority.Kerberos {
	t.Helper()
	k, err := authority.OpenKerberos(*cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openLDAP(t *testing.T, cfg *config.LDAP) *authority.LDAP {
	t.Helper()
	l, err := authority.OpenLDAP(*cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestKerberosAnswers(t *testing.T) {
	kdc := startTrueKDC(t)
	k := openKerberos(t, kdc.Config())
	const unknown, wrong, locked, unavailable = authority.Unknown, authority.Wrong, authority.Locked, authority.Unavailable
	for _, q := range []tried{
		{user: "smtp-relay/service.campus.test", password: "right", identity: "smtp-relay/service.campus.test"},
		{user: "smtp-relay/service.campus.test@CAMPUS.TEST", password: "right", identity: "smtp-relay/service.campus.test"},
		{user: "person", password: "right", identity: "person"},
		{user: "easy", password: "right", identity: "easy"}, // no pre-authentication
		{user: "smtp-relay/service.campus.test", password: "wrong", kind: wrong, reason: "PREAUTH_FAILED"},
		{user: "easy", password: "wrong", kind: wrong, reason: "cannot be opened"},
		{user: "Person", password: "right", kind: unknown},
		{user: "nobody", password: "right", kind: unknown, reason: "C_PRINCIPAL_UNKNOWN"},
		{user: "smtp-relay", password: "right", kind: unknown},
		{user: "person@campus.test", password: "right", kind: unknown, reason: "another realm"},
		{user: "person@OTHER.TEST", password: "right", kind: unknown, reason: "another realm"},
		{user: "person/", password: "right", kind: unknown, reason: "not a name"},
		{user: `person\@CAMPUS.TEST`, password: "right", kind: unknown, reason: "not a name"},
		{user: "stopped", password: "right", kind: locked, reason: "CLIENT_REVOKED"},
		{user: "old", password: "right", kind: locked, reason: "KEY_EXPIRED"},
		{user: "gone", password: "right", kind: locked, reason: "NAME_EXP"},
		{user: "guessed", password: "wrong", kind: wrong},
		{user: "guessed", password: "right", identity: "guessed"}, // one wrong password was one failure, of two
		{user: "guessed", password: "wrong", kind: wrong},
		{user: "guessed", password: "wrong", kind: wrong},
		{user: "guessed", password: "right", kind: locked, reason: "CLIENT_REVOKED"},
		{user: "weak", password: "right", kind: unavailable},
	} {
		q.ask(t, k)
	}
}

// A KDC that does not know the key in our keytab is not believed, whatever it
// says: anybody on the way to the KDC can be one.
func TestSpoofedKDC(t *testing.T) {
	kdc := startTrueKDC(t)
	const liar = "addprinc -pw chosen person"
	question := tried{user: "person", password: "chosen", kind: authority.Unavailable, reason: "cannot prove that it is the true one"}

	cfg := kdc.Config()
	cfg.KDC = []string{StartKDC(t, porttest.Address(t), liar).Address} // the same names, other keys
	question.ask(t, openKerberos(t, cfg))

	other := StartKDC(t, porttest.Address(t), liar, "delprinc -force "+spn)
	cfg.KDC = []string{other.Address}
	question.reason = "does not know auth.kerberos.service"
	question.ask(t, openKerberos(t, cfg))

	tried{user: "person", password: "chosen", kind: authority.Wrong}.ask(t, openKerberos(t, kdc.Config()))

	// The same of our own making: the key of the service is changed, and the
	// keytab is not; then it is.
	k := openKerberos(t, kdc.Config())
	kdc.Admin(t, "cpw -randkey "+spn)
	tried{user: "person", password: "right", kind: authority.Unavailable, reason: "the keytab is old"}.ask(t, k)
	if err := os.Remove(kdc.file("keytab")); err != nil {
		t.Fatal(err)
	}
	kdc.Admin(t, "ktadd -k "+kdc.file("keytab")+" "+spn)
	tried{user: "person", password: "right", identity: "person"}.ask(t, k)
}

func TestKDCsInTurn(t *testing.T) {
	kdc := startTrueKDC(t)
	right := tried{user: "person", password: "right", identity: "person"}

	cfg := kdc.Config()
	cfg.KDC = []string{porttest.Address(t), kdc.Address} // nobody listens on the first
	right.ask(t, openKerberos(t, cfg))

	host, port, err := net.SplitHostPort(kdc.Address)
	if err != nil {
		t.Fatal(err)
	}
	dns := dnstest.Start(t, "_kerberos._tcp.campus.test. SRV 1 1 "+port+" kdc.campus.test.\nkdc.campus.test. A "+host+"\n")
	cfg.KDC = nil
	k, err := authority.OpenKerberos(*cfg, dns.Addr())
	if err != nil {
		t.Fatal(err)
	}
	right.ask(t, k)

	kdc.Stop(t)
	down := tried{user: "person", password: "right", kind: authority.Unavailable}
	down.ask(t, k)
	kdc.Start(t)
	kdc.listens(t)
	right.ask(t, k)
}

func TestDirectoryAnswers(t *testing.T) {
	d := StartDirectory(t, "127.0.0.1", "security simple_bind=128")
	const unknown, wrong, locked = authority.Unknown, authority.Wrong, authority.Locked
	ways := map[string]func(*config.LDAP){
		"TLS from the start": func(*config.LDAP) {},
		"STARTTLS":           func(c *config.LDAP) { c.URL = "ldap://" + d.Clear },
		"the second server":  func(c *config.LDAP) { c.URL = "ldaps://" + porttest.Address(t) + ", " + c.URL },
	}
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			cfg := d.Config()
			change(cfg)
			l := openLDAP(t, cfg)
			for _, q := range []tried{
				{user: "scanner", password: "right", identity: "scanner"},
				{user: "SCANNER", password: "right", identity: "scanner"},
				{user: "o+hara, (x)*", password: "right", identity: "o+hara, (x)*"},
				{user: "scanner", password: "wrong", kind: wrong},
				{user: "scanner", password: "", kind: wrong, reason: "empty"},
				{user: "nobody", password: "right", kind: unknown, reason: "no entry"},
				{user: "*", password: "right", kind: unknown, reason: "no entry"},
				{user: "scanner)(uid=*", password: "right", kind: unknown, reason: "no entry"},
				{user: "scan*", password: "right", kind: unknown, reason: "no entry"},
				{user: "scanner@campus.test", password: "right", kind: unknown, reason: "no entry"}, // S30
				{user: "stopped", password: "right", kind: locked, reason: "locked"},
				{user: "scanner", password: "right", identity: "scanner"}, // on a connection that was bound as others
			} {
				q.ask(t, l)
			}
		})
	}

	l := openLDAP(t, d.Config())
	for range 3 {
		tried{user: "guessed", password: "wrong", kind: wrong}.ask(t, l)
	}
	tried{user: "guessed", password: "right", kind: locked, reason: "locked"}.ask(t, l)

	cfg := d.Config()
	cfg.Filter = "(|(uid=%s)(objectClass=inetOrgPerson))"
	tried{user: "scanner", password: "right", kind: unknown, reason: "several entries"}.ask(t, openLDAP(t, cfg))

	cfg = d.Config()
	cfg.Filter = "(mail=%s)"
	tried{user: "scanner@campus.test", password: "right", identity: "scanner"}.ask(t, openLDAP(t, cfg))
}

// Without a search the entry is named by the user.
func TestDirectoryByName(t *testing.T) {
	d := StartDirectory(t, "127.0.0.1", "")
	cfg := &config.LDAP{URL: "ldaps://" + d.TLS, CA: d.file("ca.pem"), UserDN: "uid=%s,ou=people,dc=campus,dc=test"}
	l := openLDAP(t, cfg)
	for _, q := range []tried{
		{user: "scanner", password: "right", identity: "scanner"},
		{user: "Scanner", password: "right", identity: "scanner"},
		{user: "scanner", password: "wrong", kind: authority.Wrong},
		{user: "scanner", password: "", kind: authority.Wrong, reason: "empty"},
		{user: "nobody", password: "right", kind: authority.Wrong}, // slapd does not tell the difference
		{user: "scanner,ou=people", password: "right", kind: authority.Wrong},
		{user: " scanner", password: "right", kind: authority.Unknown},
		{user: "stopped", password: "right", kind: authority.Locked},
	} {
		q.ask(t, l)
	}
	cfg = &config.LDAP{URL: "ldap://" + d.Clear, UserDN: cfg.UserDN, Clear: true}
	tried{user: "scanner", password: "right", identity: "scanner"}.ask(t, openLDAP(t, cfg))
}

// A directory that cannot show who it is gets no password; nor does one of
// ours that the relay is not let into.
func TestDirectoryNotBelieved(t *testing.T) {
	d := StartDirectory(t, "other.campus.test", "")
	for name, change := range map[string]func(*config.LDAP){
		"another name":           func(*config.LDAP) {},
		"another name, STARTTLS": func(c *config.LDAP) { c.URL = "ldap://" + d.Clear },
	} {
		cfg := d.Config()
		change(cfg)
		t.Log(name)
		tried{user: "scanner", password: "right", kind: authority.Unavailable, reason: "certificate"}.ask(t, openLDAP(t, cfg))
	}
	if strings.Contains(d.Output(), "BIND") {
		t.Errorf("something bound:\n%s", d.Output())
	}

	good := StartDirectory(t, "127.0.0.1", "")
	cfg := good.Config()
	cfg.CA = d.file("ca.pem")
	tried{user: "scanner", password: "right", kind: authority.Unavailable, reason: "unknown authority"}.ask(t, openLDAP(t, cfg))
	cfg = good.Config()
	cfg.BindPasswordFile = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(cfg.BindPasswordFile, []byte("outdated\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLDAP(t, cfg)
	tried{user: "scanner", password: "right", kind: authority.Unavailable, reason: "bind_dn"}.ask(t, l)
	if err := os.WriteFile(cfg.BindPasswordFile, []byte("searches"), 0o600); err != nil {
		t.Fatal(err)
	}
	tried{user: "scanner", password: "right", identity: "scanner"}.ask(t, l)
	cfg = good.Config()
	cfg.BindDN, cfg.BindPasswordFile = "", ""
	tried{user: "scanner", password: "right", kind: authority.Unavailable, reason: "anybody"}.ask(t, openLDAP(t, cfg))
}

// Connections are kept, and one that broke meanwhile is replaced.
func TestDirectoryRestarts(t *testing.T) {
	d := StartDirectory(t, "127.0.0.1", "")
	l := openLDAP(t, d.Config())
	right := tried{user: "scanner", password: "right", identity: "scanner"}
	const times = 5
	for range times {
		right.ask(t, l)
	}
	if n := strings.Count(d.Output(), "ACCEPT from"); n > 2 { // one of ours, one of listens
		t.Errorf("%d connections for %d questions", n, times)
	}
	d.Stop(t)
	tried{user: "scanner", password: "right", kind: authority.Unavailable, reason: "connect"}.ask(t, l)
	d.Start(t)
	d.listens(t)
	right.ask(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Check(ctx, "scanner", "right"); err == nil {
		t.Error("an answer after the end of the context")
	}
	right.ask(t, l)
}
