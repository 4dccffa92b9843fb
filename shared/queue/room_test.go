package queue_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
)

func TestRoomTakes(t *testing.T) {
	for _, tt := range []struct {
		room queue.Room
		size int64
		want bool
	}{
		{queue.Room{}, 1 << 40, true}, // nobody could say
		{queue.Room{Used: 84, Limit: 100}, 0, true},
		{queue.Room{Used: 84, Limit: 100}, 1, false},
		{queue.Room{Used: 85, Limit: 100}, 0, false},
		{queue.Room{Used: 120, Limit: 100}, 0, false},
		{queue.Room{Used: 10, Limit: 100}, 74, true},
		{queue.Room{Used: 10, Limit: 100}, 75, false},
	} {
		if got := tt.room.Takes(tt.size); got != tt.want {
			t.Errorf("%+v takes %d: %v", tt.room, tt.size, got)
		}
	}
}

func TestRoomOfEmbedded(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	if got := bus.LastRoom(); got != (queue.Room{}) {
		t.Errorf("before it was measured: %+v", got)
	}
	room, err := bus.Room(t.Context())
	if err != nil || room.Limit != 1<<30 || room.Used >= room.Limit/2 {
		t.Errorf("%+v %v", room, err)
	}
	if got := bus.LastRoom(); got != room {
		t.Errorf("last %+v, not %+v", got, room)
	}
}

// configured is a server of its own with an account RELAY, which has the given
// limits, and a system account.
func configured(t *testing.T, limits string) (url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := `
listen: 127.0.0.1:-1
jetstream { store_dir: "` + t.TempDir() + `", max_file_store: 100MB, sync_interval: always }
accounts {
  RELAY { jetstream: ` + limits + `, users: [{user: relay, password: secret}] }
  SYS { users: [{user: watch, password: secret, permissions: {publish: ["$SYS.REQ.SERVER.PING.JSZ"], subscribe: ["_INBOX.>"]}}] }
}
system_account: SYS
`
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs = true
	return running(t, opts).ClientURL()
}

// running runs a server until the test ends.
func running(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("no server")
	}
	return ns
}

// The account's limit, the server's, and what is measured of either.
func TestRoomOfServer(t *testing.T) {
	for _, tt := range []struct {
		name, limits, system string
		want                 int64
	}{
		{"account", "{max_file: 40MB, max_memory: 1MB}", "", 40 << 20},
		{"account, nearer than the server", "{max_file: 40MB, max_memory: 1MB}", "watch:secret", 40 << 20},
		{"server", "enabled", "watch:secret", 100 << 20},
		{"nobody says", "enabled", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bus, err := queue.Connect(queue.Connection{URL: configured(t, tt.limits), Credentials: "relay:secret", System: tt.system, Name: "test", Log: queuetest.Log(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close()
			for _, data := range []int{0, 1 << 20} {
				if _, err := bus.JS.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
					t.Fatal(err)
				}
				if _, err := bus.JS.Publish(t.Context(), "s", make([]byte, data/2)); err != nil {
					t.Fatal(err)
				}
				room, err := bus.Room(t.Context())
				if err != nil || room.Limit != tt.want || tt.want > 0 && room.Used < int64(data/2) {
					t.Errorf("after %d octets: %+v %v", data/2, room, err)
				}
			}
		})
	}
}

func TestRoomWithoutServer(t *testing.T) {
	t.Parallel()
	server := queuetest.Server(t, t.TempDir())
	bus := queuetest.Connect(t, server)
	server.Stop()
	if _, err := bus.Room(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "measure the store: ") {
		t.Errorf("%v", err)
	}
}

// The topology fits into a small store, and stays there when the store is
// opened again with less.
func TestEnsureInSmallStore(t *testing.T) {
	dir := t.TempDir()
	for _, limit := range []int64{20 << 20, 4 << 20} {
		server, err := natsd.Start(t.Context(), natsd.Options{Dir: dir, Purpose: "test", MaxStore: limit, Log: queuetest.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		bus := queuetest.Connect(t, server)
		for range 2 {
			if err := queue.Ensure(t.Context(), bus.JS, 1, 24*time.Hour); err != nil {
				t.Errorf("in a store of %d octets: %v", limit, err)
			}
		}
		if _, err := bus.JS.Publish(t.Context(), queue.RefusedSubject("mail"), []byte("x")); err != nil {
			t.Errorf("in a store of %d octets: %v", limit, err)
		}
		bus.Close()
		server.Stop()
	}
}
