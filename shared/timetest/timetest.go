// Package timetest lets a test wait for what comes in its own time.
package timetest

import (
	"testing"
	"time"
)

const (
	// patience is how long Await waits before it calls something hung. It is
	// far beyond what anything takes, so that a slow machine fails no test.
	patience = 60 * time.Second
	pause    = 5 * time.Millisecond
)

// Await asks until something holds, and fails the test when it never does.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: it never came to that", what)
		}
	}
}
