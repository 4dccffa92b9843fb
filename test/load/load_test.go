//go:build load

// Package load puts a whole relay under load and holds the three witnesses
// against each other: what the clients saw, what the mailbox saw, and what the
// books say. loadtest/README.md describes the method.
package load

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// TestLoad: 2,000 messages of 2 recipients, 10 % of them bad, over 20
// connections. Every accepted recipient ends in exactly one terminal state, and
// the books balance.
func TestLoad(t *testing.T) {
	bin := world.Binaries(t)
	smtp, sink := freeAddress(t), freeAddress(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "load.yaml")
	text := fmt.Sprintf(`
relay: {hostname: relay.test, data: %s}
listeners: [{name: devices, address: %q, mode: relay}]
networks: {campus: [127.0.0.0/8]}
domains:
  hosted:
    - {name: load.test, route: "smtp://%s"}
    - {name: sender.test, route: "smtp://%s"}
limits: {messages_per_session: {relay: 1000000}}
delivery: {retry: [2s, 5s, 10s]}
ledger: {token_header: X-Ledger}
metrics: {address: ""}
`, filepath.Join(dir, "data"), smtp, sink, sink)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	world.StartProcess(t, "postrider up", []string{"POSTRIDER_LOG=warn"}, filepath.Join(bin, "postrider"), "up", "--config", file)
	world.WaitFor(t, "the listener", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", smtp)
		if err == nil {
			conn.Close()
		}
		return err
	})
	out := execute(t, filepath.Join(bin, "loadtest"), "run", "--config", file, "--postrider", filepath.Join(bin, "postrider"),
		"--server", smtp, "--listen", sink, "--messages", "2000", "--recipients", "2", "--bad", "0.10", "--connections", "20",
		"--dir", filepath.Join(dir, "evidence"))
	t.Log(out)
	if !strings.Contains(out, "holds: 0 violations, 0 queued") {
		t.Error("the witnesses disagree")
	}
	t.Log(execute(t, filepath.Join(bin, "postrider"), "ledger", "balance", "--config", file))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// execute runs a program that must succeed.
func execute(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}
