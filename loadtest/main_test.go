package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/loadtest/journal"
)

// fakeLedger names the directory of the journals from which this test binary,
// started as the program that exports the ledger, makes one.
const fakeLedger = "LOADTEST_FAKE_LEDGER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fakeLedger); dir != "" {
		os.Exit(exportFake(dir))
	}
	os.Exit(m.Run())
}

// exportFake claims that everything the client was promised is delivered, and
// with phantom.yaml something else besides.
func exportFake(dir string) int {
	config, ok := strings.CutPrefix(strings.Join(os.Args[1:], " "), "ledger export -o jsonl --config ")
	if !ok || config == "missing.yaml" {
		fmt.Fprintln(os.Stderr, "no such ledger")
		return 6
	}
	lines, err := journal.ReadFile[journal.Submission](filepath.Join(dir, "client.jsonl"), journal.Whole)
	if err != nil {
		return 1
	}
	out := json.NewEncoder(os.Stdout)
	sent := map[string]journal.Submission{}
	for _, line := range lines {
		if line.Phase == journal.Sent {
			sent[line.Token] = line
		}
		if line.Phase != journal.Reply || line.Code != 250 {
			continue
		}
		message := sent[line.Token]
		if config == "phantom.yaml" {
			_ = out.Encode(journal.Settlement{MessageID: message.MessageID, Recipient: "nobody@load.test", State: journal.Delivered})
		}
		for _, recipient := range message.Recipients {
			if recipient.RcptReply == 250 {
				_ = out.Encode(journal.Settlement{MessageID: message.MessageID, Recipient: recipient.Address, State: journal.Delivered})
			}
		}
	}
	return 0
}

// freeAddress is one that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestRun submits to the sink itself: a relay that takes no time. The ledger
// is made up from the client's journal.
func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	for name, tt := range map[string]struct {
		extra []string
		code  int
		want  string
	}{
		"holds":     {nil, 0, "holds: 0 violations"},
		"violated":  {[]string{"--config", "phantom.yaml"}, 1, "I2 no phantoms"},
		"json":      {[]string{"-o", "json"}, 0, `"verdict": "holds"`},
		"refused":   {[]string{"--bad", "1"}, 1, ""},
		"no ledger": {[]string{"--config", "missing.yaml", "--settle", "1ms"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, address := filepath.Join(t.TempDir(), "evidence"), freeAddress(t)
			t.Setenv(fakeLedger, dir)
			args := append([]string{
				"run", "--server", address, "--listen", address, "--messages", "100", "--connections", "4", "--size", "2KiB",
				"--postrider", self, "--config", "relay.yaml", "--dir", dir, "--poll", "10ms",
			}, tt.extra...)
			var stdout, stderr bytes.Buffer
			code := execute(t.Context(), args, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.want) {
				t.Errorf("exit %d, want %d with %q\n%s%s", code, tt.code, tt.want, &stdout, &stderr)
			}
		})
	}
}

func TestRunRefusesOldEvidence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sink.jsonl"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := execute(t.Context(), []string{"run", "--dir", dir}, io.Discard, &stderr); code != exitError || !strings.Contains(stderr.String(), "not empty") {
		t.Errorf("exit %d: %s", code, &stderr)
	}
}

// TestSinkAndGenerate drives the two commands as a person would, in one
// process, and then checks their journals.
func TestSinkAndGenerate(t *testing.T) {
	dir := t.TempDir()
	client, copies, ledger := filepath.Join(dir, "c"), filepath.Join(dir, "s"), filepath.Join(dir, "l")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said, stderr := io.Pipe()
	var counts bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- execute(ctx, []string{"sink", "--listen", "127.0.0.1:0", "--journal", copies, "-o", "json"}, &counts, stderr)
		stderr.Close()
	}()
	var address string
	line, err := bufio.NewReader(said).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "sink on %s", &address); err != nil || scanErr != nil {
		t.Fatalf("sink said %q: %v", line, err)
	}
	address = strings.TrimSuffix(address, ",")
	var summary, plots bytes.Buffer
	code := execute(ctx, []string{"generate", "--server", address, "--messages", "50", "--connections", "3", "--journal", client, "--fsync", "-o", "json"}, &summary, &plots)
	var got struct{ Accepted, Refused int }
	if err := json.Unmarshal(summary.Bytes(), &got); err != nil || code != 0 || got.Accepted+got.Refused != 50 {
		t.Errorf("generate: exit %d, %v, %s", code, err, &summary)
	}
	if !strings.Contains(plots.String(), "accepted/s over") {
		t.Errorf("no plot in %q", &plots)
	}
	stop()
	if code := <-done; code != 0 || !strings.Contains(counts.String(), fmt.Sprintf(`"messages": %d`, got.Accepted)) {
		t.Errorf("sink: exit %d, %s", code, &counts)
	}

	// An empty ledger has lost everything; nonsense proves nothing.
	for _, tt := range []struct {
		ledger string
		code   int
	}{{"", 1}, {"nonsense\n", 2}} {
		if err := os.WriteFile(ledger, []byte(tt.ledger), 0o600); err != nil {
			t.Fatal(err)
		}
		var report bytes.Buffer
		if code := execute(t.Context(), []string{"check", "--journal", client, "--sink", copies, "--ledger", ledger}, &report, io.Discard); code != tt.code {
			t.Errorf("check with ledger %q: exit %d, want %d\n%s", tt.ledger, code, tt.code, &report)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := execute(ctx, []string{"generate", "--server", freeAddress(t), "--journal", filepath.Join(t.TempDir(), "c")}, io.Discard, io.Discard); code != exitInterrupted {
		t.Errorf("exit %d, want %d", code, exitInterrupted)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"},
		{"generate", "--nonsense"},
		{"generate", "more"},
		{"generate", "--size", "big"},
		{"generate", "--bad", "7"},
		{"generate", "-o", "xml"},
		{"run", "--poll", "0s"},
		{"check", "-o", "xml"},
		{"check", "--ledger", "/does/not/exist", "--journal", "/does/not/exist"},
	} {
		var stderr bytes.Buffer
		if code := execute(t.Context(), args, io.Discard, &stderr); code != exitUsage || !strings.HasPrefix(stderr.String(), "loadtest: ") {
			t.Errorf("%q: exit %d, %q", args, code, &stderr)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]size{
		"512": 512, "10KiB": 10240, "10k": 10240, "10kB": 10000, "1 MiB": 1 << 20, "2MB": 2_000_000, "7B": 7,
		"": -1, "KiB": -1, "-1": -1, "1.5M": -1, "9999999MiB": -1, "10GiB": -1,
	} {
		got := size(-1)
		if err := got.Set(in); (err == nil) != (want >= 0) || got != want {
			t.Errorf("size %q = %d, %v; want %d", in, got, err, want)
		}
	}
}
