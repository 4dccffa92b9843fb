//go:build soak

package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// The burst from which the capacity is known. It is long enough that purge,
// index and collector take their part, as they do for as long as the relay runs.
const (
	burst            = 30_000 // messages
	burstConnections = 20
)

// line is what a line of either journal of loadtest says of time: the client
// writes phase and at, the sink kind and time.
type line struct {
	Phase string    `json:"phase"`
	Code  int       `json:"code"`
	At    time.Time `json:"at"`
	Time  time.Time `json:"time"`
}

// capacity is the rate, in messages a second, at which the relay accepts and
// delivers when nobody pauses: from the first that it took to the last that
// the sink took. Nobody looks into the books meanwhile.
func (r *relay) capacity(t *testing.T) float64 {
	t.Helper()
	dir := t.TempDir()
	submitted, arrived := filepath.Join(dir, "client.jsonl"), filepath.Join(dir, "sink.jsonl")
	sink := world.StartProcess(t, "sink", nil, r.Loadtest, "sink", "--listen", r.Sink, "--journal", arrived)
	world.WaitFor(t, "the sink", func(context.Context) error {
		if !strings.Contains(sink.Output(), "sink on ") {
			return errors.New("does not listen")
		}
		return nil
	})
	cmd := exec.CommandContext(t.Context(), r.Loadtest, append([]string{"generate", "--journal", submitted}, r.traffic(burst, burstConnections)...)...)
	cmd.Stderr = os.Stderr
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("loadtest generate: %v\n%s", err, out)
	}
	awaitLines(t, arrived, burst) // each message is delivered, or reported
	sink.Stop(t)
	var first, last time.Time
	accepted := 0
	each(t, submitted, func(l line) {
		if l.Phase != "reply" || l.Code != 250 {
			return
		}
		accepted++
		if first.IsZero() || l.At.Before(first) {
			first = l.At
		}
	})
	each(t, arrived, func(l line) {
		if l.Time.After(last) {
			last = l.Time
		}
	})
	if accepted != burst {
		t.Fatalf("%d of %d messages were accepted", accepted, burst)
	}
	return burst / last.Sub(first).Seconds()
}

// awaitLines waits until a file has so many lines. It reads each once: this
// must take nothing from the relay.
func awaitLines(t *testing.T, path string, want int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	have := 0
	world.WaitFor(t, "all mail to arrive", func(context.Context) error {
		more, err := io.ReadAll(file)
		if have += bytes.Count(more, []byte("\n")); err == nil && have < want {
			err = fmt.Errorf("%d lines of %d", have, want)
		}
		return err
	})
}

// each reads a journal.
func each(t *testing.T, path string, do func(line)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := json.NewDecoder(bufio.NewReader(file)); ; {
		var l line
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Fatalf("read %s: %v", path, err)
		}
		do(l)
	}
}
