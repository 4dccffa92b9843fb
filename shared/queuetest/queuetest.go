// Package queuetest gives a test its own bus: a real embedded NATS server with
// JetStream and fsync, in a directory of the test, with the whole topology.
package queuetest

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
)

// Start starts a server and a connection that end with the test.
func Start(t testing.TB) *queue.Bus {
	t.Helper()
	server := Server(t, t.TempDir())
	bus := Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 400*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	return bus
}

// Server starts a server on a directory, so that a test can stop it and start
// another on the same.
func Server(t testing.TB, dir string) *natsd.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	server, err := natsd.Start(ctx, natsd.Options{Dir: dir, Purpose: "test", MaxStore: 1 << 30, Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// Connect connects to a server in this process.
func Connect(t testing.TB, server *natsd.Server) *queue.Bus {
	t.Helper()
	access := server.Access()
	bus, err := queue.Connect(queue.Connection{URL: access.URL, Credentials: access.Credentials, Name: "test", InProcess: server, Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// Log writes to the test's log.
func Log(t testing.TB) zerolog.Logger {
	return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
}
