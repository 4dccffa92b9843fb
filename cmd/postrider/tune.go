package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// tune tells the runtime what is known of this process, where its environment
// does not. store: the store is in it. A goroutine that waits for the disk keeps
// its place for as long, five times a message: one and a half places for each
// processor keep them busy (docs/PERFORMANCE.md).
func tune(ctx context.Context, store bool) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryWish)
		go followHeap(ctx)
	}
	if store && os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS() // also the second time in one process
		n := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(n + max(1, n/2))
	}
}

// memoryWish is what the process should do with, in octets. The embedded
// server keeps what it writes in buffers until the collector comes by: twenty
// messages of 50 MB at once took 1.3 GB without a limit, and 0.4 GB with one of
// 400 MiB.
const memoryWish = 512 << 20

// followPause is how often followHeap looks.
const followPause = time.Second

// followHeap keeps the limit above what is in use until ctx ends. A limit below
// it leaves the memory as it is, and gives half of the processors to the
// collector: a relay that took 1,300 messages a second for minutes came to hold
// as much, with buffers of the server and the ids it knows duplicates by.
func followHeap(ctx context.Context) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	for now := int64(memoryWish); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if next := memoryLimit(int64(live[0].Value.Uint64())); next > now || next < now-now/8 {
			debug.SetMemoryLimit(next)
			now = next
		}
	}
}

// memoryLimit is the limit for a heap of which so many octets are in use: the
// wish, or what lets as much again be taken before the collector runs, as it
// would without a limit.
func memoryLimit(live int64) int64 {
	const aside = 64 << 20 // what the runtime takes besides: stacks, spans
	return max(memoryWish, 2*live+aside)
}
