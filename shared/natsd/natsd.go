// Package natsd runs a NATS server with JetStream inside this process: the
// bus of a relay in one process, and of tests.
//
// It syncs every write, listens on loopback with a made password, and leaves
// <data>/bus.json (mode 0600) for the commands. The data directory is stamped
// with what it is for and never opened as the other. A store that cannot be
// read whole, as under another encryption key, is refused: the server itself
// would pass over what it cannot read, and new streams would take its place.
package natsd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/durable"
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
	*server.Server
	access Access
	lock   *os.File
	file   string
	stop   sync.Once
}

// Access is how the commands reach the bus: the content of bus.json.
type Access struct {
	URL         string `json:"url"`
	Credentials string `json:"credentials"` // user:password
	PID         int    `json:"pid"`
}

// ErrPurpose reports a data directory that belongs to the other kind of relay.
var ErrPurpose = errors.New("data directory has another purpose")

// ErrInUse reports a data directory that a running relay has open.
var ErrInUse = errors.New("data directory is in use by another postrider")

// ErrUnreadable reports a store of which the server read a part only.
var ErrUnreadable = errors.New("what is stored there cannot be read")

// accessFile is the name of bus.json below the data directory.
const accessFile = "bus.json"

// Start starts the server and waits until it serves.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "bus"), 0o700); err != nil {
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
	s := &Server{lock: lock, file: filepath.Join(o.Dir, accessFile)}
	if err := s.start(ctx, o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// start does what Start does once the directory is locked.
func (s *Server) start(ctx context.Context, o Options) error {
	if err := stamp(o.Dir, o.Purpose); err != nil {
		return err
	}
	opts, access, err := options(o)
	if err != nil {
		return err
	}
	had, err := stored(opts.StoreDir)
	if err != nil {
		return err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure bus: %w", err)
	}
	s.Server = ns
	log := &logger{log: o.Log, fatal: make(chan string, 1)}
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
		return fmt.Errorf("open %s: %w", opts.StoreDir, err)
	}
	access.URL, access.PID = ns.ClientURL(), os.Getpid()
	s.access = access
	return writeAccess(s.file, access)
}

// Access is how to connect to the server.
func (s *Server) Access() Access { return s.access }

// Stop stops the server and waits until its store is closed. Once is enough:
// what it would remove later belongs to the next server.
func (s *Server) Stop() {
	s.stop.Do(func() {
		if s.Server != nil {
			s.Shutdown()
			s.WaitForShutdown()
		}
		os.Remove(s.file)
		s.lock.Close()
	})
}

func options(o Options) (*server.Options, Access, error) {
	maxStore := o.MaxStore
	if maxStore == 0 {
		var err error
		if maxStore, err = room(filepath.Join(o.Dir, "bus")); err != nil {
			return nil, Access{}, err
		}
	}
	password := rand.Text()
	opts := &server.Options{
		ServerName:         "postrider",
		Host:               "127.0.0.1",
		Port:               server.RANDOM_PORT,
		NoSigs:             true,
		JetStream:          true,
		SyncAlways:         true,
		StoreDir:           filepath.Join(o.Dir, "bus"),
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  maxStore,
		MaxPayload:         8 << 20,
		MaxPending:         256 << 20,
		Username:           "postrider",
		Password:           password,
		NoSystemAccount:    false,
	}
	if o.EncryptionKeyFile != "" {
		key, err := os.ReadFile(o.EncryptionKeyFile)
		if err != nil {
			return nil, Access{}, fmt.Errorf("read bus.encryption_key_file: %w", err)
		}
		opts.JetStreamKey = strings.TrimSpace(string(key))
		opts.JetStreamCipher = server.ChaCha
		if opts.JetStreamKey == "" {
			return nil, Access{}, errors.New("bus.encryption_key_file is empty")
		}
	}
	return opts, Access{Credentials: "postrider:" + password}, nil
}

// room is 80 % of what the volume could give to the store.
func room(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("measure data directory: %w", err)
	}
	used := int64(0)
	filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			used += info.Size()
		}
		return nil
	})
	return (int64(fs.Bavail)*fs.Bsize + used) / 10 * 8, nil
}

// stampFile is the name of the mark below the data directory.
const stampFile = "PURPOSE"

// stamp marks dir with its purpose, or checks the mark it has.
func stamp(dir, purpose string) error {
	err := checkStamp(dir, purpose)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.File(filepath.Join(dir, stampFile), []byte(purpose+"\n")); err != nil {
		return fmt.Errorf("stamp data directory: %w", err)
	}
	return nil
}

// checkStamp compares the mark of dir; os.ErrNotExist says that it has none.
func checkStamp(dir, purpose string) error {
	have, err := os.ReadFile(filepath.Join(dir, stampFile))
	if err != nil {
		return fmt.Errorf("read stamp of the data directory: %w", err)
	}
	if got := strings.TrimSpace(string(have)); got != purpose {
		return fmt.Errorf("%w: %s was made for %s and is not opened for %s", ErrPurpose, dir, got, purpose)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	return f, nil
}

// writeAccess writes bus.json.
func writeAccess(file string, a Access) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err == nil {
		err = durable.File(file, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", accessFile, err)
	}
	return nil
}

// ReadAccess is how to reach the embedded bus of the relay that has dir open.
func ReadAccess(dir string) (Access, error) {
	var a Access
	b, err := os.ReadFile(filepath.Join(dir, accessFile))
	if err != nil {
		return a, fmt.Errorf("find the relay's bus: %w", err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("read %s: %w", accessFile, err)
	}
	return a, nil
}

// logger passes the server's words on.
type logger struct {
	log zerolog.Logger
	// fatal has the first word of a server that cannot go on: it only says so.
	fatal chan string
}

func (l *logger) Noticef(f string, v ...any) { l.log.Debug().Msgf("bus: "+f, v...) }
func (l *logger) Warnf(f string, v ...any) {
	if strings.HasPrefix(f, "Plaintext passwords") {
		return // made for this run, known to bus.json (0600) only
	}
	l.log.Warn().Msgf("bus: "+f, v...)
}
func (l *logger) Fatalf(f string, v ...any) {
	l.log.Error().Msgf("bus: "+f, v...)
	select {
	case l.fatal <- fmt.Sprintf(f, v...):
	default:
	}
}
func (l *logger) Errorf(f string, v ...any) { l.log.Error().Msgf("bus: "+f, v...) }
func (l *logger) Debugf(f string, v ...any) { l.log.Trace().Msgf("bus: "+f, v...) }
func (l *logger) Tracef(f string, v ...any) { l.log.Trace().Msgf("bus: "+f, v...) }
