// Package store keeps the registry in a key-value bucket of the bus: typed
// entries, changed by compare-and-set, and followed live as snapshots.
//
// Keys: device.<name with "." as "=">, credential.<name in base32>. Values are
// JSON. Devices of the configuration file are merged into every snapshot; a
// file entry wins over a command entry of the same name.
package store

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
)

// Errors of changes.
var (
	ErrNotFound  = errors.New("not in the registry")
	ErrConflict  = errors.New("changed by someone else meanwhile")
	ErrFromFile  = errors.New("comes from the configuration file: change it there")
	ErrDuplicate = errors.New("is in the registry already")
)

const (
	devicePrefix     = "device."
	credentialPrefix = "credential."
)

// Store is the registry of one relay.
type Store struct {
	bus      *queue.Bus
	kv       jetstream.KeyValue
	file     []*registry.Device
	snapshot atomic.Pointer[registry.Snapshot]
	current  atomic.Bool
}

// Open opens the registry. file are the devices of the configuration.
func Open(ctx context.Context, bus *queue.Bus, file []*registry.Device) (*Store, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketRegistry)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return &Store{bus: bus, kv: kv, file: file}, nil
}

// Snapshot is the registry as last followed; Follow or Load must have run.
func (s *Store) Snapshot() *registry.Snapshot { return s.snapshot.Load() }

// Current reports that Snapshot has everything that the registry had at the
// last connect, and follows it. While it has not, who may send is not known.
func (s *Store) Current() bool { return s.current.Load() }

// Load reads the registry once.
func (s *Store) Load(ctx context.Context) (*registry.Snapshot, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
		return s.Snapshot(), nil
	case err := <-done:
		if err == nil {
			err = ctx.Err()
		}
		return nil, err
	}
}

// Follow keeps Snapshot current until ctx ends. ready is called once, when
// everything that was in the registry is in the snapshot. After a reconnect,
// and whenever the watch breaks, it reads the registry anew; the old snapshot
// stands meanwhile, and is not Current.
func (s *Store) Follow(ctx context.Context, ready func()) error {
	status := s.bus.NC.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer s.bus.NC.RemoveStatusListener(status)
	ready = sync.OnceFunc(ready)
	for {
		err := s.watch(ctx, status, ready)
		s.current.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		if s.Snapshot() == nil {
			return err // it cannot be read at all
		}
		if err != nil {
			s.bus.Log.Warn().Err(err).Msg("registry is read anew")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// watchPause keeps a watch that breaks at once from being renewed at once.
const watchPause = 200 * time.Millisecond

// watch follows the registry until ctx ends, the connection changes, or the
// watch breaks.
func (s *Store) watch(ctx context.Context, status <-chan nats.Status, ready func()) error {
	watch, err := s.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("follow registry: %w", err)
	}
	defer watch.Stop()
	devices := map[string]*registry.Device{}
	credentials := map[string]*registry.Credential{}
	revision := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-status:
			return nil
		case e, ok := <-watch.Updates():
			if !ok {
				return errors.New("follow registry: watch ended")
			}
			if e == nil { // everything that was there has come
				s.publish(revision, devices, credentials)
				s.current.Store(true)
				ready()
				continue
			}
			revision = e.Revision()
			apply(e, devices, credentials)
			if s.current.Load() {
				s.publish(revision, devices, credentials)
			}
		}
	}
}

// apply takes one entry over. An entry that cannot be read counts as absent:
// it admits nobody.
func apply(e jetstream.KeyValueEntry, devices map[string]*registry.Device, credentials map[string]*registry.Credential) {
	gone := e.Operation() != jetstream.KeyValuePut
	switch key := e.Key(); {
	case strings.HasPrefix(key, devicePrefix):
		var d registry.Device
		if gone || json.Unmarshal(e.Value(), &d) != nil {
			delete(devices, key)
			return
		}
		d.Revision, d.Origin = e.Revision(), registry.OriginCommand
		devices[key] = &d
	case strings.HasPrefix(key, credentialPrefix):
		var c registry.Credential
		if gone || json.Unmarshal(e.Value(), &c) != nil {
			delete(credentials, key)
			return
		}
		credentials[key] = &c
	}
}

func (s *Store) publish(revision uint64, devices map[string]*registry.Device, credentials map[string]*registry.Credential) {
	list := append([]*registry.Device(nil), s.file...)
	named := make(map[string]bool, len(s.file))
	for _, d := range s.file {
		named[d.Name] = true
	}
	for _, d := range devices {
		if !named[d.Name] {
			list = append(list, d)
		}
	}
	creds := make([]*registry.Credential, 0, len(credentials))
	for _, c := range credentials {
		creds = append(creds, c)
	}
	s.snapshot.Store(registry.NewSnapshot(revision, list, creds))
}

// PutDevice creates a device (Revision 0) or changes the revision it was read at.
func (s *Store) PutDevice(ctx context.Context, d *registry.Device) error {
	for _, f := range s.file {
		if f.Name == d.Name {
			return fmt.Errorf("device %s %w", d.Name, ErrFromFile)
		}
	}
	key := deviceKey(d.Name)
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write device %s: %w", d.Name, err)
	}
	if d.Revision == 0 {
		_, err = s.kv.Create(ctx, key, value)
		if queue.Overtaken(err) {
			return fmt.Errorf("device %s %w", d.Name, ErrDuplicate)
		}
	} else {
		_, err = s.kv.Update(ctx, key, value, d.Revision)
		if queue.Overtaken(err) {
			return fmt.Errorf("device %s: %w", d.Name, ErrConflict)
		}
	}
	if err != nil {
		return fmt.Errorf("write device %s: %w", d.Name, err)
	}
	return nil
}

// PutCredential creates a credential. One of that name is never replaced: its
// secret may be in use.
func (s *Store) PutCredential(ctx context.Context, c *registry.Credential) error {
	value, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write credential %s: %w", c.Name, err)
	}
	_, err = s.kv.Create(ctx, credentialKey(c.Name), value)
	if queue.Overtaken(err) {
		return fmt.Errorf("credential %s %w", c.Name, ErrDuplicate)
	}
	if err != nil {
		return fmt.Errorf("write credential %s: %w", c.Name, err)
	}
	return nil
}

// DeleteCredential removes a credential.
func (s *Store) DeleteCredential(ctx context.Context, name string) error {
	if _, err := s.kv.Get(ctx, credentialKey(name)); errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("credential %s %w", name, ErrNotFound)
	}
	if err := s.kv.Delete(ctx, credentialKey(name)); err != nil {
		return fmt.Errorf("remove credential %s: %w", name, err)
	}
	return nil
}

// deviceKey writes a name as one token of the letters that a key may have.
func deviceKey(name string) string { return devicePrefix + strings.ReplaceAll(name, ".", "=") }

// credentialKey keeps names with "/", "@" and anything else in one token.
func credentialKey(name string) string {
	return credentialPrefix + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(name))
}
