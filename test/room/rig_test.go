//go:build faults

package room

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// volume mounts a tmpfs of that many MB until the test ends.
func volume(t *testing.T, mb int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mb)); err != nil {
		t.Fatalf("mount a volume (root may): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// ballast is a file that takes room on a volume.
type ballast struct {
	t    *testing.T
	file *os.File
}

func newBallast(t *testing.T, volume string) *ballast {
	t.Helper()
	f, err := os.Create(filepath.Join(volume, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	return &ballast{t, f}
}

// add takes so many octets, or what is left, and returns how many it took.
func (b *ballast) add(octets int) (taken int) {
	b.t.Helper()
	for taken < octets {
		n, err := b.file.Write(make([]byte, min(octets-taken, 4096)))
		taken += n
		if errors.Is(err, syscall.ENOSPC) {
			return taken
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return taken
}

// drop gives the room back.
func (b *ballast) drop() {
	b.t.Helper()
	b.file.Close()
	if err := os.Remove(b.file.Name()); err != nil {
		b.t.Fatal(err)
	}
}

// relay is `postrider up` on a volume of its own. The sender's mailbox and
// now.test are served all the time, later.test not before Later.
type relay struct {
	*world.Process
	t       *testing.T
	volume  string
	file    string // its configuration
	smtp    string
	metrics string
	now     *smtptest.MX
	later   string
}

func start(t *testing.T, mb int) *relay {
	t.Helper()
	addresses := porttest.Addresses(t, 3)
	r := &relay{
		t: t, volume: volume(t, mb), file: filepath.Join(t.TempDir(), "postrider.yaml"),
		smtp: addresses[0], metrics: addresses[1], later: addresses[2], now: smtptest.Start(t, smtptest.Options{}),
	}
	config := fmt.Sprintf(`
relay: {hostname: relay.campus.test, data: %q}
listeners: [{name: devices, address: %q, mode: relay, limits: {connections: 100, per_address: 100}}]
devices: [{name: prn.campus.test, owner: chem, addresses: [127.0.0.1]}]
delivery:
  routes:
    - {domain: later.test, to: "smtp://%s"}
    - {domain: "*", to: "smtp://%s"}
  retry: [3s]
metrics: {address: %q}
`, filepath.Join(r.volume, "data"), r.smtp, r.later, r.now.Addr(), r.metrics)
	if err := os.WriteFile(r.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Process = world.StartProcess(t, "postrider", []string{"POSTRIDER_LOG=info"}, filepath.Join(world.Binaries(t), "postrider"), "--config", r.file, "up")
	r.ready("")
	return r
}

// Later starts the mail server of later.test.
func (r *relay) Later() *smtptest.MX {
	return smtptest.Start(r.t, smtptest.Options{Addrs: []string{r.later}})
}

// ready waits until the relay says that it is ready or, with a text, until it
// says that it is not for that.
func (r *relay) ready(why string) {
	r.t.Helper()
	await(r.t, r.metrics, why)
}

// await waits until a process says that it is ready or, with a text, until it
// says that it is not for that.
func await(t *testing.T, address, why string) {
	t.Helper()
	began := time.Now()
	world.WaitFor(t, fmt.Sprintf("readiness %q", why), func(ctx context.Context) error {
		code, said, err := readiness(ctx, address)
		switch {
		case err != nil:
			return err
		case why == "" && code == http.StatusOK, why != "" && code == http.StatusServiceUnavailable && strings.Contains(said, why):
			t.Logf("after %s: %d %s", time.Since(began).Round(10*time.Millisecond), code, strings.TrimSpace(said))
			return nil
		}
		return fmt.Errorf("%d %s", code, said)
	})
}

func readiness(ctx context.Context, address string) (code int, said string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric is the value of a metric without labels.
func metric(ctx context.Context, t *testing.T, address, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no metric is called %s", name)
	return 0
}

// command runs a command of the operator and returns its output and exit code.
func (r *relay) command(args ...string) (string, int) {
	r.t.Helper()
	return command(r.t, r.file, args...)
}

func command(t *testing.T, file string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(world.Binaries(t), "postrider"), append([]string{"--config", file}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if errs.Len() > 0 {
			t.Logf("%v: %s", args, errs.String())
		}
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// export is what the books have, by Message-ID.
func export(t *testing.T, file string) map[string][]books.Row {
	t.Helper()
	text, code := command(t, file, "ledger", "export", "-o", "jsonl")
	if code != 0 {
		t.Fatalf("ledger export exits %d", code)
	}
	out := map[string][]books.Row{}
	for line := range strings.Lines(text) {
		var row books.Row
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		out[row.MessageID] = append(out[row.MessageID], row)
	}
	return out
}

// balances checks the books, as soon as they are there to be asked.
func (r *relay) balances() {
	r.t.Helper()
	world.WaitFor(r.t, "the books to balance", func(context.Context) error {
		if out, code := r.command("ledger", "balance"); code != 0 {
			return fmt.Errorf("ledger balance exits %d:\n%s", code, out)
		}
		return nil
	})
}
