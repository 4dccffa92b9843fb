package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/timetest"
)

// TestSandbox runs the sandbox as a newcomer does, in an empty directory.
func TestSandbox(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv(config.Variable, "")
	do := func(args ...string) result { return postrider(t, "", args...) }
	if got := do("sandbox", "ls"); got.code != 3 || !strings.Contains(got.err, "start one with: postrider up") {
		t.Errorf("no sandbox yet: %+v", got)
	}
	cfg := config.Sandbox("")
	cfg.Metrics.Address = ""
	for i, address := range porttest.Addresses(t, len(cfg.Listeners)) {
		cfg.Listeners[i].Address = address
	}
	banner := run(t, cfg)
	if !strings.HasPrefix(banner, "Postrider sandbox is ready. Nothing leaves this machine.") || !strings.Contains(banner, "postrider sandbox show") {
		t.Errorf("banner:\n%s", banner)
	}
	for _, form := range []string{"table", "json"} {
		want := map[string]string{"table": "N  TIME  FROM  TO  SIZE  SUBJECT\n", "json": "[]\n"}[form]
		if got := do("sandbox", "ls", "-o", form); got.code != 0 || got.stdout != want {
			t.Errorf("an empty mailbox as %s: %+v", form, got)
		}
	}
	if got := do("sandbox", "show"); got.code != 3 || !strings.Contains(got.err, "the mailbox is empty") {
		t.Errorf("an empty mailbox: %+v", got)
	}

	var ids []string
	for _, to := range []string{"anna@inet.test", "ben@inet.test"} {
		id, err := submit(t, cfg.Listeners[0].Address, "127.0.0.1", login{}, to)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		timetest.Await(t, to+" has mail", func() bool { return strings.Contains(do("sandbox", "ls").stdout, to) })
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(do("sandbox", "ls", "-o", "json").stdout), &rows); err != nil || len(rows) != 2 || rows[1]["n"] != 2.0 || rows[1]["subject"] != "=SUM(A1)" {
		t.Errorf("mailbox %v, %v", rows, err)
	}
	if got := do("sandbox", "ls", "-o", "csv"); !strings.Contains(got.stdout, ",'=SUM(A1)\n") {
		t.Errorf("a formula in the CSV:\n%s", got.stdout)
	}
	for i, id := range ids {
		for _, name := range []string{strconv.Itoa(i + 1), id, strings.ToLower(id), "<" + id + "@sandbox.postrider.test>", id + "@sandbox.postrider.test"} {
			got := do("sandbox", "show", name)
			if got.code != 0 || !strings.Contains(got.stdout, " id "+id) || !strings.Contains(got.stdout, "DKIM-Signature: ") || !strings.HasSuffix(got.stdout, "\r\n\r\nA scan.\r\n") {
				t.Errorf("show %s: %+v", name, got)
			}
		}
	}
	if got := do("sandbox", "show"); !strings.Contains(got.stdout, " id "+ids[1]) {
		t.Errorf("the last: %+v", got)
	}
	for _, name := range []string{"0", "3", "0HZ8Q2M4N6R8TVXZ", "<x@y>", "", "<>"} {
		if got := do("sandbox", "show", name); got.code != 3 || got.stdout != "" {
			t.Errorf("show %q: %+v", name, got)
		}
	}
	for _, args := range [][]string{{"trace", ids[0]}, {"status"}, {"ledger", "balance"}, {"dkim", "ls"}} {
		if got := do(args...); got.code != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
	// Any name and password will do, on TLS.
	if _, err := submit(t, cfg.Listeners[1].Address, "127.0.0.1", login{"me", "anything"}, "anna@inet.test"); err != nil {
		t.Errorf("submission: %v", err)
	}
}

func TestSandboxIsNotARelay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, []byte("relay: {hostname: relay.campus.test}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls"}, {"show"}} {
		got := postrider(t, "", append([]string{"--config", file, "sandbox"}, args...)...)
		if got.code != 2 || !strings.Contains(got.err, "only the sandbox has a mailbox") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestUsage(t *testing.T) {
	for command, text := range map[string]string{
		"statsu":                    "did you mean status?",
		"nonsense":                  `unknown command "nonsense"`,
		"device aprove x":           "did you mean approve?",
		"queue list":                `unknown command "list" for "postrider queue"`,
		"ledger balanc":             "did you mean balance?",
		"--confg x status":          "unknown flag: --confg",
		"status --verbose":          "unknown flag: --verbose",
		"status x":                  "unknown command \"x\"",
		"queue ls -o":               "flag needs an argument",
		"queue ls -x:y":             "unknown shorthand flag",
		"trace a b":                 "accepts 1 arg",
		"device ls -o yaml":         "choose one of table|json|jsonl|csv",
		"--config /absent status":   "find configuration named by --config",
		"dkim rotate":               `unknown command "rotate"`,
		"config check x":            "unknown command \"x\"",
		"sandbox show 1 2":          "accepts at most 1 arg",
		"up x":                      "unknown command \"x\"",
		"queue retry --all=perhaps": "invalid argument",
	} {
		got := postrider(t, "", strings.Fields(command)...)
		if got.code != 2 || !strings.Contains(got.err, text) || got.stdout != "" || !strings.HasPrefix(got.err, "postrider: ") {
			t.Errorf("%s: %+v, want %q", command, got, text)
		}
	}
	for _, command := range []string{"", "--help", "queue", "queue ls --help", "help device"} {
		if got := postrider(t, "", strings.Fields(command)...); got.code != 0 || !strings.Contains(got.stdout, "postrider") || got.err != "" {
			t.Errorf("%q: %+v", command, got)
		}
	}
}
