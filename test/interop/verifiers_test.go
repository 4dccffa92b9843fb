//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/mail"
)

// resolverIP has port 53, since no verifier can be told another one.
const resolverIP = "127.0.0.9"

// Verifiers are the DKIM verifiers of others. Each runs in a mount namespace
// in which the resolver is ours, and ours knows the records that the relay
// says to publish.
type Verifiers struct {
	resolvConf string
}

// NewVerifiers publishes the records of a relay's data directory.
func NewVerifiers(t testing.TB, data string) *Verifiers {
	t.Helper()
	records, err := os.ReadFile(filepath.Join(data, "dkim", "dns.txt"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := dnstest.Listen(resolverIP+":53", string(records))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	v := &Verifiers{filepath.Join(t.TempDir(), "resolv.conf")}
	if err := os.WriteFile(v.resolvConf, []byte("nameserver "+resolverIP+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return v
}

// tools are the verifiers, by name.
var tools = map[string]string{"OpenDKIM": "/usr/sbin/opendkim-testmsg", "dkimpy": "/usr/bin/dkimverify"}

// ask reports whether a verifier takes the message, and what it said.
func (v *Verifiers) ask(t testing.TB, tool, message string) (good bool, said string) {
	t.Helper()
	code, said := output(t, message, "/usr/bin/unshare", "--mount", "/bin/sh", "-c",
		`mount --bind "$0" /etc/resolv.conf && exec "$1"`, v.resolvConf, tools[tool])
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return code == 0, fmt.Sprintf("exit %d, %s", code, lines[len(lines)-1])
}

// Accept fails the test unless each verifier takes each of the two signatures
// of a message, by itself.
func (v *Verifiers) Accept(t testing.TB, what, message string) {
	t.Helper()
	v.expect(t, what, message, true)
}

// Refuse fails the test if a verifier takes a signature of a message.
func (v *Verifiers) Refuse(t testing.TB, what, message string) {
	t.Helper()
	v.expect(t, what, message, false)
}

func (v *Verifiers) expect(t testing.TB, what, message string, good bool) {
	t.Helper()
	for _, algorithm := range []string{"rsa-sha256", "ed25519-sha256"} {
		single := withOnly(t, message, algorithm)
		for tool := range tools {
			if got, said := v.ask(t, tool, single); got != good {
				t.Errorf("%s: %s accepts the %s signature: %t, want %t (%s)\n%s", what, tool, algorithm, got, good, said, head(single))
			}
		}
	}
}

// withOnly is a message with the relay's signature of that algorithm alone: a
// verifier that is content with any good signature then has no other.
func withOnly(t testing.TB, message, algorithm string) string {
	t.Helper()
	header, body, err := mail.SplitHeader([]byte(message), true)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	kept := 0
	for f := range header.Fields() {
		if strings.EqualFold(f.Name, "DKIM-Signature") {
			if !strings.Contains(f.Value(), "a="+algorithm+";") {
				continue
			}
			kept++
		}
		out.Write(f.Raw)
	}
	if kept != 1 {
		t.Fatalf("%d signatures of %s, want 1:\n%s", kept, algorithm, header)
	}
	return out.String() + "\r\n" + message[body:]
}

// head is the beginning of a message, for people.
func head(message string) string { return message[:min(len(message), 4096)] }
