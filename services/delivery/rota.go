package delivery

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/queue"
)

// rota is the bucket "served": who serves which partition, or did so and
// did not end cleanly. A worker writes its key before it takes the first job of
// a partition, and deletes it when nothing of what it did there is in doubt any
// more. What a killed worker leaves in the bucket tells the next one that jobs
// of this partition may have been sent of which nothing is known.
type rota struct {
	kv  jetstream.KeyValue
	log zerolog.Logger
	// me and run name this worker: a service that is started again in its
	// process is another run.
	me, run string
	// lives reports that a member shows signs of life.
	lives func(name string) bool

	mu      sync.Mutex
	entries map[int]map[string]entry // of others, by partition and key
	held    map[int]entry            // our own
	sights  map[int]sight            // by partition
	known   chan struct{}            // closed when all that was there is known
}

// entry is the value of a key.
type entry struct {
	// Life is that of the consumers when the partition was taken.
	Life string `json:"life"`
	// Doubt says that its worker ended and left something in doubt.
	Doubt bool `json:"doubt,omitempty"`
	owner string
	key   string
}

// openRota opens the bucket; follow keeps what stands there.
func openRota(ctx context.Context, bus *queue.Bus, me string, lives func(string) bool) (*rota, error) {
	kv, err := bus.JS.KeyValue(ctx, queue.BucketServed)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", queue.BucketServed, err)
	}
	return &rota{
		kv: kv, log: bus.Log, me: me, run: strings.ToLower(rand.Text()[:8]), lives: lives,
		entries: map[int]map[string]entry{}, held: map[int]entry{}, sights: map[int]sight{}, known: make(chan struct{}),
	}, nil
}

// follow keeps the entries until ctx ends.
func (r *rota) follow(ctx context.Context) {
	for ctx.Err() == nil {
		watch, err := r.kv.WatchAll(ctx)
		if err == nil {
			r.take(ctx, watch)
			watch.Stop()
		} else if ctx.Err() == nil {
			r.log.Warn().Err(err).Msg("cannot watch who serves the partitions")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (r *rota) take(ctx context.Context, watch jetstream.KeyWatcher) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, more := <-watch.Updates():
			switch {
			case !more:
				return
			case e == nil:
				r.complete()
			default:
				r.note(ctx, e)
			}
		}
	}
}

func (r *rota) complete() {
	select {
	case <-r.known:
	default:
		close(r.known)
	}
}

// aware returns when all that was there is known.
func (r *rota) aware(ctx context.Context) error {
	select {
	case <-r.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note takes in one entry. A key of ours that somebody deleted while we hold
// it, having taken us for dead, is written again.
func (r *rota) note(ctx context.Context, e jetstream.KeyValueEntry) {
	partition, owner, run, ok := parseKey(e.Key())
	if !ok {
		return
	}
	gone := e.Operation() != jetstream.KeyValuePut
	r.mu.Lock()
	if owner == r.me && run == r.run {
		own, held := r.held[partition]
		r.mu.Unlock()
		if gone && held {
			if err := r.put(ctx, partition, own); err != nil {
				r.log.Warn().Err(err).Msg("cannot say again that a partition is served")
			}
		}
		return
	}
	defer r.mu.Unlock()
	if gone {
		delete(r.entries[partition], e.Key())
		return
	}
	var other entry
	if json.Unmarshal(e.Value(), &other) != nil {
		other.Doubt = true
	}
	other.key = e.Key()
	if other.owner = owner; owner == r.me { // an earlier run of this process
		other.Doubt = true
	}
	if r.entries[partition] == nil {
		r.entries[partition] = map[string]entry{}
	}
	r.entries[partition][e.Key()] = other
}

// others are the entries of a partition that are not ours: of workers that
// live and may still finish what they have, and of those that ended in doubt.
func (r *rota) others(partition int) (living, dead []entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries[partition] {
		if !e.Doubt && r.lives(e.owner) {
			living = append(living, e)
		} else {
			dead = append(dead, e)
		}
	}
	return living, dead
}

// hold says that this worker serves a partition.
func (r *rota) hold(ctx context.Context, partition int, life string) error {
	e := entry{Life: life}
	if err := r.put(ctx, partition, e); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[partition] = e
	return nil
}

func (r *rota) put(ctx context.Context, partition int, e entry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := r.kv.Put(ctx, r.key(partition), value); err != nil {
		return fmt.Errorf("say that partition %d is served: %w", partition, err)
	}
	return nil
}

// release says that this worker has finished with a partition; doubt that it
// left something of which nobody knows whether it was sent.
func (r *rota) release(ctx context.Context, partition int, doubt bool) (err error) {
	r.mu.Lock()
	e := r.held[partition]
	delete(r.held, partition)
	r.mu.Unlock()
	if e.Doubt = doubt; doubt {
		err = r.put(ctx, partition, e)
	} else {
		err = r.kv.Delete(ctx, r.key(partition))
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held[partition] = entry{Life: e.Life}
		return fmt.Errorf("release partition %d: %w", partition, err)
	}
	return nil
}

// forget deletes the entries of those who are dead: what they left in doubt is
// handled.
func (r *rota) forget(ctx context.Context, partition int) error {
	r.mu.Lock()
	var keys []string
	for key, e := range r.entries[partition] {
		if e.Doubt || !r.lives(e.owner) {
			keys = append(keys, key)
		}
	}
	r.mu.Unlock()
	for _, key := range keys {
		if err := r.kv.Delete(ctx, key); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("forget who served partition %d: %w", partition, err)
		}
	}
	return nil
}

// key is "p05.<worker>.<run>".
func (r *rota) key(partition int) string {
	return fmt.Sprintf("p%02d.%s.%s", partition, r.me, r.run)
}

func parseKey(key string) (partition int, owner, run string, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return 0, "", "", false
	}
	if n, err := fmt.Sscanf(parts[0], "p%d", &partition); n != 1 || err != nil {
		return 0, "", "", false
	}
	return partition, parts[1], parts[2], true
}
