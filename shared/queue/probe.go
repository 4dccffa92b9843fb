package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Where nobody may be asked for the sync setting, it is measured: a publish to
// an ordinary stream is compared with one to a stream whose persist mode
// leaves the sync out. On a server that syncs every write the ordinary one
// takes several times as long (measured: 3.2 to 4.6 times on a local disk, 1.0
// to 1.15 times without the setting). What the network or a fast store hides
// counts as unknown, never as durable.
const (
	probePublishes = 60
	probeRatio     = 2.0
)

// probe measures whether the connected server syncs. It is for a single
// server: in a cluster it would speak for one of several.
func (b *Bus) probe(ctx context.Context) error {
	if b.NC.ConnectedClusterName() != "" {
		return ErrSyncUnknown
	}
	name := "PROBE_" + rand.Text()
	subjects := [2]string{"probe." + name + ".synced", "probe." + name + ".async"}
	for i, mode := range []jetstream.PersistModeType{jetstream.DefaultPersistMode, jetstream.AsyncPersistMode} {
		stream := fmt.Sprintf("%s_%d", name, i)
		_, err := b.JS.CreateStream(ctx, jetstream.StreamConfig{
			Name: stream, Subjects: subjects[i : i+1], Storage: jetstream.FileStorage, PersistMode: mode, MaxMsgs: probePublishes,
		})
		if err != nil {
			return fmt.Errorf("%w (measuring failed: %w)", ErrSyncUnknown, err)
		}
		defer b.JS.DeleteStream(context.WithoutCancel(ctx), stream)
	}
	var took [2][]time.Duration
	message := make([]byte, 512)
	for range probePublishes {
		for i, subject := range subjects { // in turn, so that noise meets both
			started := time.Now()
			if _, err := b.JS.Publish(ctx, subject, message); err != nil {
				return fmt.Errorf("%w (measuring failed: %w)", ErrSyncUnknown, err)
			}
			took[i] = append(took[i], time.Since(started))
		}
	}
	if !slower(took[0], took[1]) {
		return ErrSyncUnknown
	}
	return nil
}

// slower reports that at the quartile and at the median the first series took
// probeRatio times as long as the second.
func slower(first, second []time.Duration) bool {
	slices.Sort(first)
	slices.Sort(second)
	for _, at := range []int{len(first) / 4, len(first) / 2} {
		if float64(first[at]) < probeRatio*float64(second[at]) {
			return false
		}
	}
	return true
}
