package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/loadtest/compare"
)

func compareWith(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaint bytes.Buffer
	code = execute(ctx, append([]string{"compare", "--dir", t.TempDir(), "--sync-messages", "0"}, args...), &out, &complaint)
	return code, out.String(), complaint.String()
}

// TestCompareDirect needs no server: the source sends straight to the sink.
func TestCompareDirect(t *testing.T) {
	for output, want := range map[string]string{"table": "  direct  ", "markdown": "| direct | ", "json": `"name": "direct"`} {
		code, stdout, stderr := compareWith(t, t.Context(), "--servers", "direct", "--quick", "--messages", "20", "--sizes", "2KiB,1024", "-o", output)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, no %q in\n%s%s", output, code, want, stdout, stderr)
		}
		if n := strings.Count(stderr, "round 1 of 1"); n != 4 {
			t.Errorf("%s: %d runs: %s", output, n, stderr)
		}
		if output != "json" {
			continue
		}
		var result compare.Result
		if err := json.Unmarshal([]byte(stdout), &result); err != nil || len(result.Cells) != 4 || result.Cells[0].Servers[0].Accept.Median <= 0 {
			t.Errorf("%v: %+v", err, result)
		}
	}
}

func TestCompareUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"postrider needs /nowhere: make build": {"--servers", "postrider", "--postrider", "/nowhere"},
		"none of postfix-default":              {"--servers", "sendmail"},
		"is not table, json or markdown":       {"--servers", "direct", "-o", "xml"},
		"neither reuse nor single":             {"--servers", "direct", "--modes", "both"},
		"is no size":                           {"--sizes", "large"},
		"rounds: less than 1":                  {"--servers", "direct", "--rounds", "0"},
	} {
		if code, _, stderr := compareWith(t, t.Context(), args...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
}

// TestCompareEnds: goals that cannot be judged do not hold; a server that
// fails, and an interrupt, have their codes; what is needed no more is removed.
func TestCompareEnds(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx  context.Context
		args []string
		code int
		left int
		says string
	}{
		{t.Context(), []string{"--servers", "direct", "--assert"}, exitNo, 0, ""},
		{t.Context(), []string{"--servers", "postrider", "--postrider", "/bin/false"}, exitError, 1, "2 runs failed; the logs are in "},
		{stopped, []string{"--servers", "direct"}, exitInterrupted, 0, "canceled"},
	} {
		dir := t.TempDir()
		args := append([]string{"--quick", "--messages", "20", "--dir", dir}, tt.args...)
		code, _, stderr := compareWith(t, tt.ctx, args...)
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || code != tt.code || len(left) != tt.left || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: exit %d, left %q, %s", tt.args, code, left, stderr)
		}
	}
}

func TestFindPostrider(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := findPostrider(); got != "postrider" {
		t.Errorf("got %q", got)
	}
	if err := os.Mkdir("bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("bin/postrider", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := findPostrider(); got != "bin/postrider" {
		t.Errorf("got %q", got)
	}
}
