package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// A content that outlives the retention of MAIL is kept in KEEP, in the same
// form: a message that is its commit, on KeepSubject, and before it the chunks
// of a large one, on KeepChunkSubject, one for each chunk in BODY. A reader of
// chunks can therefore go on in KEEP where BODY ends.

// Keep copies the content of a message from MAIL and BODY to KEEP, and returns
// when the copy is on stable storage. A content that is kept already stays as
// it is: of two that copy at once, one makes the copy that counts, and the
// chunks of the other are garbage until Unkeep. It is ErrContentGone when there
// is nothing to copy.
func (b *Bus) Keep(ctx context.Context, id mail.QueueID, stream string, seq uint64) error {
	switch _, _, err := b.kept(ctx, id); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrContentGone):
		return err
	}
	a, inline, err := b.mailAt(ctx, id, event.ContentRef{Stream: stream, Seq: seq})
	if err != nil {
		return fmt.Errorf("keep %s: %w", id, err)
	}
	if len(a.Chunks) > 0 {
		if a.Chunks, err = b.keepChunks(ctx, id, a.Chunks); err != nil {
			return fmt.Errorf("keep %s: %w", id, err)
		}
	}
	_, err = b.Publish(ctx, KeepSubject(id), rand.Text(), appendMeta(inline, event.Encode(a)), jetstream.WithExpectLastSequenceForSubject(0, KeepSubject(id)))
	if Overtaken(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", id, err)
	}
	return nil
}

// keepChunks copies chunks and says where they are now. Each has an id of its
// own: the server would recognise a repeated one although it was purged
// meanwhile, and name a place where nothing is.
func (b *Bus) keepChunks(ctx context.Context, id mail.QueueID, chunks []event.Chunk) ([]event.Chunk, error) {
	from := BodyStream(ShardOf(id))
	out := make([]event.Chunk, len(chunks))
	for i, c := range chunks {
		data, err := b.readChunk(ctx, from, c)
		if err != nil {
			return nil, err
		}
		at, err := b.Publish(ctx, KeepChunkSubject(id), rand.Text(), data)
		if err != nil {
			return nil, err
		}
		out[i] = event.Chunk{Seq: at.Seq, Size: c.Size}
	}
	return out, nil
}

// kept reads what commits the kept content of a message.
func (b *Bus) kept(ctx context.Context, id mail.QueueID) (*event.Accepted, []byte, error) {
	s, err := b.stream(ctx, StreamKeep)
	if err != nil {
		return nil, nil, fmt.Errorf("open stream %s: %w", StreamKeep, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, KeepSubject(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, fmt.Errorf("%w: %s", ErrContentGone, id)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", KeepSubject(id), err)
	}
	return DecodeMail(m.Data)
}

// Unkeep deletes the kept content of a message, and what is left of copies
// that were not finished. As long as anything is left, ListKept names it.
func (b *Bus) Unkeep(ctx context.Context, id mail.QueueID) error {
	s, err := b.stream(ctx, StreamKeep)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", StreamKeep, err)
	}
	for _, subject := range []string{KeepSubject(id), KeepChunkSubject(id)} {
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("purge %s: %w", subject, err)
		}
	}
	return nil
}

// ListKept names the messages of which anything is in KEEP.
func (b *Bus) ListKept(ctx context.Context) (map[mail.QueueID]struct{}, error) {
	s, err := b.stream(ctx, StreamKeep)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", StreamKeep, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", StreamKeep, err)
	}
	ids := make(map[mail.QueueID]struct{}, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		id, _, _ := strings.Cut(strings.TrimPrefix(subject, KeepSubject("")), ".")
		ids[mail.QueueID(id)] = struct{}{}
	}
	return ids, nil
}
