//go:build memory

package memory

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

// destination is the domain whose mail goes to the sink of a test.
const destination = "sink.test"

// relay is a relay whose processes are measured, and the mailbox behind it.
type relay struct {
	*world.World
	pids    map[string]int
	sink    *smtptest.MX
	journal *journal
}

// services are the processes of a relay.
var services = []string{"ledger", "ingress", "policy", "signer", "delivery", "bounce"}

// oneProcess is the process of a relay that has only one.
const oneProcess = "up"

// separate makes a relay of separate processes, in front of a sink that keeps
// digests only.
func separate(t *testing.T, sink smtptest.Options) *relay {
	t.Helper()
	return start(t, sink, func(r *relay) world.Driver { return r.run })
}

// together makes a relay in one process, which has something in its environment.
func together(t *testing.T, env ...string) *relay {
	t.Helper()
	return start(t, smtptest.Options{}, func(r *relay) world.Driver {
		return func(t testing.TB, w *world.World) { r.up(t, w, env) }
	})
}

func start(t *testing.T, sink smtptest.Options, driver func(*relay) world.Driver) *relay {
	t.Helper()
	r := &relay{pids: map[string]int{}, journal: &journal{}}
	sink.Store = smtptest.NewJournal(r.journal)
	r.sink = smtptest.Start(t, sink)
	r.World = world.New(t, driver(r), func(c *config.Config) {
		c.Domains.Hosted = append(c.Domains.Hosted, config.Hosted{Name: destination, Route: "smtp://" + r.sink.Addr()})
		c.Ledger.TokenHeader = smtptest.TokenHeader
	})
	return r
}

// run is the driver for separate processes.
func (r *relay) run(t testing.TB, w *world.World) {
	t.Helper()
	server := world.StartNATS(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always")
	w.Config.Bus.URL, w.Config.Bus.Credentials, w.Config.Bus.SystemCredentials = server.URL, server.Credentials, server.SystemCredentials
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, []byte(w.Config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range services {
		health := porttest.Address(t)
		cmd := exec.Command(filepath.Join(world.Binaries(t), name), "--config", file)
		cmd.Env = append(os.Environ(), "POSTRIDER_METRICS="+health, "POSTRIDER_LOG=warn")
		r.pids[name] = launch(t, cmd)
		world.WaitFor(t, name+" to be ready", func(ctx context.Context) error { return healthy(ctx, health) })
	}
	w.Bus = connect(t, server.URL, server.Credentials)
}

// up starts one process with the bus in it.
func (r *relay) up(t testing.TB, w *world.World, env []string) {
	t.Helper()
	w.Config.Metrics.Address = porttest.Address(t)
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(file, []byte(w.Config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(world.Binaries(t), "postrider"), "up", "--config", file)
	cmd.Env = append(append(os.Environ(), "POSTRIDER_LOG=warn"), env...)
	r.pids[oneProcess] = launch(t, cmd)
	world.WaitFor(t, "postrider up to be ready", func(ctx context.Context) error { return healthy(ctx, w.Config.Metrics.Address) })
	access, err := natsd.ReadAccess(w.Config.Relay.Data)
	if err != nil {
		t.Fatal(err)
	}
	w.Bus = connect(t, access.URL, access.Credentials)
}

func connect(t testing.TB, url, credentials string) *queue.Bus {
	t.Helper()
	bus, err := queue.Connect(queue.Connection{URL: url, Credentials: credentials, Name: "test", Log: queuetest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// launch starts a process and ends it with the test. It is measured by its id,
// for as long as it has not been waited for.
func launch(t testing.TB, cmd *exec.Cmd) (pid int) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	})
	return cmd.Process.Pid
}

func healthy(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
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
