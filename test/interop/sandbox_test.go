//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/test/world"
)

// readyWithin is promised to a newcomer.
const readyWithin = 10 * time.Second

// Sandbox is a `postrider up` without a configuration, in a directory of its
// own.
type Sandbox struct {
	dir, program string
	*world.Process
}

// start starts it and waits until it says that it is ready.
func (s *Sandbox) start(t *testing.T) {
	t.Helper()
	for _, port := range []string{"2525", "2587", "2465"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatalf("the sandbox's port is taken: %v", err)
		}
		l.Close()
	}
	began := time.Now()
	s.Process = world.StartProcess(t, "postrider up", nil, "/bin/sh", "-c", `cd "$0" && exec "$1" up`, s.dir, s.program)
	world.WaitFor(t, "the sandbox", func(context.Context) error {
		if !strings.Contains(s.Output(), "Postrider sandbox is ready") {
			return errors.New(s.Output())
		}
		return nil
	})
	if took := time.Since(began); took > readyWithin {
		t.Errorf("ready after %s, want %s", took, readyWithin)
	} else {
		t.Logf("ready after %s", took.Round(10*time.Millisecond))
	}
}

// command runs one of the commands beside it.
func (s *Sandbox) command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(s.program, args...)
	cmd.Dir = s.dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

var queuedAs = regexp.MustCompile(`250 2\.0\.0 queued as ([0-9A-Z]{16})`)

// swaks sends a message and returns its id.
func (s *Sandbox) swaks(t *testing.T, to, subject string, args ...string) string {
	t.Helper()
	args = append(args, "--from", "me@example.test", "--to", to, "--header", "Subject: "+subject, "--helo", "device.example.test")
	code, said := output(t, "", "/usr/bin/swaks", args...)
	m := queuedAs.FindStringSubmatch(said)
	if code != 0 || m == nil {
		t.Fatalf("swaks %s: exit %d\n%s", strings.Join(args, " "), code, said)
	}
	return m[1]
}

// arrived waits for a message with that subject in `sandbox ls`, and returns
// its number and sender there.
func (s *Sandbox) arrived(t *testing.T, subject string) (n int, from string) {
	t.Helper()
	world.WaitFor(t, "a message "+subject, func(context.Context) error {
		code, out, errs := s.command(t, "sandbox", "ls", "-o", "json")
		if code != 0 {
			return fmt.Errorf("exit %d: %s", code, errs)
		}
		var entries []struct {
			N       int    `json:"n"`
			From    string `json:"reverse_path"`
			Subject string `json:"subject"`
		}
		if err := json.Unmarshal([]byte(out), &entries); err != nil {
			return err
		}
		for _, e := range entries {
			if e.Subject == subject {
				n, from = e.N, e.From
				return nil
			}
		}
		return fmt.Errorf("not among %d", len(entries))
	})
	return n, from
}

