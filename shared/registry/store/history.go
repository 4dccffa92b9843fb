package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
)

// History hands every change of the entries whose keys match to each, the oldest
// first: the entry as it was from then on, also as removed. A key may end with
// ">". REGISTRY_LOG has 400 days of it; the bucket itself has the last 16
// changes of each entry, of which the log may not have the newest yet: it
// follows within a second or two of the server's start, and at once after that.
func (s *Store) History(ctx context.Context, key string, each func(registry.Item) error) error {
	seen := map[uint64]registry.Item{}
	subject := "$KV." + queue.BucketRegistry + "." + key
	take := func(m *jetstream.RawStreamMsg) error {
		revision := m.Sequence
		if source := strings.Fields(m.Header.Get("Nats-Stream-Source")); len(source) > 1 {
			revision, _ = strconv.ParseUint(source[1], 10, 64)
		}
		item, err := registry.Decode(strings.TrimPrefix(m.Subject, "$KV."+queue.BucketRegistry+"."), m.Data, revision)
		if err == nil { // what cannot be read was no change of an entry
			seen[revision] = item
		}
		return nil
	}
	for _, stream := range []string{queue.StreamRegistryLog, "KV_" + queue.BucketRegistry} {
		err := s.bus.List(ctx, stream, subject, 0, take)
		if errors.Is(err, nats.ErrNoResponders) && stream == queue.StreamRegistryLog {
			continue // a server that has just started does not serve it yet
		}
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
	}
	return inOrder(seen, each)
}

func inOrder(seen map[uint64]registry.Item, each func(registry.Item) error) error {
	for _, revision := range slices.SortedFunc(maps.Keys(seen), cmp.Compare[uint64]) {
		if err := each(seen[revision]); err != nil {
			return err
		}
	}
	return nil
}
