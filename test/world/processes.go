package world

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

// services are the programs of a relay of separate processes.
var services = []string{"ledger", "ingress", "policy", "signer", "delivery", "bounce"}

// Processes runs a nats-server and every service as a process of its own.
func Processes(t testing.TB, w *World) {
	t.Helper()
	bin := Binaries(t)
	server := StartNATS(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always")
	w.Config.Bus.URL, w.Config.Bus.Credentials, w.Config.Bus.SystemCredentials = server.URL, server.Credentials, server.SystemCredentials
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, []byte(w.Config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var health []string
	for _, name := range services {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))
		health = append(health, "http://"+address+"/readyz")
		StartProcess(t, name, []string{"POSTRIDER_METRICS=" + address, "POSTRIDER_LOG=warn"}, filepath.Join(bin, name), "--config", file)
	}
	for i, url := range health {
		WaitFor(t, services[i]+" to be ready", func(ctx context.Context) error { return get(ctx, url) })
	}
	bus, err := queue.Connect(queue.Connection{URL: server.URL, Credentials: server.Credentials, Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	w.Bus = bus
}

// NATS is a nats-server of its own.
type NATS struct {
	URL string
	// Credentials and SystemCredentials are files.
	Credentials, SystemCredentials string
}

// StartNATS starts a nats-server with the given sync setting, which may be
// empty.
func StartNATS(t testing.TB, store, sync string) NATS {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t, "127.0.0.1")
	conf := fmt.Sprintf(`
server_name: separate
listen: 127.0.0.1:%d
max_payload: 8MB
jetstream { store_dir: %q, max_file_store: 2GB, %s }
accounts {
  RELAY { jetstream: enabled, users: [{user: relay, password: secret}] }
  SYS { users: [{user: watch, password: secret, permissions: {publish: ["$SYS.REQ.SERVER.PING.JSZ"], subscribe: ["_INBOX.>"]}}] }
}
system_account: SYS
`, port, store, sync)
	n := NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Credentials: filepath.Join(dir, "relay"), SystemCredentials: filepath.Join(dir, "watch")}
	for file, content := range map[string]string{filepath.Join(dir, "nats.conf"): conf, n.Credentials: "relay:secret\n", n.SystemCredentials: "watch:secret\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	StartProcess(t, "nats-server", nil, filepath.Join(Binaries(t), "nats-server"), "--config", filepath.Join(dir, "nats.conf"))
	WaitFor(t, "the NATS server", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err
	})
	return n
}

// Process is a program that a test started.
type Process struct {
	*exec.Cmd
	done chan struct{}
	log  *lockedBuffer
}

// StartProcess starts a program and ends it with the test: by SIGTERM, and by
// SIGKILL after a while.
func StartProcess(t testing.TB, name string, env []string, program string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(program, args...), done: make(chan struct{}), log: &lockedBuffer{}}
	p.Env = append(os.Environ(), env...)
	p.Stdout, p.Stderr = p.log, p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.Wait()
	}()
	t.Cleanup(func() {
		p.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
			p.Process.Kill()
			<-p.done
			t.Errorf("%s did not stop", name)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.log)
		}
	})
	return p
}

// Stop asks the process to end by SIGTERM, waits until it has, and returns its
// exit code.
func (p *Process) Stop(t testing.TB) int {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s did not end", p.Path)
		return -1
	}
}

// Output is what the process said so far, on stdout and stderr.
func (p *Process) Output() string { return p.log.String() }

// lockedBuffer collects the output of a process.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// directory is where the programs of a package's tests lie.
var directory = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "postrider-bin") })

// Main runs the tests of a package, for its TestMain, and removes what
// Binaries built for them: some 200 MB.
func Main(m *testing.M) int {
	code := m.Run()
	if dir, err := directory(); err == nil {
		os.RemoveAll(dir)
	}
	return code
}

// build builds the programs once for all tests of a package.
var build = sync.OnceValues(func() (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	const root = "github.com/postrider/postrider/"
	args := []string{"build", "-o", dir + "/", root + "cmd/postrider", root + "cmd/mxsink", root + "loadtest", "github.com/nats-io/nats-server/v2"}
	for _, s := range services {
		args = append(args, root+"services/"+s+"/cmd/"+s)
	}
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// Binaries is the directory of the programs, built from this tree.
func Binaries(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// WaitFor tries until it succeeds, or fails the test.
func WaitFor(t testing.TB, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
