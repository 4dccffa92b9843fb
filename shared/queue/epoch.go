package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An epoch divides what delivery workers do in time. Recovery begins a new one
// before it counts what is where: once no worker has a job in hand from before,
// what is in no stream and has no end in LEDGER is lost, and in nobody's
// memory.

// EpochKey is the key of the settings bucket that holds the number of the
// epoch; none is epoch 0.
const EpochKey = "epoch"

// What a delivery worker says of itself in the workers bucket, under
// WorkerPrefix and its name, followed by the epoch it is in: "serving 7".
const (
	WorkerPrefix  = "delivery."
	WorkerServing = "serving"
	WorkerLeaving = "leaving" // finishes what it has, takes no more
)

// WorkerSign is the value of a sign of life.
func WorkerSign(what string, epoch int) string { return what + " " + strconv.Itoa(epoch) }

// ParseWorkerSign reads a sign of life. One without a number is in no epoch.
func ParseWorkerSign(value string) (what string, epoch int) {
	what, number, _ := strings.Cut(value, " ")
	epoch, err := strconv.Atoi(number)
	if err != nil {
		return what, -1
	}
	return what, epoch
}

// Epoch is the number of the current epoch.
func (b *Bus) Epoch(ctx context.Context) (int, error) {
	kv, err := b.JS.KeyValue(ctx, BucketSettings)
	if err != nil {
		return 0, fmt.Errorf("open bucket %s: %w", BucketSettings, err)
	}
	n, _, err := epochOf(ctx, kv)
	return n, err
}

// NextEpoch begins a new epoch and returns its number.
func (b *Bus) NextEpoch(ctx context.Context) (int, error) {
	kv, err := b.JS.KeyValue(ctx, BucketSettings)
	if err != nil {
		return 0, fmt.Errorf("open bucket %s: %w", BucketSettings, err)
	}
	for {
		n, revision, err := epochOf(ctx, kv)
		if err != nil {
			return 0, err
		}
		// Revision 0 is that of a key which does not exist.
		_, err = kv.Update(ctx, EpochKey, []byte(strconv.Itoa(n+1)), revision)
		switch {
		case err == nil:
			return n + 1, nil
		case !Overtaken(err):
			return 0, fmt.Errorf("begin epoch %d: %w", n+1, err)
		}
	}
}

// epochOf reads the number and its revision.
func epochOf(ctx context.Context, kv jetstream.KeyValue) (n int, revision uint64, err error) {
	e, err := kv.Get(ctx, EpochKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read epoch: %w", err)
	}
	n, err = strconv.Atoi(string(e.Value()))
	if err != nil {
		return 0, 0, fmt.Errorf("read epoch: %w", err)
	}
	return n, e.Revision(), nil
}

// AwaitEpoch returns when no delivery worker has a job in hand that it began
// before it learned of epoch n: each has said so, left, or shown no sign of
// life for WorkerTTL, after which it completes no message. A worker finishes
// or hands back what it has within a minute or so.
func (b *Bus) AwaitEpoch(ctx context.Context, n int) error {
	kv, err := b.JS.KeyValue(ctx, BucketWorkers)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", BucketWorkers, err)
	}
	behind, err := b.awaitEpoch(ctx, kv, n)
	if err != nil {
		return fmt.Errorf("await epoch %d: %w (workers in an earlier one: %d)", n, err, behind)
	}
	return nil
}

func (b *Bus) awaitEpoch(ctx context.Context, kv jetstream.KeyValue, n int) (behind int, err error) {
	watch, err := kv.Watch(ctx, WorkerPrefix+"*")
	if err != nil {
		return 0, err
	}
	defer watch.Stop()
	late := map[string]time.Time{} // workers of an earlier epoch, and when they last said so
	lapse := time.NewTicker(WorkerTTL / 10)
	defer lapse.Stop()
	for complete := false; !complete || len(late) > 0; {
		select {
		case <-ctx.Done():
			return len(late), ctx.Err()
		case <-lapse.C:
			// Their age is reckoned from when we heard, which is later than
			// when they spoke.
			for name, heard := range late {
				if time.Since(heard) >= WorkerTTL {
					delete(late, name)
				}
			}
		case e, more := <-watch.Updates():
			switch {
			case !more:
				return len(late), errors.New("watch of the workers ended")
			case e == nil:
				complete = true
			case e.Operation() == jetstream.KeyValuePut && signEpoch(e) < n:
				late[e.Key()] = time.Now()
			default:
				delete(late, e.Key())
			}
		}
	}
	return 0, nil
}

func signEpoch(e jetstream.KeyValueEntry) int {
	_, epoch := ParseWorkerSign(string(e.Value()))
	return epoch
}

// Life names what a consumer knows of its deliveries: while it is the same, no
// delivery was forgotten. A server that is killed forgets those of the last
// 100 ms and counts them from one again; so does a consumer made anew, and
// another leader. The consumer is made if there is none.
func (b *Bus) Life(ctx context.Context, s Source) (string, error) {
	info, err := b.ensureConsumer(ctx, s)
	if err != nil {
		return "", fmt.Errorf("ask for consumer %s: %w", s.Durable, err)
	}
	life := b.NC.ConnectedServerId()
	if info.Cluster != nil && info.Cluster.Leader != "" {
		life = info.Cluster.Leader
		if info.Cluster.LeaderSince != nil {
			life += "@" + info.Cluster.LeaderSince.UTC().Format(time.RFC3339Nano)
		}
	}
	return life + "/" + info.Created.UTC().Format(time.RFC3339Nano), nil
}
