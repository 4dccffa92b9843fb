//go:build estate

package estate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// mainCF is the relay of the estate. What begins with a tab is on no other
// machine: it is where this Postfix lives.
const mainCF = `
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
syslog_name = postfix
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
myhostname = relay.campus.test
mydestination =
local_recipient_maps =
campus = 127.20.0.0/14, 127.25.0.0/16,
    # strangers, and those excepted from them
    127.26.0.0/16
mynetworks = !127.21.0.0/16, $campus cidr:%[1]s/networks.cidr, 127.28.0.0/16 127.34.0.0/16 127.36.0.0/16
relay_domains = hash:%[1]s/relay_domains
smtpd_restriction_classes = labs
labs = permit_mynetworks, reject
smtpd_client_restrictions =
    check_client_access hash:%[1]s/client_access,
    check_client_access cidr:%[1]s/client.cidr,
    check_client_access regexp:%[1]s/client.regexp
smtpd_sender_restrictions = check_sender_access hash:%[1]s/sender_access
smtpd_relay_restrictions = permit_mynetworks, check_client_access hash:%[1]s/relay_access, check_sender_access hash:%[1]s/sender_access, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access hash:%[1]s/recipient_access
transport_maps = hash:%[1]s/transport
smtp_tls_policy_maps = hash:%[1]s/tls_policy
message_size_limit = 20000000
`

const masterCF = `
127.0.0.1:%d inet n - n - - smtpd
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp     unix - - n - - smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
anvil    unix - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
`

// startPostfix writes the directory of an estate, starts Postfix on it until the
// test ends, and returns the directory.
func startPostfix(t *testing.T, e *estate, port int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "estate") // not t.TempDir, into which other users cannot look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "queue"), 0o755)); err != nil {
		t.Fatal(err)
	}
	write("main.cf", fmt.Sprintf(mainCF, dir))
	write("master.cf", fmt.Sprintf(masterCF, port))
	for name, text := range e.files {
		write(name, text.String())
		if !strings.Contains(name, ".") {
			run(t, "/usr/sbin/postmap", "-c", dir, "hash:"+filepath.Join(dir, name))
		}
	}
	run(t, "/usr/sbin/postfix", "-c", dir, "start")
	t.Cleanup(func() {
		run(t, "/usr/sbin/postfix", "-c", dir, "stop")
		if log, _ := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("Postfix said at last:\n%s", log[max(0, len(log)-4000):])
		}
	})
	world.WaitFor(t, "Postfix", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return dir
}

// run runs a program that must succeed, and returns what it says on stdout.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}
