package natsd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/timetest"
)

// A failed write stops a stream until the server is started again. Clients of
// both kinds find the next one by themselves, at the same address.
func TestStartsAgainAfterAWriteError(t *testing.T) {
	o := quiet(t, t.TempDir(), "")
	o.Log = zerolog.Nop()
	s := start(t, o)
	access := s.Access()
	user, password, _ := strings.Cut(access.Credentials, ":")
	var clients []*nats.Conn
	for _, opts := range [][]nats.Option{nil, {nats.InProcessServer(s)}} {
		nc, err := nats.Connect(access.URL, append(opts, nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		clients = append(clients, nc)
	}
	if n := keep(t, s); n != 1 {
		t.Fatalf("%d messages", n)
	}
	first := s.current.Load()
	first.Errorf("JetStream stream 'KEPT' critical %s: no space left on device", writeError)
	timetest.Await(t, "trouble is told", func() bool { return s.Check() != nil })
	if err := s.Check(); err != nil && !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("says %v", err)
	}
	timetest.Await(t, "another server serves", func() bool { ns := s.current.Load(); return ns != nil && ns != first && s.Check() == nil })
	if written, err := ReadAccess(filepath.Dir(s.file)); err != nil || written != access || s.Access() != access || s.current.Load().ClientURL() != access.URL {
		t.Errorf("now at %+v, bus.json says %+v %v; before %+v", s.Access(), written, err, access)
	}
	for i, nc := range clients {
		timetest.Await(t, "clients are back", nc.IsConnected)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), "kept", nil)
		if err != nil || ack.Sequence != uint64(2+i) {
			t.Errorf("client %d: %+v %v", i, ack, err)
		}
	}
}

// A server whose JetStream went off is started again as well.
func TestStartsAgainWithoutJetStream(t *testing.T) {
	o := quiet(t, t.TempDir(), "")
	o.Log = zerolog.Nop()
	s := start(t, o)
	keep(t, s)
	first := s.current.Load()
	if err := first.ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "another server serves", func() bool { ns := s.current.Load(); return ns != nil && ns != first && s.Check() == nil })
	if n := keep(t, s); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// A server that cannot start is tried again, and never serves a part.
func TestStartsAgainOnlyWithEverything(t *testing.T) {
	o := quiet(t, t.TempDir(), keyFile(t, "right"))
	o.Log = zerolog.Nop()
	s := start(t, o)
	keep(t, s)
	key := s.options.JetStreamKey
	s.options.JetStreamKey = "wrong"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.stop() // the test does what the watch would
	healed := make(chan bool, 1)
	go func() { healed <- s.heal(ctx, "test", time.Millisecond) }()
	timetest.Await(t, "a start fails", func() bool {
		err := s.Check()
		return err != nil && strings.Contains(err.Error(), ErrUnreadable.Error())
	})
	if _, err := s.InProcessConn(); err == nil {
		t.Error("connected to a server that lacks a stream")
	}
	if _, _, err := s.Room(); err == nil {
		t.Error("a server that does not run tells its room")
	}
	cancel()
	if <-healed {
		t.Error("healed")
	}
	s.options.JetStreamKey = key
	if !s.heal(t.Context(), "test", time.Millisecond) || keep(t, s) != 2 {
		t.Error("with the right key it does not serve what was stored")
	}
}

func TestRoom(t *testing.T) {
	o := quiet(t, t.TempDir(), "")
	s := start(t, o)
	keep(t, s)
	used, limit, err := s.Room()
	if err != nil || limit != o.MaxStore || used <= 0 || used > limit/10 {
		t.Errorf("%d of %d octets, %v", used, limit, err)
	}
	o = quiet(t, t.TempDir(), "")
	o.MaxStore = 1 << 60 // more than any volume has
	used, limit, err = start(t, o).Room()
	if err != nil || limit != o.MaxStore || float64(used) < 0.99*float64(limit) {
		t.Errorf("of a full volume %d of %d octets are used, %v", used, limit, err)
	}
}

func TestMaxStore(t *testing.T) {
	dir := t.TempDir()
	before, err := maxStore(dir)
	if err != nil || before <= 0 {
		t.Fatal(before, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "block"), make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := maxStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if moved := before - after; moved > 1<<30 || moved < -1<<30 {
		t.Errorf("what the store takes itself changed its limit from %d to %d", before, after)
	}
	if _, err := maxStore(filepath.Join(dir, "absent")); err == nil {
		t.Error("measured what is not there")
	}
}

func TestSpaceToServe(t *testing.T) {
	for limit, want := range map[int64]int64{0: 4 << 20, 80 << 20: 4 << 20, 1 << 30: (1 << 30) / 20, 1 << 40: 256 << 20} {
		if got := spaceToServe(limit); got != want {
			t.Errorf("for a store of %d: %d", limit, got)
		}
	}
}
