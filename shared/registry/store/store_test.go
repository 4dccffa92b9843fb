package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

var by = registry.Entry{By: "tester"}

func open(t *testing.T, bus *queue.Bus, file ...*registry.Device) *Store {
	t.Helper()
	s, err := Open(t.Context(), bus, registry.Entries{Devices: file})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *Store) *registry.Snapshot {
	t.Helper()
	snapshot, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func printer(state registry.State) *registry.Device {
	return &registry.Device{
		Name: "prn-1.chem.campus.test", Owner: "chem", Contacts: []string{"it@campus.test"}, Scope: registry.ScopeAnywhere,
		Addresses: registry.MustAddresses("10.2.3.4/32"), State: state, Entry: by,
	}
}

func TestDevice(t *testing.T) {
	s := open(t, queuetest.Start(t))
	d := printer(registry.StateRequested)
	if err := s.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), printer(registry.StateRequested)); !errors.Is(err, ErrDuplicate) {
		t.Errorf("created twice: %v", err)
	}
	snapshot := load(t, s)
	got, ok := snapshot.Device(d.Name)
	if !ok || got.Owner != "chem" || got.Origin != registry.OriginCommand || got.Revision == 0 || snapshot.Revision != got.Revision || got.Addresses[0] != d.Addresses[0] {
		t.Fatalf("read back: %+v, revision %d", got, snapshot.Revision)
	}
	mine, theirs := *got, *got
	mine.State, theirs.State = registry.StateActive, registry.StateRetired
	if err := s.Put(t.Context(), &mine); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), &theirs); !errors.Is(err, ErrConflict) {
		t.Errorf("changed at an old revision: %v", err)
	}
	if now, _ := load(t, s).Device(d.Name); now.State != registry.StateActive {
		t.Errorf("state %s: the loser won", now.State)
	}
	if old, _ := snapshot.Device(d.Name); old.State != registry.StateRequested {
		t.Error("a snapshot changed")
	}
}

func TestFileWins(t *testing.T) {
	bus := queuetest.Start(t)
	name := printer("").Name
	if err := open(t, bus).Put(t.Context(), printer(registry.StateSuspended)); err != nil {
		t.Fatal(err)
	}
	file := printer(registry.StateActive)
	file.Origin = registry.OriginFile
	s := open(t, bus, file)
	if d, ok := load(t, s).Device(name); !ok || d.State != registry.StateActive || d.Origin != registry.OriginFile {
		t.Errorf("device of the file: %+v", d)
	}
	if n := len(load(t, s).Entries().Devices); n != 1 {
		t.Errorf("%d devices", n)
	}
	if err := s.Put(t.Context(), printer(registry.StateActive)); !errors.Is(err, ErrFromFile) {
		t.Errorf("changed a device of the file: %v", err)
	}
}

