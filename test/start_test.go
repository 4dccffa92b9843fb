package test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// TestStartRefused: what makes a relay unsafe or is misspelt is an error at
// start, with exit 2 and the setting named (DESIGN sections 1, 6).
func TestStartRefused(t *testing.T) {
	bin := world.Binaries(t)
	lazy := world.StartNATS(t, filepath.Join(t.TempDir(), "bus"), "")
	honest := world.StartNATS(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always")
	busOf := func(n world.NATS, system string) string {
		return "bus: {url: " + n.URL + ", credentials: " + n.Credentials + ", system_credentials: " + system + "}\n"
	}
	for _, tt := range []struct {
		name, config string
		program      []string
		say          []string
	}{
		{"a service on a server that syncs now and then", busOf(lazy, lazy.SystemCredentials), []string{"ingress"},
			[]string{"sync_interval: always"}},
		{"everything on a server that syncs now and then", busOf(lazy, lazy.SystemCredentials), []string{"postrider", "up"},
			[]string{"sync_interval: always"}},
		{"one that nobody may ask", busOf(lazy, `""`), []string{"postrider", "run", "policy"},
			[]string{"sync_interval: always", "bus.system_credentials"}},
		{"wrong system credentials", busOf(honest, "wrong:password"), []string{"postrider", "run", "policy"},
			[]string{"bus.system_credentials"}},
		{"a misspelt key", "relay: {hostname: relay.test}\nlistners:\n  - {address: \"127.0.0.1:2525\"}\n", []string{"postrider", "up"},
			[]string{"postrider.yaml:2:1", `"listners"`, `did you mean "listeners"`}},
		{"a misspelt key, for a service", "bus:\n  ulr: nats://127.0.0.1:4222\n", []string{"delivery"},
			[]string{"postrider.yaml:2:3", `"ulr"`, `did you mean "url"`}},
		{"a service without a bus", "relay: {hostname: relay.test}\n", []string{"signer"}, []string{"bus.url"}},
		{"an unknown service", "relay: {hostname: relay.test}\n", []string{"postrider", "run", "ingres"}, []string{"ingres", "ingress"}},
		{"an unknown command", "relay: {hostname: relay.test}\n", []string{"postrider", "trase"}, []string{"trase", "trace"}},
		{"an unknown flag", "relay: {hostname: relay.test}\n", []string{"postrider", "up", "--cofnig", "x"}, []string{"--cofnig", "--help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "postrider.yaml")
			data := "relay: {hostname: relay.test, data: " + filepath.Join(t.TempDir(), "data") + "}\n"
			if strings.HasPrefix(tt.config, "relay:") {
				data = ""
			}
			// The configuration under test comes first, so that its lines count from 1.
			if err := os.WriteFile(file, []byte(tt.config+data), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out := execute(t, filepath.Join(bin, tt.program[0]), append(tt.program[1:], "--config", file)...)
			if code != 2 {
				t.Errorf("exit %d, want 2", code)
			}
			for _, want := range tt.say {
				if !strings.Contains(out, want) {
					t.Errorf("output does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestNamedFileMissing: a configuration that was named and is not there is no
// sandbox.
func TestNamedFileMissing(t *testing.T) {
	code, out := execute(t, filepath.Join(world.Binaries(t), "postrider"), "up", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	if code != 2 || !strings.Contains(out, "none.yaml") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// execute runs a program that must end by itself.
func execute(t *testing.T, program string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.TempDir()
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), buf.String()
	case err != nil:
		t.Fatal(err)
	}
	return 0, buf.String()
}
