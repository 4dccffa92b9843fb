package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
)

// BenchmarkLoad reads a registry of 100,000 devices, and says what its snapshot
// holds in memory.
func BenchmarkLoad(b *testing.B) {
	const devices = 100_000
	bus := queuetest.Start(b)
	fill(b, bus, devices)
	s, err := Open(b.Context(), bus, registry.Entries{})
	if err != nil {
		b.Fatal(err)
	}
	before := heap()
	var snapshot *registry.Snapshot
	for b.Loop() {
		if snapshot, err = s.Load(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if n := len(snapshot.Entries().Devices); n != devices {
		b.Fatalf("%d devices", n)
	}
	b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill writes devices with all that a request form asks for.
func fill(b *testing.B, bus *queue.Bus, devices int) {
	b.Helper()
	for i := range devices {
		d := &registry.Device{
			Name: fmt.Sprintf("prn-%d.building-%d.campus.test", i, i%200), Owner: fmt.Sprintf("unit-%d", i%300),
			Contacts:  []string{fmt.Sprintf("it-%d@campus.test", i%300), "helpdesk@campus.test"},
			Addresses: []registry.Address{{Range: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}},
			Senders:   []string{fmt.Sprintf("prn-%d@campus.test", i)}, Scope: registry.ScopeAnywhere, State: registry.StateActive,
			Application: &registry.Application{By: "anna@campus.test", Unit: fmt.Sprintf("unit-%d", i%300), Purpose: "scan to mail", WhyNoAuth: "cannot"},
		}
		d.By, d.Reason = "import", "estate"
		value, err := json.Marshal(d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := bus.JS.PublishAsync("$KV."+queue.BucketRegistry+"."+d.Key(), value, jetstream.WithStallWait(1e10)); err != nil {
			b.Fatal(err)
		}
	}
	<-bus.JS.PublishAsyncComplete()
}