// Names are what people type; each must be one key of its own.
func TestCredentialNames(t *testing.T) {
	s := open(t, queuetest.Start(t))
	names := []string{"app", "App", "app/mail@campus.test", "app.mail", "app mail", "*", ">", "größe", "x=y"}
	for _, name := range names {
		if err := s.Put(t.Context(), &registry.Credential{Name: name, Device: "app.campus.test", Secrets: []registry.Secret{{Hash: "hash of " + name}}, Entry: by}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	snapshot := load(t, s)
	for _, name := range names {
		if c, ok := snapshot.Credential(name); !ok || c.Secrets[0].Hash != "hash of "+name {
			t.Errorf("%q reads back as %+v", name, c)
		}
	}
	if err := s.Put(t.Context(), &registry.Credential{Name: "app", Entry: by}); !errors.Is(err, ErrDuplicate) {
		t.Errorf("replaced: %v", err)
	}
	gone, _ := snapshot.Credential("app/mail@campus.test")
	if err := s.Remove(t.Context(), gone, registry.Change{By: "tester", Reason: "lost"}); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), gone, registry.Change{By: "tester"}); !errors.Is(err, ErrConflict) {
		t.Errorf("removed twice: %v", err)
	}
	if err := s.Remove(t.Context(), &registry.Credential{Name: "never"}, registry.Change{By: "tester"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed what never was: %v", err)
	}
	snapshot = load(t, s)
	if _, ok := snapshot.Credential("app/mail@campus.test"); ok {
		t.Error("it is still there")
	}
	if c, ok := snapshot.Credential("app"); !ok || c.Secrets[0].Hash != "hash of app" {
		t.Errorf("another one went with it: %+v", c)
	}
	if err := s.Put(t.Context(), &registry.Credential{Name: "app/mail@campus.test", Entry: by}); err != nil {
		t.Errorf("made again after it was removed: %v", err)
	}
}

func TestFollow(t *testing.T) {
	bus := queuetest.Start(t)
	s := open(t, bus)
	if err := s.Put(t.Context(), printer(registry.StateActive)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Follow(ctx, func() { close(ready) }) }()
	<-ready
	before := s.Snapshot()
	if _, ok := before.ByAddress(netip.MustParseAddr("10.2.3.4")); !ok {
		t.Error("not there when ready")
	}
	d, _ := before.Device(printer("").Name)
	changed := *d
	changed.State = registry.StateSuspended
	if err := s.Put(t.Context(), &changed); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), &registry.Credential{Name: "prn", Device: d.Name, Entry: by}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, func(now *registry.Snapshot) bool {
		d, _ := now.Device(d.Name)
		of, ok := now.ByCredential("prn")
		return d.State == registry.StateSuspended && ok && of == d && now.Revision > before.Revision
	})
	c, _ := s.Snapshot().Credential("prn")
	if err := s.Remove(t.Context(), c, registry.Change{By: "tester"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, func(now *registry.Snapshot) bool { _, ok := now.Credential("prn"); return !ok })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// After a reconnect the registry is read anew: what changed meanwhile is in
// the snapshot before it counts as current, also what was removed.
func TestFollowAfterReconnect(t *testing.T) {
	bus := queuetest.Start(t)
	s := open(t, bus)
	if s.Current() {
		t.Error("current before anything was read")
	}
	if err := s.Put(t.Context(), &registry.Credential{Name: "gone", Device: "x.test", Entry: by}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Follow(ctx, func() { close(ready) }) }()
	<-ready
	for range 3 {
		before := s.Snapshot()
		if !s.Current() {
			t.Error("not current when ready")
		}
		if err := bus.NC.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		// A fresh snapshot, not the one from before, and then current.
		eventually(t, s, func(now *registry.Snapshot) bool { return now != before && s.Current() })
	}
	c, _ := s.Snapshot().Credential("gone")
	if err := s.Remove(t.Context(), c, registry.Change{By: "tester"}); err != nil {
		t.Fatal(err)
	}
	if err := bus.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, func(now *registry.Snapshot) bool {
		_, there := now.Credential("gone")
		return !there && s.Current()
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// eventually waits until a snapshot is as it should be.
func eventually(t *testing.T, s *Store, good func(*registry.Snapshot) bool) {
	t.Helper()
	timetest.Await(t, "the change comes", func() bool { return good(s.Snapshot()) })
}

// What cannot be read admits nobody, and keeps nothing else from being read.
func TestUnreadableEntry(t *testing.T) {
	bus := queuetest.Start(t)
	s := open(t, bus)
	if err := s.Put(t.Context(), printer(registry.StateActive)); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"device.broken=test": `{"name":`, (&registry.Credential{Name: "broken"}).Key(): "[]", "other.thing": "{}"} {
		if _, err := s.kv.PutString(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := load(t, s)
	if _, ok := snapshot.Credential("broken"); ok || len(snapshot.Entries().Devices) != 1 {
		t.Errorf("%d devices", len(snapshot.Entries().Devices))
	}
	if _, err := s.kv.PutString(t.Context(), printer("").Key(), "null and void"); err != nil {
		t.Fatal(err)
	}
	if n := len(load(t, s).Entries().Devices); n != 0 {
		t.Errorf("%d devices: an entry that was overwritten with nonsense still admits", n)
	}
}

// A command that is interrupted while it reads gets an error, not a registry
// of nothing.
func TestLoadInterrupted(t *testing.T) {
	s := open(t, queuetest.Start(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if snapshot, err := s.Load(ctx); err == nil && snapshot == nil {
		t.Error("neither a snapshot nor an error")
	}
}

// The history of an entry is every change of it, also more than the bucket
// keeps, and also once it was removed.
func TestHistory(t *testing.T) {
	bus := queuetest.Start(t)
	s := open(t, bus)
	d := printer(registry.StateActive)
	read := func(key string) (out []registry.Item) {
		t.Helper()
		if err := s.History(t.Context(), key, func(item registry.Item) error { out = append(out, item); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	log, err := bus.JS.Stream(t.Context(), queue.StreamRegistryLog)
	if err != nil {
		t.Fatal(err)
	}
	logged := func() uint64 {
		info, err := log.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	const changes = 20
	for i := range changes {
		if i == 10 { // the bucket forgets none before the log has begun
			timetest.Await(t, "the log begins", func() bool { return logged() == 10 })
		}
		d.Stamp(registry.Change{By: "tester", Reason: fmt.Sprint(i)})
		if err := s.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(t.Context(), d, registry.Change{By: "other", Reason: "gone"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), &registry.Credential{Name: "x", Device: d.Name, Entry: by}); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the log has all", func() bool { return len(read(d.Key())) == changes+1 })
	for i, item := range read(d.Key()) {
		audit := item.Audit()
		if want := fmt.Sprint(i); i < changes && (audit.Reason != want || audit.Removed || audit.Revision == 0) {
			t.Errorf("%d: %+v", i, audit)
		}
		if i == changes && (!audit.Removed || audit.By != "other" || audit.Reason != "gone") {
			t.Errorf("removed: %+v", audit)
		}
	}
	if n := len(read(">")); n != changes+2 {
		t.Errorf("%d changes of all", n)
	}
	if n := len(read("device.absent=test")); n != 0 {
		t.Errorf("%d changes of none", n)
	}
}
