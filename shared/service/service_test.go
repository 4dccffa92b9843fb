package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
)

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("trouble"), 1},
		{config.Problems{{Text: "wrong"}}, 2},
		{ErrNoBus, 2},
		{natsd.ErrPurpose, 2},
		{natsd.ErrUnreadable, 2},
		{queue.ErrNotDurable, 2},
		{queue.ErrSyncUnknown, 2},
		{queue.ErrTooOld, 2},
		{queue.ErrSystemAccess, 2},
		{&os.PathError{Op: "open", Path: "bus.json", Err: syscall.EACCES}, 4},
		{natsd.ErrInUse, 5},
		{ErrUnreachable, 6},
		{queue.ErrUnavailable, 6},
		{context.Canceled, 130},
		{&Exit{ExitUnbalanced, errors.New("no")}, 20},
		{&Exit{ExitUsage, ErrUnreachable}, 2}, // the one who knows best decides
	} {
		for _, err := range []error{tt.err, wrapped(tt.err)} {
			if got := ExitCode(err); got != tt.code {
				t.Errorf("%v exits %d, want %d", err, got, tt.code)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("do something: %w", err)
}

// TestGroup: ready when the last is, and the first that fails stops all.
func TestGroup(t *testing.T) {
	fail := make(chan error)
	proceed := make(chan struct{})
	stopped := make(chan string, 2)
	until := func(ctx context.Context, env *Env, name string) error {
		env.Ready()
		env.Ready() // twice is once
		<-ctx.Done()
		stopped <- name
		return ctx.Err()
	}
	g := NewGroup(
		Service{"early", func(ctx context.Context, env *Env) error { return until(ctx, env, "early") }},
		Service{"late", func(ctx context.Context, env *Env) error {
			<-proceed
			return until(ctx, env, "late")
		}},
		Service{"broken", func(_ context.Context, env *Env) error {
			env.Ready()
			return <-fail
		}},
	)
	if err := g.Check(); err == nil || !strings.Contains(err.Error(), "late") {
		t.Errorf("before the start: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(t.Context(), Env{Log: zerolog.Nop()}) }()
	select {
	case <-g.Ready():
		t.Error("ready without one of them")
	default:
	}
	close(proceed)
	<-g.Ready()
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	why := errors.New("disk is gone")
	fail <- why
	if err := <-ended; !errors.Is(err, why) || err.Error() != "broken: disk is gone" {
		t.Errorf("ended with %v", err)
	}
	if len(stopped) != 2 {
		t.Errorf("%d others stopped", len(stopped))
	}
}

func TestGroupStops(t *testing.T) {
	for _, returned := range []error{nil, context.Canceled, errors.New("trouble while stopping")} {
		g := NewGroup(Service{"one", func(ctx context.Context, env *Env) error {
			env.Ready()
			<-ctx.Done()
			return returned
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx, Env{Log: zerolog.Nop()}) }()
		<-g.Ready()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("asked to stop, it ended with %v", err)
		}
	}
}

// A service that returns unasked leaves a relay that looks well and is not.
func TestGroupEndsWithAnyService(t *testing.T) {
	g := NewGroup(
		Service{"tired", func(context.Context, *Env) error { return nil }},
		Service{"other", func(ctx context.Context, _ *Env) error { <-ctx.Done(); return nil }},
	)
	if err := g.Run(t.Context(), Env{Log: zerolog.Nop()}); err == nil || !strings.Contains(err.Error(), "tired") {
		t.Errorf("ended with %v", err)
	}
}

func TestLoadConfig(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "postrider.yaml")
	if err := os.WriteFile(broken, []byte("relay: {hostnam: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{broken, filepath.Join(t.TempDir(), "absent.yaml")} {
		if _, err := LoadConfig(file); ExitCode(err) != ExitUsage {
			t.Errorf("%s: %v exits %d", file, err, ExitCode(err))
		}
	}
}

func TestRunRemoteNeedsABus(t *testing.T) {
	if err := RunRemote(t.Context(), config.Defaults(), (*Group).Run); !errors.Is(err, ErrNoBus) {
		t.Error(err)
	}
}

func TestInstance(t *testing.T) {
	a, b := NewInstance(), NewInstance()
	if a == b || strings.ContainsAny(a, ". *>") {
		t.Errorf("%q and %q", a, b)
	}
}

func TestLast(t *testing.T) {
	for n := range 4 {
		done := 0
		tell := Last(n, func() { done++ })
		for i := range n {
			if done != 0 {
				t.Errorf("done after %d of %d", i, n)
			}
			tell()
		}
		if done != 1 {
			t.Errorf("of %d: done %d times", n, done)
		}
		if tell(); n > 0 && done != 1 {
			t.Errorf("of %d, told once too often: done %d times", n, done)
		}
	}
}
