//go:build soak

// Package soak runs a relay for a long time at 70 % of what it can do and
// looks whether anything grows: memory, file descriptors, goroutines, and the
// disk that is not the books. What is settled is purged after a minute, so
// that a run of minutes sees what a relay sees in weeks.
package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// connections is how many devices submit side by side; each waits between two
// messages, so that together they make the rate.
const connections = 20

// share of what the relay can do that the soak asks for.
const share = 0.7

// TestSoak takes SOAK_MINUTES minutes (3 unless set), the first third of which
// is for warming up.
func TestSoak(t *testing.T) {
	length := 3 * time.Minute
	if s := os.Getenv("SOAK_MINUTES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("SOAK_MINUTES=%s is not a number of minutes", s)
		}
		length = time.Duration(n) * time.Minute
	}
	r := startRelay(t)
	capacity := r.burst(t, 4000)
	rate := share * capacity
	t.Logf("the relay accepts and delivers %.0f messages/s; soaking at %.0f for %s", capacity, rate, length)

	watched, stop := context.WithCancel(t.Context())
	defer stop()
	samples := make(chan []sample, 1)
	go func() { samples <- r.watch(watched, length/60) }()
	r.load(t, "soak", int(rate*length.Seconds()), time.Duration(connections/rate*float64(time.Second)))
	stop()
	all := <-samples
	t.Log("\n" + table(all))
	for _, g := range grown(all) {
		t.Error(g)
	}
	if out, err := exec.Command(r.postrider, "ledger", "balance", "--config", r.config).CombinedOutput(); err != nil {
		t.Errorf("ledger balance: %v\n%s", err, out)
	}
}

// relay is a running one with its programs.
type relay struct {
	dir, config, postrider, loadtest string
	smtp, sink, metrics              string
}

func startRelay(t *testing.T) *relay {
	bin, dir := world.Binaries(t), t.TempDir()
	r := &relay{
		dir: dir, config: filepath.Join(dir, "soak.yaml"), postrider: filepath.Join(bin, "postrider"), loadtest: filepath.Join(bin, "loadtest"),
		smtp: freeAddress(t), sink: freeAddress(t), metrics: freeAddress(t),
	}
	text := fmt.Sprintf(`
relay: {hostname: relay.test, data: %s}
listeners: [{name: devices, address: %q, mode: relay}]
networks: {campus: [127.0.0.0/8]}
domains:
  hosted:
    - {name: load.test, route: "smtp://%s"}
    - {name: sender.test, route: "smtp://%s"}
limits: {messages_per_session: {relay: 1000000}}
delivery: {retry: [2s, 5s, 10s]}
retention: {settled_content: 1m}
ledger: {token_header: X-Ledger}
metrics: {address: %q}
`, r.data(), r.smtp, r.sink, r.sink, r.metrics)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	world.StartProcess(t, "postrider up", []string{"POSTRIDER_LOG=warn"}, r.postrider, "up", "--config", r.config)
	world.WaitFor(t, "the relay", func(ctx context.Context) error {
		_, err := r.metricsNow(ctx)
		return err
	})
	return r
}

func (r *relay) data() string { return filepath.Join(r.dir, "data") }

// burst is the rate at which messages are accepted and settled without pause.
func (r *relay) burst(t *testing.T, messages int) float64 {
	begun := time.Now()
	r.load(t, "burst", messages, 0)
	return float64(messages) / time.Since(begun).Seconds()
}

// load submits messages and holds the witnesses against each other.
func (r *relay) load(t *testing.T, name string, messages int, think time.Duration) {
	cmd := exec.CommandContext(t.Context(), r.loadtest, "run", "--config", r.config, "--postrider", r.postrider, "--server", r.smtp, "--listen", r.sink,
		"--messages", strconv.Itoa(messages), "--recipients", "1", "--bad", "0.02", "--connections", strconv.Itoa(connections), "--size", "10KiB",
		"--think", think.String(), "--poll", "5s", "--dir", filepath.Join(r.dir, name), "-o", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("loadtest run: %v\n%s", err, out)
	}
	var o struct {
		Check struct {
			Verdict string `json:"verdict"`
		} `json:"check"`
	}
	if err := json.Unmarshal(out, &o); err != nil || o.Check.Verdict != "holds" {
		t.Errorf("the witnesses disagree: %v\n%s", err, out)
	}
}
