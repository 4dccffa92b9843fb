package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/smtptest"
)

// program is a running mxsink.
type program struct {
	addrs  []string
	stop   context.CancelFunc
	done   chan int
	stdout bytes.Buffer // read it after done
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p := &program{stop: cancel, done: make(chan int, 1)}
	out, stderr := io.Pipe()
	go func() {
		p.done <- run(ctx, append([]string{"--listen", "127.0.0.1:0,127.0.0.1:0"}, args...), &p.stdout, stderr)
		_ = stderr.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_, addrs, _ := strings.Cut(line, "listening on ")
	if p.addrs = strings.Fields(addrs); len(p.addrs) != 2 {
		t.Fatalf("said %q", line)
	}
	return p
}

// end stops the program and returns its standard output.
func (p *program) end(t *testing.T) string {
	t.Helper()
	p.stop()
	if code := <-p.done; code != exitDone {
		t.Errorf("exit code %d", code)
	}
	return p.stdout.String()
}

func play(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	script, err := smtptest.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Dial(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

const twoRecipients = `
S: 220 mx.example.test *
C: EHLO relay.campus.test
S-until: 250 *
C: MAIL FROM:<scan@campus.test>
S: 250 *
C: RCPT TO:<u1+t@example.test>
S: 250 *
C: RCPT TO:<550@example.test>
S: 550 *
C: RCPT TO:<drop-after-dot@example.test>
S: 250 *
C: DATA
S: 354 *
C: Message-ID: <1@campus.test>
C: X-Ledger: token-1
C:
C: body
C: .
S-drop
`

func TestSink(t *testing.T) {
	dir := t.TempDir()
	journal := filepath.Join(dir, "sink.jsonl")
	p := start(t, "--hostname", "mx.example.test", "--dir", filepath.Join(dir, "mail"), "--journal", journal, "--max-size=1000")
	play(t, dial(t, p.addrs[0]), strings.NewReplacer("drop-after-dot", "u2", "S-drop", "S: 250 *").Replace(twoRecipients))
	play(t, dial(t, p.addrs[1]), twoRecipients)
	stdout := p.end(t)

	lines := strings.Split(stdout, "\n")
	if len(lines) != 5 ||
		!strings.HasSuffix(lines[0], " <scan@campus.test> -> <u1+t@example.test> <u2@example.test> 56 octets, <1@campus.test>") ||
		!strings.HasSuffix(lines[1], ", <1@campus.test>, no reply given") ||
		!strings.HasPrefix(lines[2], "2 messages (1 without a reply) for 4 recipients, 112 octets, in ") ||
		!strings.HasPrefix(lines[3], "2 connections, at most ") ||
		!strings.HasSuffix(lines[3], " at a time; refused 0 MAIL, 2 RCPT, 0 DATA; 1 dropped as told, 0 cut off") {
		t.Errorf("printed:\n%s", stdout)
	}

	entries, err := smtptest.ReadIndex(filepath.Join(dir, "mail"))
	if err != nil || len(entries) != 2 || !entries[0].Acknowledged || entries[1].Acknowledged {
		t.Errorf("index: %+v, %v", entries, err)
	}
	text, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	var recipients []string
	for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
		var e smtptest.JournalEntry
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.SubmissionID != "token-1" || len(e.SHA256Body) != 64 || e.Acknowledged != (len(recipients) < 2) {
			t.Errorf("journal: %+v", e)
		}
		recipients = append(recipients, e.Recipient)
	}
	if got := strings.Join(recipients, " "); got != "u1+t@example.test u2@example.test u1+t@example.test drop-after-dot@example.test" {
		t.Errorf("journal has %s", got)
	}
}

func TestCountOnlyAndExitAfter(t *testing.T) {
	p := start(t, "--count-only", "--exit-after", "1", "--no-tls", "--at", "ehlo=once-450", "--without", "size,CHUNKING")
	play(t, dial(t, p.addrs[0]), `
S: 220 *
C: EHLO relay.campus.test
S: 450 *
C: EHLO relay.campus.test
S: 250-*
S: 250-PIPELINING
S: 250-8BITMIME
S: 250-SMTPUTF8
S: 250 ENHANCEDSTATUSCODES
C: MAIL FROM:<>
S: 250 *
C: RCPT TO:<u1@example.test>
S: 250 *
C: DATA
S: 354 *
C: .
S: 250 *
S: 421 *
S-drop
`)
	if code := <-p.done; code != exitDone || !strings.HasPrefix(p.stdout.String(), "1 messages (0 without a reply)") {
		t.Errorf("exit code %d, printed %q", code, p.stdout.String())
	}
}

func TestMadeCertificate(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	p := start(t, "--implicit-tls", "--hostname", "mx.example.test", "--ca-out", ca, "--quiet", "--user", "relay", "--password", "secret")
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	conn := tls.Client(dial(t, p.addrs[0]), &tls.Config{RootCAs: pool, ServerName: "mx.example.test"})
	play(t, conn, "S: 220 *\nC: EHLO x\nS-until: 250 AUTH PLAIN LOGIN\nC: AUTH PLAIN AHJlbGF5AHNlY3JldA==\nS: 235 *\nC: QUIT\nS: 221 *\nS-drop\n")
	if stdout := p.end(t); !strings.HasPrefix(stdout, "0 messages") {
		t.Errorf("printed %q", stdout)
	}
}

func TestExitCodes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		args string
		want int
		says string
	}{
		{"--help", exitDone, "drop-after-dot@"},
		{"--nope", exitUsage, "--help"},
		{"argument", exitUsage, "--help"},
		{"--count-only --dir x", exitUsage, "--help"},
		{"--cert x", exitUsage, "--help"},
		{"--at lunch=drop", exitUsage, "grammar"},
		{"--cert missing.pem --key missing.pem", exitError, "missing.pem"},
		{"--journal " + t.TempDir(), exitError, "journal"},
		{"--dir /dev/null/x", exitError, "maildir"},
		{"--listen " + taken.Addr().String(), exitError, "in use"},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // whoever gets as far as to listen ends at once
		if code := run(ctx, strings.Fields(tt.args), &out, &out); code != tt.want || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, tt.want, out.String())
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("<\x1b[31m\u202ex>ä"); got != "<\ufffd[31m\ufffdx>ä" {
		t.Errorf("%q", got)
	}
}
