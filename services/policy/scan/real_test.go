//go:build interop

package scan

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/timetest"
)

// gtube is the text that every spam scanner finds.
const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

// daemon runs a program of Debian until the test ends, and waits until an address
// answers.
func daemon(t *testing.T, address, program, pkg string, args ...string) {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", program, pkg)
	}
	cmd := exec.Command(program, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, said.Bytes())
		}
	})
	timetest.Await(t, program+" listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// rspamd of Debian with its own rules, and without what asks the network.
func TestRealRspamd(t *testing.T) {
	dir, address := t.TempDir(), porttest.Addresses(t, 1)[0]
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "rspamd.conf")
	text := fmt.Sprintf(`
options { filters = ""; pidfile = "%[1]s/pid"; dns { nameserver = ["127.0.0.1"]; } local_addrs = []; url_tld = "/usr/share/rspamd/effective_tld_names.dat"; gtube_patterns = "all"; }
logging { type = "console"; level = "warning"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; mime = true; }
actions { reject = 15; add_header = 6; greylist = 4; }
`, dir, address)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon(t, address, "/usr/bin/rspamd", "rspamd", "-f", "-c", conf, "-u", "_rspamd", "-g", "_rspamd", "--insecure")
	url := "http://" + address
	timetest.Await(t, "rspamd answers", func() bool {
		r, err := http.Get(url + "/ping")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
	long := strings.Repeat("An ordinary line of text.\r\n", 40_000)
	for _, c := range []struct {
		content  string
		onReject string
		want     authz.Outcome
	}{
		{header + long, "hold", authz.Admit},
		{header + gtube + "\r\n", "hold", authz.Hold},
		{header + gtube + "\r\n", "refuse", authz.Refuse},
	} {
		f := scanned(t, scanners(t, config.Scan{Rspamd: url, OnReject: c.onReject}), c.content)
		t.Logf("%+v", f)
		if f.Outcome != c.want || f.Down || !strings.HasPrefix(f.Scanner, "rspamd: ") {
			t.Errorf("%+v, want %s", f, c.want)
		}
	}
}

// OpenDKIM of Debian verifies: a message with a signature that does not hold is
// turned down, one without is not, and its findings come as a field.
func TestRealMilter(t *testing.T) {
	address := porttest.Addresses(t, 1)[0]
	host, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "opendkim.conf")
	text := "Mode v\nSyslog no\nAlwaysAddARHeader yes\nAuthservID relay.campus.test\nOn-BadSignature reject\nOn-SignatureError reject\nOn-KeyNotFound reject\nOn-DNSError accept\nInternalHosts 192.0.2.1\n" +
		"Socket inet:" + port + "@" + host + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, address, "/usr/sbin/opendkim", "opendkim", "-f", "-x", conf)
	s := scanners(t, config.Scan{Milter: "inet:" + port + "@" + host})
	long := strings.Repeat("An ordinary line of text.\r\n", 40_000)
	f := scanned(t, s, header+long)
	t.Logf("%+v", f)
	if f.Outcome != authz.Admit || f.Down || !strings.HasPrefix(f.Fields, "Authentication-Results: relay.campus.test; dkim=none") {
		t.Errorf("unsigned: %+v", f)
	}
	// RFC 6376 §3.5: without s= it is none.
	bad := "DKIM-Signature: v=1; a=rsa-sha256; d=campus.test; h=from; bh=AAAA; b=AAAA\r\n"
	f = scanned(t, s, bad+header+long)
	t.Logf("%+v", f)
	if f.Outcome != authz.Hold || f.Down {
		t.Errorf("badly signed: %+v", f)
	}
}
