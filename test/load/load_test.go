//go:build load

// Package load puts a whole relay under load and holds the three witnesses
// against each other: what the clients saw, what the mailbox saw, and what the
// books say. loadtest/README.md describes the method.
package load

import (
	"bytes"
	"context"
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
	r := world.StartSingle(t, "")
	out := execute(t, r.Loadtest, "run", "--config", r.File, "--postrider", r.Postrider,
		"--server", r.SMTP, "--listen", r.Sink, "--messages", "2000", "--recipients", "2", "--bad", "0.10", "--connections", "20",
		"--dir", filepath.Join(t.TempDir(), "evidence"))
	t.Log(out)
	if !strings.Contains(out, "holds: 0 violations, 0 queued") {
		t.Error("the witnesses disagree")
	}
	t.Log(execute(t, r.Postrider, "ledger", "balance", "--config", r.File))
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
