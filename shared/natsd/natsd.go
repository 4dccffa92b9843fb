// Package natsd runs a NATS server with JetStream inside this process: the
// bus of a relay in one process, and of tests.
//
// It syncs every write, listens on loopback with a made password, and leaves
// <data>/bus.json (mode 0600) for the commands. The data directory is stamped
// with what it is for and never opened as the other. A store that cannot be
// read whole, as under another encryption key, is refused: the server itself
// would pass over what it cannot read, and new streams would take its place.
//
// Failures: JetStream stops a stream for good at the first write that fails,
// be it only that the volume is full. The server is then started again, on the
// same port and with the same password, as soon as the volume has space; what
// was acknowledged is there, and clients that reconnect notice a pause
// (watch.go).
package natsd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// Options of an embedded server.
type Options struct {
	// Dir is relay.data; the store lies in Dir/bus.
	Dir string
	// Purpose is "sandbox" or "production", stamped on Dir.
	Purpose string
	// EncryptionKeyFile turns on encryption at rest.
	EncryptionKeyFile string
	// MaxStore is the most the store may take, in octets; 0 is 80 % of what the
	// volume has free now, counting what the store already holds.
	MaxStore int64
	Log      zerolog.Logger
}

// Server is a running embedded server.
type Server struct {
	log     zerolog.Logger
	options *server.Options // of the next start
	access  Access
	lock    *os.File
	file    string // bus.json
	store   string

	current atomic.Pointer[server.Server] // nil between two
	failed  chan string                   // the first write error that the server told about
	trouble atomic.Pointer[string]        // why it does not serve; nil when it does
	stop    func()                        // ends the watch
	once    sync.Once
}

// Errors of a server that does not serve for now.
var (
	errRestarting = errors.New("the bus is being started again")
	errDisabled   = errors.New("JetStream is off")
)

// Start starts the server and waits until it serves.
func Start(ctx context.Context, o Options) (*Server, error) {
	store := filepath.Join(o.Dir, "bus")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	// Looked at before the lock, so that the wrong kind of relay is told so also
	// while the right one runs; written after it.
	if err := checkStamp(o.Dir, o.Purpose); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Log, lock: lock, file: filepath.Join(o.Dir, accessFile), store: store, failed: make(chan string, 1), stop: func() {}}
	if err := s.start(ctx, o); err != nil {
		s.Stop()
		return nil, err
	}
	s.keepServing()
	return s, nil
}

// start does what Start does once the directory is locked.
func (s *Server) start(ctx context.Context, o Options) (err error) {
	if err := stamp(o.Dir, o.Purpose); err != nil {
		return err
	}
	if s.options, err = options(o, s.store); err != nil {
		return err
	}
	if err := s.serve(ctx); err != nil {
		return err
	}
	ns := s.current.Load()
	s.options.Port = ns.Addr().(*net.TCPAddr).Port // also when it is started again
	s.access = Access{URL: ns.ClientURL(), Credentials: s.options.Username + ":" + s.options.Password, PID: os.Getpid()}
	return writeAccess(s.file, s.access)
}

// serve starts a server on the store and makes it the current one, unless it
// does not read what is stored.
func (s *Server) serve(ctx context.Context) (err error) {
	had, err := stored(s.store)
	if err != nil {
		return err
	}
	ns, err := server.NewServer(s.options.Clone())
	if err != nil {
		return fmt.Errorf("configure bus: %w", err)
	}
	defer func() {
		if err != nil {
			ns.Shutdown()
			ns.WaitForShutdown()
		}
	}()
	log := &logger{log: s.log, fatal: make(chan string, 1), failed: s.failed}
	ns.SetLoggerV2(log, false, false, false)
	go ns.Start()
	for !ns.ReadyForConnections(100 * time.Millisecond) {
		select {
		case why := <-log.fatal:
			return fmt.Errorf("start bus: %s", why)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	if !ns.JetStreamEnabled() {
		return errors.New("start bus: JetStream did not start, see the log")
	}
	if err := readable(ns, had); err != nil {
		return fmt.Errorf("open %s: %w", s.store, err)
	}
	s.current.Store(ns)
	return nil
}

// Access is how to connect to the server.
func (s *Server) Access() Access { return s.access }

// InProcessConn connects to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns := s.current.Load()
	if ns == nil {
		return nil, errRestarting
	}
	return ns.InProcessConn()
}

// Stop stops the server and waits until its store is closed. Once is enough:
// what it would remove later belongs to the next server.
func (s *Server) Stop() {
	s.once.Do(func() {
		s.stop()
		s.shutdown()
		os.Remove(s.file)
		s.lock.Close()
	})
}

// shutdown closes the current server, if there is one.
func (s *Server) shutdown() {
	if ns := s.current.Swap(nil); ns != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
}

func options(o Options, store string) (*server.Options, error) {
	limit := o.MaxStore
	if limit == 0 {
		var err error
		if limit, err = maxStore(store); err != nil {
			return nil, err
		}
	}
	opts := &server.Options{
		ServerName:         "postrider",
		Host:               "127.0.0.1",
		Port:               server.RANDOM_PORT,
		NoSigs:             true,
		JetStream:          true,
		SyncAlways:         true,
		StoreDir:           store,
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  limit,
		MaxPayload:         8 << 20,
		MaxPending:         256 << 20,
		Username:           "postrider",
		Password:           rand.Text(),
		NoSystemAccount:    false,
	}
	if o.EncryptionKeyFile != "" {
		key, err := os.ReadFile(o.EncryptionKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read bus.encryption_key_file: %w", err)
		}
		opts.JetStreamKey = strings.TrimSpace(string(key))
		opts.JetStreamCipher = server.ChaCha
		if opts.JetStreamKey == "" {
			return nil, errors.New("bus.encryption_key_file is empty")
		}
	}
	return opts, nil
}
