package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"2.9.10": true, "2.14.9": true, "2.15.1": true, "2.15.2": false, "2.15.3": false, "2.16.0": false,
		"3.0.0": false, "1.4.1": true, "2.16.0-preview.1": false, "2.15.2-beta": false, "devel": false, "": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("tooOld(%q) = %v", version, got)
		}
	}
}

// A server that nobody may ask is measured. The one that does not sync is
// never taken for durable; that the other is recognised depends on its store.
func TestProbeRefusesLazyServer(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("no server")
	}
	bus, err := Connect(Connection{URL: ns.ClientURL(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	if err := bus.probe(t.Context()); !errors.Is(err, ErrSyncUnknown) {
		t.Errorf("got %v, want ErrSyncUnknown", err)
	}
	for info := range bus.JS.ListStreams(t.Context()).Info() {
		t.Errorf("stream %s is left over", info.Config.Name)
	}
}

func TestSlower(t *testing.T) {
	series := func(d time.Duration) []time.Duration {
		out := make([]time.Duration, 60)
		for i := range out {
			out[i] = d + time.Duration(i)*time.Microsecond
		}
		return out
	}
	if !slower(series(400*time.Microsecond), series(100*time.Microsecond)) || slower(series(115*time.Microsecond), series(100*time.Microsecond)) {
		t.Error("wrong answer")
	}
}
