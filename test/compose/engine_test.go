//go:build compose

package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine is the Docker engine that the commands of a test talk to.
type engine struct {
	t *testing.T
	// ctx ends so long before the test binary that cleaning up has its time.
	ctx context.Context
	env []string
}

// cleaning is how long removing everything may take.
const cleaning = 3 * time.Minute

// startEngine finds an engine that answers, or starts one.
func startEngine(t *testing.T) *engine {
	t.Helper()
	deadline, ok := t.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Hour)
	}
	// Not t.Context, which ends before cleaning up begins.
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(-cleaning))
	t.Cleanup(cancel)
	e := &engine{t: t, ctx: ctx, env: os.Environ()}
	if _, err := e.try(ctx, nil, "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		t.Logf("no Docker engine answers (%v): starting one", err)
		e.startOwn()
	}
	t.Logf("Docker engine %s", e.run("docker", "version", "--format", "{{.Server.Version}}"))
	return e
}

// startOwn starts a dockerd with a data directory of its own, and ends it with
// the test.
func (e *engine) startOwn() {
	t := e.t
	t.Helper()
	program, err := exec.LookPath("dockerd")
	if err != nil {
		t.Fatalf("no Docker engine answers, and there is no dockerd to start (apt-get install docker.io docker-compose): %v", err)
	}
	dir, err := os.MkdirTemp("", "engine") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the data of the engine: %v", err)
		}
	})
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	said, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	// Without a default bridge it can be beside another engine's.
	dockerd := exec.Command(program, "--host", socket, "--bridge", "none", "--pidfile", filepath.Join(dir, "pid"),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"))
	dockerd.Stdout, dockerd.Stderr = said, said
	if err := dockerd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dockerd.Wait() }()
	t.Cleanup(func() {
		dockerd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			dockerd.Process.Kill()
			t.Error("dockerd did not stop")
		}
	})
	e.env = append(e.env, "DOCKER_HOST="+socket)
	e.until("the engine to answer", time.Minute, func() error {
		select {
		case err := <-ended:
			ended <- err
			last, _ := os.ReadFile(said.Name())
			t.Fatalf("no Docker engine answers, and %s ended (is this root?): %v\n%s", program, err, tail(last))
		default:
		}
		_, err := e.try(e.ctx, nil, "docker", "version")
		return err
	})
}

// run runs a command that must succeed and returns what it wrote to its
// standard output, without the white space around it.
func (e *engine) run(name string, args ...string) string {
	e.t.Helper()
	out, err := e.try(e.ctx, nil, name, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// try runs a command. The error has what it wrote to its standard error.
func (e *engine) try(ctx context.Context, in io.Reader, name string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = "../..", e.env, in, &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), tail(out.Bytes()), tail(said.Bytes()))
	}
	return out.String(), nil
}

// clean registers a command that tidies up, which runs even when time is up.
func (e *engine) clean(name string, args ...string) {
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleaning)
		defer cancel()
		if _, err := e.try(ctx, nil, name, args...); err != nil {
			e.t.Error(err)
		}
	})
}

// until tries again until it works, or fails the test.
func (e *engine) until(what string, patience time.Duration, try func() error) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

// tail is the end of an output.
func tail(out []byte) string {
	const most = 4000
	if len(out) > most {
		return "…" + string(out[len(out)-most:])
	}
	return string(out)
}
