package acceptance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/postrider/postrider/shared/timetest"
)

// program is the people's program, built from this tree.
var program = sync.OnceValue(func() string {
	file := filepath.Join(alive.TempDir(), "postrider")
	if out, err := exec.Command("go", "build", "-o", file, "github.com/postrider/postrider/cmd/postrider").CombinedOutput(); err != nil {
		alive.Fatalf("build: %v\n%s", err, out)
	}
	return file
})

// command runs the program against the relay. It returns what it prints, and how
// it ends.
func (r *relay) command(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program(), append([]string{"--config", r.file(t)}, args...)...)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	var ended *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return out.String(), said.String(), c.ProcessState.ExitCode()
}

// ok runs a command that must succeed.
func (r *relay) ok(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := r.command(t, args...)
	if code != 0 {
		t.Fatalf("%q exits %d: %s\n%s", args, code, stderr, stdout)
	}
	return stdout
}

// shows waits until a command prints all of that.
func (r *relay) shows(t testing.TB, want []string, args ...string) (stdout string) {
	t.Helper()
	missing := ""
	defer func() {
		if t.Failed() {
			t.Logf("%q has no %q:\n%s", args, missing, stdout)
		}
	}()
	timetest.Await(t, "what a command shows", func() bool {
		stdout = r.ok(t, args...)
		for _, w := range want {
			if !bytes.Contains([]byte(stdout), []byte(w)) {
				missing = w
				return false
			}
		}
		return true
	})
	return stdout
}

// file is the configuration of the relay as the program reads it.
func (r *relay) file(t testing.TB) string {
	t.Helper()
	file := filepath.Join(r.Config.Relay.Data, "postrider.yaml")
	if err := os.WriteFile(file, []byte(r.Config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
