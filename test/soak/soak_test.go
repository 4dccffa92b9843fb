//go:build soak

// Package soak runs a relay for a long time at 70 % of what it can do and
// looks whether anything grows: memory, file descriptors, goroutines, and the
// disk that is not the books. What is settled is purged after a minute, so
// that a run of minutes sees what a relay sees in weeks.
package soak

import (
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

// connections is how many devices submit side by side. They are many, so that
// the rate is kept also while a transaction takes long.
const connections = 80

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
	r := &relay{world.StartSingle(t, "retention: {settled_content: 1m}\n")}
	capacity := r.capacity(t)
	rate := share * capacity
	t.Logf("the relay accepts and delivers %.0f messages/s; soaking at %.0f for %s", capacity, rate, length)
	all := r.soak(t, rate, length)
	t.Log("\n" + table(all))
	for _, g := range grown(all) {
		t.Error(g)
	}
	if out, err := exec.Command(r.Postrider, "ledger", "balance", "--config", r.File).CombinedOutput(); err != nil {
		t.Errorf("ledger balance: %v\n%s", err, out)
	}
}

// relay is a running one.
type relay struct{ *world.Single }

// soak submits messages at a rate, holds the witnesses against each other, and
// returns what the relay took meanwhile.
func (r *relay) soak(t *testing.T, rate float64, length time.Duration) []sample {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), r.Loadtest, append([]string{"run", "--config", r.File, "--postrider", r.Postrider, "--listen", r.Sink,
		"--rate", fmt.Sprint(rate), "--poll", "5s", "--dir", filepath.Join(t.TempDir(), "soak")}, r.traffic(int(rate*length.Seconds()), connections)...)...)
	cmd.Stderr = os.Stderr
	stop := r.watch(t, length)
	out, err := cmd.Output()
	all := stop()
	if err != nil {
		t.Fatalf("loadtest run: %v\n%s", err, out)
	}
	var o struct {
		Load struct {
			Rate float64 `json:"accepted_per_second"`
		} `json:"load"`
		Check struct {
			Verdict string `json:"verdict"`
		} `json:"check"`
	}
	if err := json.Unmarshal(out, &o); err != nil || o.Check.Verdict != "holds" {
		t.Errorf("the witnesses disagree: %v\n%s", err, out)
	}
	t.Logf("accepted %.0f messages/s", o.Load.Rate)
	return all
}

// traffic are the arguments of loadtest that make messages of one recipient
// each. One in fifty is for nobody, so that a report goes back.
func (r *relay) traffic(messages, connections int) []string {
	return []string{"--server", r.SMTP, "--messages", strconv.Itoa(messages), "--recipients", "1", "--bad", "0.02",
		"--connections", fmt.Sprint(connections), "--size", "10KiB", "-o", "json"}
}
