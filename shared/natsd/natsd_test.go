package natsd

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// marker is what the tests store and look for.
const marker = "the body of a scan, in clear"

func quiet(t *testing.T, dir, keyFile string) Options {
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	return Options{Dir: dir, Purpose: "test", EncryptionKeyFile: keyFile, MaxStore: 64 << 20, Log: log}
}

// start starts a server that stops with the test at the latest.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, s *Server) jetstream.JetStream {
	t.Helper()
	user, password, _ := strings.Cut(s.Access().Credentials, ":")
	nc, err := nats.Connect(s.Access().URL, nats.UserInfo(user, password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// keep stores the marker once more and returns how many there are.
func keep(t *testing.T, s *Server) uint64 {
	t.Helper()
	js := connect(t, s)
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "kept", []byte(marker))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

func TestAccess(t *testing.T) {
	dir := t.TempDir()
	s := start(t, quiet(t, dir, ""))
	info, err := os.Stat(filepath.Join(dir, "bus.json"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("bus.json has mode %v", info.Mode())
	}
	access, err := ReadAccess(dir)
	if err != nil || access != s.Access() || access.PID != os.Getpid() {
		t.Errorf("bus.json says %+v, %v; the server %+v", access, err, s.Access())
	}
	if nc, err := nats.Connect(access.URL); err == nil {
		nc.Close()
		t.Error("connected without a password")
	}
	u, err := url.Parse(access.URL)
	if err != nil {
		t.Fatal(err)
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		t.Errorf("listens on %s", access.URL)
	}
	s.Stop()
	if _, err := ReadAccess(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bus.json outlives its server: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "bus.json*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

// A second Stop must not take the files of the server that came after.
func TestStopTwice(t *testing.T) {
	dir := t.TempDir()
	first := start(t, quiet(t, dir, ""))
	first.Stop()
	second := start(t, quiet(t, dir, ""))
	first.Stop()
	if access, err := ReadAccess(dir); err != nil || access != second.Access() {
		t.Errorf("bus.json of the second server: %+v %v", access, err)
	}
}

func TestDurable(t *testing.T) {
	s := start(t, quiet(t, t.TempDir(), ""))
	state, err := s.current.Load().Jsz(&server.JSzOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !state.Config.SyncAlways || state.Config.MaxStore != 64<<20 {
		t.Errorf("sync always %v, store of at most %d octets", state.Config.SyncAlways, state.Config.MaxStore)
	}
}

func TestMaxStoreFollowsTheVolume(t *testing.T) {
	o := quiet(t, t.TempDir(), "")
	o.MaxStore = 0
	s := start(t, o)
	state, err := s.current.Load().Jsz(&server.JSzOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if state.Config.MaxStore <= 0 {
		t.Errorf("store of at most %d octets", state.Config.MaxStore)
	}
}

func TestPurpose(t *testing.T) {
	dir := t.TempDir()
	o := quiet(t, dir, "")
	o.Purpose = "sandbox"
	s := start(t, o)
	o.Purpose = "production"
	if _, err := Start(t.Context(), o); !errors.Is(err, ErrPurpose) {
		t.Errorf("production on the directory of a running sandbox: %v", err)
	}
	s.Stop()
	if _, err := Start(t.Context(), o); !errors.Is(err, ErrPurpose) || !strings.Contains(err.Error(), "sandbox") {
		t.Errorf("production on the directory of a sandbox: %v", err)
	}
	o.Purpose = "sandbox"
	start(t, o) // the refused start left nothing locked
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := start(t, quiet(t, dir, ""))
	if _, err := Start(t.Context(), quiet(t, dir, "")); !errors.Is(err, ErrInUse) {
		t.Errorf("second server on one directory: %v", err)
	}
	if access, err := ReadAccess(dir); err != nil || access != s.Access() {
		t.Errorf("the second changed bus.json: %+v %v", access, err)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for n := uint64(1); n <= 3; n++ {
		s := start(t, quiet(t, dir, ""))
		if got := keep(t, s); got != n {
			t.Fatalf("start %d has %d messages", n, got)
		}
		s.Stop()
	}
}

func keyFile(t *testing.T, key string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEncryption(t *testing.T) {
	for _, tt := range []struct {
		name, key string
		readable  bool
	}{{"with a key", keyFile(t, "correct horse\n"), false}, {"without", "", true}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, quiet(t, dir, tt.key))
			keep(t, s)
			s.Stop()
			if got := holds(t, dir, marker); got != tt.readable {
				t.Errorf("content in clear in the store: %v", got)
			}
		})
	}
}

// holds looks for text in every file of a directory.
func holds(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files: %v", files, err)
	}
	return found
}

// The server passes over a stream that it cannot decrypt, and its place would
// be taken by a new one: accepted mail would be lost by a changed setting.
func TestOtherKeyIsRefused(t *testing.T) {
	dir, right := t.TempDir(), keyFile(t, "right")
	s := start(t, quiet(t, dir, right))
	keep(t, s)
	s.Stop()
	for _, other := range []string{"", keyFile(t, "wrong")} {
		if _, err := Start(t.Context(), quiet(t, dir, other)); !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "KEPT") {
			t.Errorf("key file %q: %v", other, err)
		}
		if _, err := ReadAccess(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("bus.json of a server that did not start: %v", err)
		}
	}
	if got := keep(t, start(t, quiet(t, dir, right))); got != 2 {
		t.Errorf("%d messages with the right key", got)
	}
}

// A store in clear stays readable when encryption is turned on.
func TestEncryptionTurnedOn(t *testing.T) {
	dir := t.TempDir()
	s := start(t, quiet(t, dir, ""))
	keep(t, s)
	s.Stop()
	if got := keep(t, start(t, quiet(t, dir, keyFile(t, "key")))); got != 2 {
		t.Errorf("%d messages", got)
	}
}

func TestBadKeyFile(t *testing.T) {
	for _, file := range []string{filepath.Join(t.TempDir(), "absent"), keyFile(t, " \n")} {
		dir := t.TempDir()
		if _, err := Start(t.Context(), quiet(t, dir, file)); err == nil || !strings.Contains(err.Error(), "bus.encryption_key_file") {
			t.Errorf("%s: %v", file, err)
		}
		start(t, quiet(t, dir, "")) // and nothing is locked
	}
}

// The server only logs that it cannot go on; Start must not wait for it.
func TestServerThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bus"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bus", "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := quiet(t, dir, "")
	o.Log = zerolog.Nop()
	_, err := Start(ctx, o)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("start on a broken store: %v", err)
	}
}

func TestStartStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	s, err := Start(ctx, quiet(t, dir, ""))
	if err == nil {
		s.Stop() // it was ready at once
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	start(t, quiet(t, dir, ""))
}

func TestBrokenAccess(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bus.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAccess(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half of a bus.json: %v", err)
	}
}