// TestSandbox is the first quarter of an hour of a newcomer.
func TestSandbox(t *testing.T) {
	t.Setenv("POSTRIDER_CONFIG", "")
	s := &Sandbox{dir: t.TempDir(), program: filepath.Join(world.Binaries(t), "postrider")}
	s.start(t)
	verifiers := NewVerifiers(t, filepath.Join(s.dir, "postrider-data"))

	login := []string{"--auth-user", "printer", "--auth-password", "secret"}
	ways := []struct {
		name, how string
		args      []string
	}{
		{"plain", "in clear", []string{"--server", "127.0.0.1:2525"}},
		{"STARTTLS", "with TLS1.", []string{"--server", "127.0.0.1:2525", "--tls"}},
		{"TLS from the start", "with TLS1.", []string{"--server", "127.0.0.1:2465", "--tls-on-connect"}},
		{"AUTH PLAIN", "with TLS1.", append([]string{"--server", "127.0.0.1:2587", "--tls", "--auth", "PLAIN"}, login...)},
		{"AUTH LOGIN", "with TLS1.", append([]string{"--server", "127.0.0.1:2587", "--tls", "--auth", "LOGIN"}, login...)},
	}
	ids := map[string]string{}
	for _, way := range ways {
		ids[way.name] = s.swaks(t, "you@example.test", way.name, way.args...)
	}
	for _, way := range ways {
		s.arrived(t, way.name)
		code, shown, errs := s.command(t, "sandbox", "show", ids[way.name])
		if code != 0 || !strings.Contains(shown, "\r\nSubject: "+way.name+"\r\n") {
			t.Fatalf("sandbox show %s: exit %d, %s%s", ids[way.name], code, errs, head(shown))
		}
		verifiers.Accept(t, way.name, shown)
		s.expectTrace(t, ids[way.name], []string{"policy   accepted from 127.0.0.1", "HELO device.example.test", way.how}, []string{"signer   signed d=sandbox.postrider.test"},
			[]string{"delivery delivered"}, []string{"you@example.test  + delivered"})
	}

	bad := s.swaks(t, "550@example.test", "comes back", "--server", "127.0.0.1:2525")
	n, from := s.arrived(t, "Undelivered mail: 550@example.test")
	code, report, errs := s.command(t, "sandbox", "show", fmt.Sprint(n))
	if code != 0 || from != "" || !strings.Contains(report, "Final-Recipient: rfc822; 550@example.test") {
		t.Errorf("the report: exit %d, from %q, %s%s", code, from, errs, report)
	}
	verifiers.Accept(t, "the report", report)
	s.expectTrace(t, bad, []string{"delivery failed"}, []string{"bounce   bounced, report "}, []string{"550@example.test  x bounced"})

	s.expectRefusedForProduction(t)
	s.stop(t)
	s.start(t)
	s.arrived(t, "plain")
	s.expectTrace(t, ids["plain"], []string{"delivery delivered"})
	again := s.swaks(t, "you@example.test", "after the restart", "--server", "127.0.0.1:2525", "--tls")
	n, _ = s.arrived(t, "after the restart")
	if want := len(ways) + 2; n != want {
		t.Errorf("it is number %d, want %d", n, want)
	}
	_, shown, _ := s.command(t, "sandbox", "show")
	verifiers.Accept(t, "after the restart, with the same keys", shown)
	s.expectTrace(t, again, []string{"delivery delivered"})
	s.stop(t)
	s.expectRefusedForProduction(t)
}

// expectTrace waits for lines of `trace`, each with all its words.
func (s *Sandbox) expectTrace(t *testing.T, id string, lines ...[]string) {
	t.Helper()
	world.WaitFor(t, "the trace of "+id, func(context.Context) error {
		code, out, errs := s.command(t, "trace", id)
		if code != 0 {
			return fmt.Errorf("exit %d: %s", code, errs)
		}
		for _, words := range lines {
			if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool { return containsAll(line, words) }) {
				return fmt.Errorf("no line %q in\n%s", words, out)
			}
		}
		return nil
	})
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// stop ends it by SIGTERM, as init systems do.
func (s *Sandbox) stop(t *testing.T) {
	t.Helper()
	began := time.Now()
	code := s.Stop(t)
	took := time.Since(began)
	if code != 0 || took > service.Grace {
		t.Errorf("exit %d after %s, want 0 within %s:\n%s", code, took, service.Grace, s.Output())
	}
	t.Logf("stopped after %s", took.Round(10*time.Millisecond))
}

// expectRefusedForProduction: a relay of the real world does not open the data
// of a sandbox, running or not.
func (s *Sandbox) expectRefusedForProduction(t *testing.T) {
	t.Helper()
	data := filepath.Join(s.dir, "postrider-data")
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, []byte("relay: {hostname: relay.campus.test, data: "+data+"}\nmetrics: {address: \"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, said := output(t, "", s.program, "up", "--config", file)
	if code != 2 || !strings.Contains(said, "was made for sandbox and is not opened for production") {
		t.Errorf("a production relay on the data of a sandbox: exit %d, %s", code, said)
	}
}
