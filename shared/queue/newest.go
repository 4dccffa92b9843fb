package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// newestWindow is how many sequences ListNewest reads at once.
const newestWindow = 2048

// ListNewest hands the messages of a stream to each, the newest first, without
// taking them. What is stored while it reads is not included. An error of each
// ends the listing and is returned: who has found enough reads no further.
func (b *Bus) ListNewest(ctx context.Context, stream string, each func(*jetstream.RawStreamMsg) error) error {
	s, err := b.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("list %s: %w", stream, err)
	}
	state := s.CachedInfo().State
	for high := state.LastSeq; high > 0 && high >= state.FirstSeq; {
		low := max(state.FirstSeq, high-min(high, newestWindow)+1)
		window, err := b.window(ctx, stream, low, high)
		if err != nil {
			return fmt.Errorf("list %s: %w", stream, err)
		}
		for _, m := range slices.Backward(window) {
			if err := each(m); err != nil {
				return err
			}
		}
		high = low - 1
	}
	return nil
}

// errRead ends a listing that has read far enough.
var errRead = errors.New("read far enough")

// Published is what was published to a stream under an id since then, the newest;
// nil for nothing. It reads back to then: for who has reason to look.
func (b *Bus) Published(ctx context.Context, stream, id string, since time.Time) (data []byte, err error) {
	err = b.ListNewest(ctx, stream, func(m *jetstream.RawStreamMsg) error {
		if m.Header.Get(jetstream.MsgIDHeader) == id {
			data = m.Data
		}
		if data != nil || m.Time.Before(since) {
			return errRead
		}
		return nil
	})
	if errors.Is(err, errRead) {
		err = nil
	}
	return data, err
}

// errBeyond ends the reading of a window.
var errBeyond = errors.New("beyond the window")

// window reads the messages from low up to high.
func (b *Bus) window(ctx context.Context, stream string, low, high uint64) (out []*jetstream.RawStreamMsg, err error) {
	take := func(m *jetstream.RawStreamMsg) error {
		if m.Sequence > high {
			return errBeyond
		}
		out = append(out, m)
		return nil
	}
	for low <= high {
		next, more, err := b.listBatch(ctx, stream, ">", low, take)
		if errors.Is(err, errBeyond) || err == nil && !more {
			break
		}
		if err != nil {
			return nil, err
		}
		low = next
	}
	return out, nil
}
