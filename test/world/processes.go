package world

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Processes runs a nats-server and every service as a process of its own.
func Processes(t testing.TB, w *World) {
	t.Helper()
	server := StartNATS(t, filepath.Join(t.TempDir(), "bus"), "sync_interval: always")
	r := Launch(t, w.Config, server, 1)
	r.Ready(t)
	w.Bus = r.Connect(t)
}

// WaitFor tries until it succeeds, or fails the test.
func WaitFor(t testing.TB, what string, try func(context.Context) error) {
	t.Helper()
	if err := Await(try); err != nil {
		t.Fatalf("waited in vain for %s: %v", what, err)
	}
}

// Await tries until it succeeds, and returns the last error when it does not
// in time.
func Await(try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	reason, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	return &NotReadyError{resp.Status, strings.TrimSpace(string(reason))}
}
