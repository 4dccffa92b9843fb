//go:build interop

package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/test/world"
)

const (
	realm = "CAMPUS.TEST"
	spn   = "smtp/relay.campus.test"
)

const krb5Conf = `
[libdefaults]
default_realm = CAMPUS.TEST
dns_lookup_kdc = false
[realms]
CAMPUS.TEST = { kdc = %[2]s }
`

const kdcConf = `
[kdcdefaults]
kdc_listen = %[2]s
kdc_tcp_listen = %[2]s
[realms]
CAMPUS.TEST = {
  database_name = %[1]s/principal
  key_stash_file = %[1]s/stash
  admin_keytab = %[1]s/admin
  acl_file = %[1]s/acl
  supported_enctypes = aes256-cts-hmac-sha384-192:normal aes256-cts:normal aes128-cts:normal
  default_principal_flags = +preauth
}
[logging]
kdc = FILE:%[1]s/log
`

// KDC is Debian's krb5kdc, with a realm of its own.
type KDC struct {
	*world.Process
	Address, dir string
}

// StartKDC starts a KDC whose database kadmin.local made as told. The key of our
// service is made first.
func StartKDC(t *testing.T, address string, commands ...string) *KDC {
	t.Helper()
	k := &KDC{Address: address, dir: t.TempDir()}
	for name, text := range map[string]string{"krb5.conf": krb5Conf, "kdc.conf": kdcConf} {
		if err := os.WriteFile(k.file(name), fmt.Appendf(nil, text, k.dir, address), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.run(t, "", "/usr/sbin/kdb5_util", "create", "-s", "-r", realm, "-P", "master")
	k.Admin(t, append([]string{"addprinc -randkey " + spn, "ktadd -k " + k.file("keytab") + " " + spn}, commands...)...)
	k.Process = world.StartProcess(t, "krb5kdc", k.env(), "/usr/sbin/krb5kdc", "-n")
	k.listens(t)
	return k
}

func (k *KDC) listens(t *testing.T) {
	t.Helper()
	world.WaitFor(t, "the KDC", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", k.Address)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (k *KDC) file(name string) string { return filepath.Join(k.dir, name) }

func (k *KDC) env() []string {
	return []string{"KRB5_CONFIG=" + k.file("krb5.conf"), "KRB5_KDC_PROFILE=" + k.file("kdc.conf")}
}

// Admin gives commands to kadmin.local, each of which must succeed.
func (k *KDC) Admin(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		k.run(t, "", "/usr/sbin/kadmin.local", "-r", realm, "-q", c)
	}
}

func (k *KDC) run(t *testing.T, stdin, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), k.env()...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "while ") { // kadmin.local hides its errors from its exit code
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// Config is how the relay asks it.
func (k *KDC) Config() *config.Kerberos {
	return &config.Kerberos{Realm: realm, Keytab: k.file("keytab"), KDC: []string{k.Address}, Service: spn}
}

// principals are those of the true KDC.
var principals = []string{
	"addpol -maxfailure 2 strict",
	"addprinc -pw right smtp-relay/service.campus.test",
	"addprinc -pw right person",
	"addprinc -pw right stopped",
	"modprinc -allow_tix stopped",
	"addprinc -pw right -policy strict guessed",
	"addprinc -pw right -pwexpire 2001-01-01 old",
	"addprinc -pw right -expire 2001-01-01 gone",
	"addprinc -pw right -requires_preauth easy",
	"addprinc -pw right -e arcfour-hmac:normal weak",
	"addprinc -pw right prn-2",
}

func startTrueKDC(t *testing.T) *KDC {
	t.Helper()
	return StartKDC(t, porttest.Address(t), principals...)
}
