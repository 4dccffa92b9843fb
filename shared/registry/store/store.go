// Package store keeps the registry in a key-value bucket of the bus: typed
// entries, changed by compare-and-set, and followed live as snapshots.
//
// Consumes and produces the bucket "registry"; keys and values are those of
// package registry. Entries of the configuration file are in every snapshot, and
// win over entries of commands with the same key.
//
// Guarantees: a change names its actor, and is refused when somebody else
// changed the entry since it was read (ErrConflict). Nothing is deleted: Remove
// stores who removed an entry and why, so that the history of the bucket, which
// the stream REGISTRY_LOG keeps for 400 days, is the audit. A change is in the
// snapshot of whoever follows within a few hundred milliseconds (publishPause).
//
// Failures: an entry that cannot be read counts as absent: it admits nobody.
// While the bus is away the last snapshot stands, and is not Current.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	ErrNoActor   = errors.New("a change needs an actor")
)

// Store is the registry of one relay.
type Store struct {
	bus      *queue.Bus
	kv       jetstream.KeyValue
	file     map[string]registry.Item
	permit   func(registry.Item) error // nil: anything
	snapshot atomic.Pointer[registry.Snapshot]
	current  atomic.Bool
}

// Open opens the registry. file are the entries of the configuration.
func Open(ctx context.Context, bus *queue.Bus, file registry.Entries) (*Store, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketRegistry)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	s := &Store{bus: bus, kv: kv, file: map[string]registry.Item{}}
	for item := range file.All() {
		item.Audit().Origin = registry.OriginFile
		s.file[item.Key()] = item
	}
	return s, nil
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

// publishPause bounds how long a change waits for others, so that an import of
// thousands does not make a snapshot for each: four times as long as the last
// snapshot took to make, and not longer than this.
const publishPause = 200 * time.Millisecond

// watch follows the registry until ctx ends, the connection changes, or the
// watch breaks.
func (s *Store) watch(ctx context.Context, status <-chan nats.Status, ready func()) error {
	watch, err := s.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("follow registry: %w", err)
	}
	defer watch.Stop()
	v := &view{file: s.file, items: map[string]registry.Item{}, changed: map[string]bool{}}
	var due <-chan time.Time // when to make the next snapshot; nil while none is wanted
	next := time.Time{}
	publish := func() {
		began := time.Now()
		s.snapshot.Store(v.snapshot())
		now := time.Now()
		due, next = nil, now.Add(min(4*now.Sub(began), publishPause))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-status:
			return nil
		case <-due:
			publish()
		case e, ok := <-watch.Updates():
			if !ok {
				return errors.New("follow registry: watch ended")
			}
			if e == nil { // everything that was there has come
				publish()
				s.current.Store(true)
				ready()
				continue
			}
			if err := v.apply(e); err != nil {
				s.bus.Log.Warn().Err(err).Msg("an entry of the registry counts as absent")
			}
			if due == nil && s.current.Load() {
				due = time.After(time.Until(next))
			}
		}
	}
}

// view is what was read of the bucket, and the snapshot of it.
type view struct {
	file     map[string]registry.Item
	items    map[string]registry.Item
	revision uint64
	last     *registry.Snapshot
	// held are the entries that are in last, and changed those of them that are
	// not as they are there.
	held    map[string]registry.Item
	changed map[string]bool
}

// apply takes one entry over. One that cannot be read counts as absent.
func (v *view) apply(e jetstream.KeyValueEntry) error {
	v.revision = e.Revision()
	if _, named := v.file[e.Key()]; named {
		return nil
	}
	delete(v.items, e.Key())
	v.changed[e.Key()] = true
	if e.Operation() != jetstream.KeyValuePut {
		return nil
	}
	item, err := registry.Decode(e.Key(), e.Value(), e.Revision())
	if err != nil {
		return err
	}
	if !item.Audit().Removed {
		v.items[e.Key()] = item
	}
	return nil
}

// snapshot is the last one with what changed since.
func (v *view) snapshot() *registry.Snapshot {
	if v.last == nil {
		var entries registry.Entries
		for _, item := range v.file {
			entries.Add(item)
		}
		for _, item := range v.items {
			entries.Add(item)
		}
		v.last, v.held = registry.NewSnapshot(v.revision, entries), maps.Clone(v.items)
	} else {
		var put, gone []registry.Item
		for key := range v.changed {
			item, there := v.items[key]
			old, was := v.held[key]
			switch {
			case there:
				put, v.held[key] = append(put, item), item
			case was:
				gone = append(gone, old)
				delete(v.held, key)
			}
		}
		v.last = v.last.With(v.revision, put, gone)
	}
	clear(v.changed)
	return v.last
}

// Put creates an entry (Revision 0) or changes the revision it was read at, and
// gives it its new one. It says who makes the change (Entry.By).
func (s *Store) Put(ctx context.Context, item registry.Item) error {
	key, audit := item.Key(), item.Audit()
	if s.permit != nil {
		if err := s.permit(item); err != nil {
			return err
		}
	}
	if _, ok := s.file[key]; ok {
		return fmt.Errorf("%s %w", item, ErrFromFile)
	}
	if audit.By == "" {
		return fmt.Errorf("%s: %w", item, ErrNoActor)
	}
	value, err := json.Marshal(item)
	if err != nil {
		return fmt.Errorf("write %s: %w", item, err)
	}
	revision, err := s.write(ctx, key, value, audit.Revision)
	switch {
	case queue.Overtaken(err) && audit.Revision == 0:
		return fmt.Errorf("%s %w", item, ErrDuplicate)
	case queue.Overtaken(err):
		return fmt.Errorf("%s: %w", item, ErrConflict)
	case err != nil:
		return fmt.Errorf("write %s: %w", item, err)
	}
	audit.Revision = revision
	return nil
}

// write stores a value over the revision it replaces. A name that was removed is
// free again.
func (s *Store) write(ctx context.Context, key string, value []byte, over uint64) (revision uint64, err error) {
	if over > 0 {
		return s.kv.Update(ctx, key, value, over)
	}
	revision, err = s.kv.Create(ctx, key, value)
	if !queue.Overtaken(err) {
		return revision, err
	}
	e, readErr := s.kv.Get(ctx, key)
	if readErr != nil {
		return 0, readErr
	}
	if old, readErr := registry.Decode(key, e.Value(), e.Revision()); readErr == nil && !old.Audit().Removed {
		return 0, err
	}
	return s.kv.Update(ctx, key, value, e.Revision())
}

// Permit has each change asked about before it is made; an error refuses it. It is
// for who makes changes for others, and is set before the first.
func (s *Store) Permit(permit func(registry.Item) error) { s.permit = permit }

// Remove ends an entry as it was read; the entry itself is left as it is. Its
// name is free again.
func (s *Store) Remove(ctx context.Context, item registry.Item, change registry.Change) error {
	if item.Audit().Revision == 0 && s.file[item.Key()] == nil {
		return fmt.Errorf("%s %w", item, ErrNotFound)
	}
	gone, err := registry.Clone(item)
	if err != nil {
		return err
	}
	gone.Audit().Removed = true
	gone.Audit().Stamp(change)
	return s.Put(ctx, gone)
}
