//go:build interop

package interop

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// slapdConf wants TLS before any password, and a search by the relay only.
const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile %[1]s/pid
TLSCACertificateFile %[1]s/ca.pem
TLSCertificateFile %[1]s/server.pem
TLSCertificateKeyFile %[1]s/server.pem
disallow bind_anon
%[2]s
database mdb
directory %[1]s/db
suffix dc=campus,dc=test
rootdn cn=admin,dc=campus,dc=test
rootpw admin
overlay ppolicy
ppolicy_default cn=policy,dc=campus,dc=test
ppolicy_use_lockout
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact=cn=relay,dc=campus,dc=test read by * none
`

const entries = `
dn: dc=campus,dc=test
objectClass: dcObject
objectClass: organization
o: campus
dc: campus

dn: cn=policy,dc=campus,dc=test
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 3

dn: cn=relay,dc=campus,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: relay
userPassword: searches

dn: ou=people,dc=campus,dc=test
objectClass: organizationalUnit
ou: people

dn: uid=scanner,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: scanner
cn: Scanner
sn: Scanner
mail: scanner@campus.test
userPassword: right

dn: uid=prn-3,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: prn-3
cn: Printer
sn: Printer
userPassword: right

dn: uid=stopped,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: stopped
cn: Stopped
sn: Stopped
userPassword: right
pwdAccountLockedTime: 000001010000Z

dn: uid=guessed,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: guessed
cn: Guessed
sn: Guessed
userPassword: right

dn: uid=o\+hara\, (x)*,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: o+hara, (x)*
cn: O
sn: O
userPassword: right
`

// Directory is Debian's slapd, with entries of its own.
type Directory struct {
	*world.Process
	TLS, Clear string // addresses: TLS from the start, and STARTTLS
	dir        string
}

// StartDirectory starts slapd with a certificate for a name. global is more of
// its configuration, further are more entries.
func StartDirectory(t *testing.T, name, global string, further ...string) *Directory {
	t.Helper()
	at := porttest.Addresses(t, 2)
	d := &Directory{TLS: at[0], Clear: at[1], dir: t.TempDir()}
	authority, err := smtptest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	made, err := authority.Issue(smtptest.Leaf{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})...)
	if err := errors.Join(
		os.Mkdir(d.file("db"), 0o700),
		os.WriteFile(d.file("ca.pem"), authority.PEM(), 0o600),
		os.WriteFile(d.file("server.pem"), both, 0o600),
		os.WriteFile(d.file("password"), []byte("searches\n"), 0o600),
		os.WriteFile(d.file("conf"), fmt.Appendf(nil, slapdConf, d.dir, global), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if code, said := output(t, entries+strings.Join(further, ""), "/usr/sbin/slapadd", "-f", d.file("conf"), "-S", "1"); code != 0 {
		t.Fatalf("slapadd: exit %d: %s", code, said)
	}
	d.Process = world.StartProcess(t, "slapd", nil, "/usr/sbin/slapd", "-f", d.file("conf"), "-d", "stats", "-h", "ldaps://"+d.TLS+" ldap://"+d.Clear)
	d.listens(t)
	return d
}

func (d *Directory) listens(t *testing.T) {
	t.Helper()
	world.WaitFor(t, "slapd", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.Clear)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (d *Directory) file(name string) string { return filepath.Join(d.dir, name) }

// Config is how the relay asks it.
func (d *Directory) Config() *config.LDAP {
	return &config.LDAP{
		URL: "ldaps://" + d.TLS, CA: d.file("ca.pem"), Base: "ou=people,dc=campus,dc=test", Filter: "(uid=%s)", Identity: "uid",
		BindDN: "cn=relay,dc=campus,dc=test", BindPasswordFile: d.file("password"),
	}
}
