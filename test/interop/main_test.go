//go:build interop

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// needed are files of others, each with its Debian package.
var needed = map[string]string{
	"/usr/sbin/postfix":          "postfix",
	"/usr/bin/swaks":             "swaks",
	"/usr/sbin/opendkim-testmsg": "opendkim-tools",
	"/usr/bin/dkimverify":        "python3-dkim",
	"/usr/bin/tcpdump":           "tcpdump",
	"/usr/sbin/krb5kdc":          "krb5-kdc",
	"/usr/sbin/kadmin.local":     "krb5-admin-server",
	"/usr/sbin/slapd":            "slapd",
	"/usr/bin/unshare":           "util-linux",
	"/usr/bin/mount":             "mount",
	// Without it dkimpy does not know Ed25519.
	"/usr/lib/python3/dist-packages/nacl/signing.py": "python3-nacl",
}

func TestMain(m *testing.M) {
	var missing []string
	for file, pkg := range needed {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, file+" is missing: apt-get install "+pkg)
		}
	}
	if os.Geteuid() != 0 {
		missing = append(missing, "root is needed: Postfix changes users, the DNS is on port 53, the verifiers get a mount namespace")
	}
	if len(missing) > 0 {
		fmt.Fprintln(os.Stderr, "the interop tests cannot run:\n  "+strings.Join(missing, "\n  "))
		os.Exit(1)
	}
	os.Exit(world.Main(m))
}

// output runs a program to its end and returns its exit code and all that it
// said.
func output(t testing.TB, stdin, program string, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("run %s: %v", program, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
