package queue

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
)

// ListRefusals hands the evidence of refusals to each, the newest first. What
// cannot be read is left out. An error of each ends the listing and is returned.
func (b *Bus) ListRefusals(ctx context.Context, each func(*event.Refusal) error) error {
	return b.ListNewest(ctx, StreamRefused, func(m *jetstream.RawStreamMsg) error {
		r, err := event.Decode[event.Refusal](m.Data)
		if err != nil {
			return nil //nolint:nilerr // evidence that cannot be read is none
		}
		return each(r)
	})
}
