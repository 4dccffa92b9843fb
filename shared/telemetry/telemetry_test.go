package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/timetest"
)

// Off a terminal each line is one JSON object, and the level holds.
func TestLog(t *testing.T) {
	for level, want := range map[string]int{"": 1, "debug": 2, "warn": 0, "no such level": 1} {
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		log := NewLog(file, level)
		log.Debug().Msg("small")
		log.Info().Str("queue_id", "1HZ8Q2M4N6R8TVXZ").Msg("one\nmessage")
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		if lines = lines[:len(lines)-1]; len(lines) != want {
			t.Errorf("level %q: %s", level, text)
		}
		for _, line := range lines {
			var fields map[string]any
			if err := json.Unmarshal(line, &fields); err != nil || fields["time"] == nil || fields["message"] == nil {
				t.Errorf("line %q: %v", line, err)
			}
		}
	}
}

// free is an address nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestServe(t *testing.T) {
	metrics := NewRegistry()
	counted := prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_tested_total", Help: "Tests."})
	metrics.MustRegister(counted)
	counted.Inc()
	var ready atomic.Bool
	address := free(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, address, metrics, func() error {
			if !ready.Load() {
				return errors.New("not ready: signer")
			}
			return nil
		})
	}()
	wait(t, address, ended)
	expect := func(path string, status int, text string) {
		t.Helper()
		code, body := get(t, "http://"+address+path)
		if code != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %q, want %d %q", path, code, body, status, text)
		}
	}
	expect("/healthz", 200, "ok")
	expect("/readyz", 503, "not ready: signer")
	ready.Store(true)
	expect("/readyz", 200, "ready")
	expect("/metrics", 200, "postrider_tested_total 1")
	expect("/metrics", 200, "go_goroutines")
	expect("/debug/pprof/", 404, "")
	if err := Serve(ctx, address, metrics, nil); err == nil {
		t.Error("served on an address that is taken")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// wait returns when the address answers.
func wait(t *testing.T, address string, ended <-chan error) {
	t.Helper()
	timetest.Await(t, "it serves", func() bool {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}
