package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// A process with the store in it has more places than processors, as many the
// second time; what the environment says stands.
func TestTune(t *testing.T) {
	limit, places := debug.SetMemoryLimit(-1), runtime.GOMAXPROCS(0)
	defer func() {
		debug.SetMemoryLimit(limit)
		runtime.GOMAXPROCS(places)
	}()
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	n := runtime.GOMAXPROCS(0)
	for range 2 {
		if tune(t.Context(), true); runtime.GOMAXPROCS(0) != n+max(1, n/2) {
			t.Errorf("%d places for %d processors", runtime.GOMAXPROCS(0), n)
		}
	}
	if got := debug.SetMemoryLimit(-1); got != memoryWish {
		t.Errorf("limit of memory %d", got)
	}
	runtime.GOMAXPROCS(n)
	if tune(t.Context(), false); runtime.GOMAXPROCS(0) != n {
		t.Errorf("%d places without a store", runtime.GOMAXPROCS(0))
	}
	t.Setenv("GOMAXPROCS", "7")
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	if tune(t.Context(), true); runtime.GOMAXPROCS(0) != n || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Error("the environment does not stand")
	}
}

// The limit is never so low that the collector cannot keep it: what is in use
// stands, and as much again is free to be taken.
func TestMemoryLimit(t *testing.T) {
	for _, live := range []int64{0, 100 << 20, memoryWish - 1, memoryWish, 2 << 30} {
		limit := memoryLimit(live)
		if limit < memoryWish || live > memoryWish/2 && limit-live < live {
			t.Errorf("%d MiB in use under a limit of %d MiB", live>>20, limit>>20)
		}
	}
	if memoryLimit(100<<20) != memoryWish {
		t.Error("more than was wished, without need")
	}
}

// What the process holds moves its limit, up and down again.
func TestFollowHeap(t *testing.T) {
	before := debug.SetMemoryLimit(memoryWish)
	defer debug.SetMemoryLimit(before)
	held := make([]byte, memoryWish) // never written: it takes no memory
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go followHeap(ctx)
		for _, tt := range []struct {
			held bool
			want bool
		}{{true, true}, {false, false}} {
			runtime.GC()
			time.Sleep(2 * followPause)
			if got := debug.SetMemoryLimit(-1); got > memoryWish != tt.want {
				t.Errorf("the limit is %d MiB while %d MiB are held: %t", got>>20, memoryWish>>20, tt.held)
			}
			if tt.held {
				runtime.KeepAlive(held)
				held = nil
			}
		}
	})
}
