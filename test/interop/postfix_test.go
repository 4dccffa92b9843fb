//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// Addresses on which Postfix is a mail exchanger.
const (
	postIP  = "127.0.0.6" // mx.post.test: as Debian ships it, with a certificate
	clearIP = "127.0.0.7" // mx.clear.test: without TLS
	dotsIP  = "127.0.0.8" // mx.dots.test: without CHUNKING, so that DATA and its dots are used
)

// postZones are the domains for which Postfix receives, and who is to be tried
// before it.
const postZones = `
post.test      MX 10 mx.post.test
mx.post.test   A  127.0.0.6
second.test    MX 10 mx1.example.test
second.test    MX 20 mx.post.test
clear.test     MX 10 mx.clear.test
forced.test    MX 10 mx.clear.test
mx.clear.test  A  127.0.0.7
dots.test      MX 10 mx.dots.test
mx.dots.test   A  127.0.0.8
`

// mainCF is Debian's main.cf in what matters for receiving. Nothing that makes
// Postfix stricter than its default is set.
const mainCF = `
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
syslog_name = postfix
myhostname = mx.post.test
mydestination =
mynetworks =
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_cert_file = %[1]s/mx.pem
smtpd_tls_key_file = %[1]s/mx.pem
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
virtual_mailbox_domains = post.test second.test clear.test forced.test dots.test
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = regexp:%[1]s/mailboxes
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

const masterCF = `
%[1]s:%[4]d inet n - n - - smtpd
%[2]s:%[4]d inet n - n - - smtpd -o myhostname=mx.clear.test -o smtpd_tls_security_level=none
%[3]s:%[4]d inet n - n - - smtpd -o myhostname=mx.dots.test -o smtpd_discard_ehlo_keywords=chunking
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp     unix - - n - - smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
virtual  unix - n n - - virtual
anvil    unix - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
`

// mailboxes puts all mail into one maildir; nobody@ does not exist.
const mailboxes = "!/^nobody@/ all/\n"

// Postfix is a running Postfix with directories of its own.
type Postfix struct {
	dir string
}

// StartPostfix starts Postfix on a port of its addresses and stops it with the
// test.
func StartPostfix(t testing.TB, port int) *Postfix {
	t.Helper()
	// Not t.TempDir, into which other users cannot look.
	dir, err := os.MkdirTemp("", "postfix")
	if err != nil {
		t.Fatal(err)
	}
	p := &Postfix{dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Postfix said:\n%s", p.Log(t))
		}
		os.RemoveAll(dir)
	})
	if err := errors.Join(
		os.Chmod(dir, 0o755), os.Mkdir(p.file("queue"), 0o755), os.Mkdir(p.file("mail"), 0o755), os.Chown(p.file("mail"), 65534, 65534),
		os.WriteFile(p.file("main.cf"), fmt.Appendf(nil, mainCF, dir), 0o644),
		os.WriteFile(p.file("master.cf"), fmt.Appendf(nil, masterCF, postIP, clearIP, dotsIP, port), 0o644),
		os.WriteFile(p.file("mailboxes"), []byte(mailboxes), 0o644),
		os.WriteFile(p.file("mx.pem"), certificate(t), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	p.control(t, "start")
	t.Cleanup(func() { p.control(t, "stop") })
	world.WaitFor(t, "Postfix", func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", dotsIP, port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return p
}

func (p *Postfix) file(name string) string { return filepath.Join(p.dir, name) }

func (p *Postfix) control(t testing.TB, what string) {
	t.Helper()
	if code, said := output(t, "", "/usr/sbin/postfix", "-c", p.dir, what); code != 0 {
		t.Errorf("postfix %s: exit %d: %s", what, code, said)
	}
}

func certificate(t testing.TB) []byte {
	t.Helper()
	authority, err := smtptest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	made, err := authority.Issue(smtptest.Leaf{Names: []string{"mx.post.test", "mx.dots.test"}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: key}, {Type: "CERTIFICATE", Bytes: made.Certificate[0]}} {
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Log is what Postfix logged so far.
func (p *Postfix) Log(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(p.file("log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	return string(log)
}

// Letter is a message as Postfix delivered it to one mailbox.
type Letter struct {
	// Header is what the relay sent, with what Postfix put before it; lines
	// end in CRLF.
	Header mail.Header
	// Body is the body with CRLF.
	Body string
}

// Raw is the message as it lies in the mailbox, with CRLF.
func (l Letter) Raw() string { return string(l.Header) + "\r\n" + l.Body }

// Sent is what the relay sent: all from its first signature on.
func (l Letter) Sent(t testing.TB) string {
	t.Helper()
	at := strings.Index(l.Raw(), "\r\nDKIM-Signature:")
	if at < 0 {
		t.Fatalf("no signature in\n%s", l.Header)
	}
	return l.Raw()[at+2:]
}

// Letters are all messages in the mailboxes.
func (p *Postfix) Letters(t testing.TB) []Letter {
	t.Helper()
	files, err := filepath.Glob(p.file("mail/all/new/*"))
	if err != nil {
		t.Fatal(err)
	}
	var letters []Letter
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
		header, at, err := mail.SplitHeader(raw, true)
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, Letter{header, string(raw[at:])})
	}
	return letters
}

// Wait waits until n messages with that subject are in mailboxes.
func (p *Postfix) Wait(t testing.TB, subject string, n int) []Letter {
	t.Helper()
	var found []Letter
	world.WaitFor(t, fmt.Sprintf("%d messages %q at Postfix", n, subject), func(context.Context) error {
		found = nil
		for _, l := range p.Letters(t) {
			if l.Header.Get("Subject") == subject {
				found = append(found, l)
			}
		}
		if len(found) < n {
			return fmt.Errorf("%d are there", len(found))
		}
		return nil
	})
	return found
}

var (
	taken    = regexp.MustCompile(`(?m)smtpd\[\d+\]: [0-9A-F]+: client=`)
	finished = regexp.MustCompile(`(?m)qmgr\[\d+\]: [0-9A-F]+: removed$`)
)

// Taken waits until Postfix has nothing in its queue, and counts the messages
// that it has ever taken.
func (p *Postfix) Taken(t testing.TB) int {
	t.Helper()
	var n int
	world.WaitFor(t, "Postfix to have delivered everything", func(context.Context) error {
		log := p.Log(t)
		n = len(taken.FindAllString(log, -1))
		if done := len(finished.FindAllString(log, -1)); done != n {
			return fmt.Errorf("%d of %d messages are delivered", done, n)
		}
		return nil
	})
	return n
}
