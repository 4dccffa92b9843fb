package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// Erase deletes the content of one message wherever it is, out of its turn, and
// overwrites it in MAIL and BODY: a purge leaves the octets on the disk until their
// place is used again. The chunks go before the message that names them, so that
// one that was broken off can be done again. What is gone already is no error.
func (b *Bus) Erase(ctx context.Context, id mail.QueueID, stream string, seq uint64) error {
	a, _, err := b.mailAt(ctx, id, event.ContentRef{Stream: stream, Seq: seq})
	switch {
	case errors.Is(err, ErrContentGone):
		return b.Unkeep(ctx, id)
	case err != nil:
		return fmt.Errorf("erase %s: %w", id, err)
	}
	for _, c := range a.Chunks {
		if err := b.overwrite(ctx, BodyStream(ShardOf(id)), c.Seq); err != nil {
			return fmt.Errorf("erase %s: %w", id, err)
		}
	}
	if err := b.overwrite(ctx, stream, seq); err != nil {
		return fmt.Errorf("erase %s: %w", id, err)
	}
	return b.Unkeep(ctx, id)
}

// overwrite deletes one message of a stream.
func (b *Bus) overwrite(ctx context.Context, stream string, seq uint64) error {
	s, err := b.stream(ctx, stream)
	if err != nil {
		return err
	}
	if err = s.SecureDeleteMsg(ctx, seq); err == nil {
		return nil
	}
	if _, gone := s.GetMsg(ctx, seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil
	}
	return err
}
