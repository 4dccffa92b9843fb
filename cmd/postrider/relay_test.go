package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// patience bounds every wait of a test.
const patience = 60 * time.Second

// relay is a whole relay, started as `postrider up` does, with the file that
// tells the commands about it.
type relay struct {
	t *testing.T
	// file is the configuration, smtp the listener of mode relay, submission
	// that of mode submission.
	file, smtp, submission string
	mx                     *smtptest.MX
}

// start starts a relay whose only device with an address is 127.0.0.1, and
// whose every route leads to r.mx. Deferred mail waits for an hour.
func start(t *testing.T) *relay {
	t.Helper()
	return startWith(t, "")
}

// startWith starts one with more in its configuration.
func startWith(t *testing.T, more string) *relay {
	t.Helper()
	addresses := porttest.Addresses(t, 2)
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml"), smtp: addresses[0], submission: addresses[1], mx: smtptest.Start(t, smtptest.Options{})}
	write(t, r.file, fmt.Sprintf(`
relay: {hostname: relay.campus.test, data: %q}
listeners:
  - {name: devices, address: %q, mode: relay}
  - {name: submission, address: %q, mode: submission}
devices: [{name: prn.campus.test, owner: chem, addresses: [127.0.0.1]}]
delivery: {routes: [{domain: "*", to: "smtp://%s"}], retry: [1h]}
metrics: {address: ""}
%s
`, filepath.Join(filepath.Dir(r.file), "data"), r.smtp, r.submission, r.mx.Addr(), more))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	return r
}

// run runs a relay until the test ends, and returns its banner.
func run(t *testing.T, cfg *config.Config) string {
	t.Helper()
	t.Setenv("POSTRIDER_LOG", "error")
	ctx, cancel := context.WithCancel(context.Background())
	out := &firstWrite{done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- up(ctx, cfg, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
	select {
	case <-out.done:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("the relay does not become ready")
	}
	return out.text
}

// firstWrite tells when something was written.
type firstWrite struct {
	once sync.Once
	text string
	done chan struct{}
}

func (f *firstWrite) Write(p []byte) (int, error) {
	f.once.Do(func() {
		f.text = string(p)
		close(f.done)
	})
	return len(p), nil
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// result is what a command did.
type result struct {
	code        int
	stdout, err string
}

func postrider(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := execute(ctx, args, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// do runs a command against the relay.
func (r *relay) do(args ...string) result {
	r.t.Helper()
	return postrider(r.t, "", append([]string{"--config", r.file}, args...)...)
}

// ok runs a command that must succeed, and returns its stdout.
func (r *relay) ok(args ...string) string {
	r.t.Helper()
	got := r.do(args...)
	if got.code != service.ExitDone {
		r.t.Fatalf("%q exits %d: %s\n%s", args, got.code, got.err, got.stdout)
	}
	return got.stdout
}

// fails runs a command that must fail with a code, with that text on stderr
// and nothing on stdout.
func (r *relay) fails(code int, text string, args ...string) {
	r.t.Helper()
	got := r.do(args...)
	if got.code != code || !strings.Contains(got.err, text) || got.stdout != "" {
		r.t.Errorf("%q exits %d, want %d with %q\nstdout: %q\nstderr: %q", args, got.code, code, text, got.stdout, got.err)
	}
}

// list runs a listing as JSON.
func (r *relay) list(args ...string) []map[string]any {
	r.t.Helper()
	var rows []map[string]any
	text := r.ok(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		r.t.Fatalf("%q: %v in %q", args, err, text)
	}
	return rows
}

var queuedAs = regexp.MustCompile(`queued as ([0-9A-Z]{16})`)

// login is how to authenticate; empty does not.
type login struct{ name, secret string }

// submit sends a message from a loopback address and returns its queue id.
func submit(t *testing.T, to, from string, as login, rcpts ...string) (string, error) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if as.name != "" {
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			return "", err
		}
		if err := c.Auth(smtp.PlainAuth("", as.name, as.secret, "127.0.0.1")); err != nil {
			return "", err
		}
	}
	if err := c.Mail("prn@campus.test"); err != nil {
		return "", err
	}
	for _, rcpt := range rcpts {
		if err := c.Rcpt(rcpt); err != nil {
			return "", err
		}
	}
	if err := c.Text.PrintfLine("DATA"); err != nil {
		return "", err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return "", err
	}
	w := c.Text.DotWriter()
	if _, err := io.WriteString(w, "From: prn@campus.test\nSubject: =SUM(A1)\n\nA scan.\n"); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, reply, err := c.Text.ReadResponse(250)
	if err != nil {
		return "", err
	}
	m := queuedAs.FindStringSubmatch(reply)
	if m == nil {
		t.Fatalf("final reply %q has no queue id", reply)
	}
	return m[1], nil
}

// submit sends a message from the registered device.
func (r *relay) submit(rcpts ...string) string {
	r.t.Helper()
	id, err := submit(r.t, r.smtp, "127.0.0.1", login{}, rcpts...)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// deferred submits a message and waits until it waits for another attempt.
func (r *relay) deferred(rcpts ...string) string {
	r.t.Helper()
	id := r.submit(rcpts...)
	timetest.Await(r.t, id+" is deferred", func() bool { return len(r.list("queue", "ls", "state:deferred", id)) == 1 })
	return id
}
