package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

var (
	// ErrContentGone reports a content that is no longer stored.
	ErrContentGone = errors.New("content is no longer stored")
	// ErrContentSize reports a content that is not the one that is asked for.
	ErrContentSize = errors.New("stored content has another size")
)

// Content opens the stored content of a message, where ref says or, once it is
// no longer there, where it is kept (keep.go). Reading streams it chunk by
// chunk, with one chunk read ahead where few contents are under way.
func (b *Bus) Content(ctx context.Context, id mail.QueueID, ref event.ContentRef) (*event.Accepted, io.ReadCloser, error) {
	body := BodyStream(ShardOf(id))
	a, inline, err := b.mailAt(ctx, id, ref)
	if errors.Is(err, ErrContentGone) {
		body = StreamKeep
		a, inline, err = b.kept(ctx, id)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(a.Chunks) == 0 {
		return a, io.NopCloser(bytes.NewReader(inline)), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &chunkReader{bus: b, ctx: ctx, cancel: cancel, id: id, stream: body, chunks: a.Chunks}
	r.readAhead()
	return a, r, nil
}

// Open opens the stored content of a message as Content does, for those who do
// not ask for its event, and only if it has the size that ref says. Of an inline
// content nothing is decoded.
func (b *Bus) Open(ctx context.Context, id mail.QueueID, ref event.ContentRef) (io.ReadCloser, error) {
	return b.open(ctx, id, ref, 0)
}

// OpenFirst opens as Open does, for the first of several who read a content: an
// inline one that had to come from the store is kept for the next, if there is
// one in this process (Recent).
func (b *Bus) OpenFirst(ctx context.Context, id mail.QueueID, ref event.ContentRef) (io.ReadCloser, error) {
	return b.open(ctx, id, ref, recentReaders-1)
}

func (b *Bus) open(ctx context.Context, id mail.QueueID, ref event.ContentRef, others int) (io.ReadCloser, error) {
	size, content, err := b.find(ctx, id, ref, others)
	if err == nil && size != ref.Size {
		content.Close()
		err = fmt.Errorf("%w: %s has %d octets, not %d", ErrContentSize, id, size, ref.Size)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// find opens a content of any size, and keeps it for so many others.
func (b *Bus) find(ctx context.Context, id mail.QueueID, ref event.ContentRef, others int) (size int64, content io.ReadCloser, err error) {
	if ref.Body == 0 {
		if kept := b.Recent.get(id, ref); kept != nil {
			return int64(len(kept)), io.NopCloser(bytes.NewReader(kept)), nil
		}
		m, err := b.get(ctx, ref.Stream, ref.Seq)
		if err == nil && m.Header.Get(jetstream.MsgIDHeader) == string(id) {
			inline, _, err := splitMail(m.Data)
			if err == nil && others > 0 {
				b.Recent.keep(id, ref, inline, others)
			}
			return int64(len(inline)), io.NopCloser(bytes.NewReader(inline)), err
		}
		if err != nil && !errors.Is(err, ErrContentGone) {
			return 0, nil, err
		}
	}
	a, content, err := b.Content(ctx, id, ref)
	if err != nil {
		return 0, nil, err
	}
	return a.Size, content, nil
}

// mailAt reads a message of MAIL. What lies there under another id, in a stream
// that was made anew, is another message.
func (b *Bus) mailAt(ctx context.Context, id mail.QueueID, ref event.ContentRef) (*event.Accepted, []byte, error) {
	data, err := b.Read(ctx, ref.Stream, ref.Seq)
	if err != nil {
		return nil, nil, err
	}
	a, inline, err := DecodeMail(data)
	if err == nil && a.QueueID != id {
		err = fmt.Errorf("%w: %s/%d is not %s", ErrContentGone, ref.Stream, ref.Seq, id)
	}
	return a, inline, err
}

// Read reads one message of a stream by its sequence; ErrContentGone says that
// it is no longer there.
func (b *Bus) Read(ctx context.Context, stream string, seq uint64) ([]byte, error) {
	m, err := b.get(ctx, stream, seq)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (b *Bus) get(ctx context.Context, stream string, seq uint64) (*jetstream.RawStreamMsg, error) {
	s, err := b.stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", stream, err)
	}
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %s/%d", ErrContentGone, stream, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s/%d: %w", stream, seq, err)
	}
	return m, nil
}

// stream is the handle of a stream, asked for once per connection.
func (b *Bus) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if s, ok := b.handles.Load(name); ok {
		return s.(jetstream.Stream), nil
	}
	s, err := b.JS.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	b.handles.Store(name, s)
	return s, nil
}

// mostAhead is how many chunks a process reads ahead of their readers, in all:
// of the many contents that wait for slow destinations, each holds one chunk, not
// two.
const mostAhead = 64

// chunkReader reads a content chunk by chunk.
type chunkReader struct {
	bus    *Bus
	ctx    context.Context
	cancel context.CancelFunc
	id     mail.QueueID
	stream string
	chunks []event.Chunk // still to be fetched
	// ahead has the next chunk when it was read ahead; nil when it was not.
	ahead chan chunkData
	rest  []byte
	err   error
}

type chunkData struct {
	data []byte
	err  error
}

// readAhead begins to read the next chunk, unless too many are.
func (r *chunkReader) readAhead() {
	if len(r.chunks) == 0 {
		return
	}
	if r.bus.ahead.Add(1) > mostAhead {
		r.bus.ahead.Add(-1)
		return
	}
	ahead := make(chan chunkData, 1)
	go func() { ahead <- r.fetch() }()
	r.ahead = ahead
}

// taken makes room for others to read ahead.
func (r *chunkReader) taken() {
	if r.ahead != nil {
		r.ahead = nil
		r.bus.ahead.Add(-1)
	}
}

// fetch reads the next chunk.
func (r *chunkReader) fetch() chunkData {
	data, err := r.bus.readChunk(r.ctx, r.stream, r.chunks[0])
	if errors.Is(err, ErrContentGone) && r.stream != StreamKeep {
		data, err = r.move()
	}
	r.chunks = r.chunks[1:]
	return chunkData{data, err}
}

// move goes on in KEEP, where the content was moved meanwhile, with the chunk
// that is next.
func (r *chunkReader) move() ([]byte, error) {
	a, _, err := r.bus.kept(r.ctx, r.id)
	if err != nil {
		return nil, err
	}
	if len(a.Chunks) < len(r.chunks) {
		return nil, fmt.Errorf("%w: %s is kept in another form", ErrContentGone, r.id)
	}
	r.stream, r.chunks = StreamKeep, a.Chunks[len(a.Chunks)-len(r.chunks):]
	return r.bus.readChunk(r.ctx, r.stream, r.chunks[0])
}

// readChunk reads one chunk of a content.
func (b *Bus) readChunk(ctx context.Context, stream string, c event.Chunk) ([]byte, error) {
	data, err := b.Read(ctx, stream, c.Seq)
	if err == nil && len(data) != c.Size {
		err = fmt.Errorf("read %s/%d: %d octets instead of %d", stream, c.Seq, len(data), c.Size)
	}
	return data, err
}

// Read reads on; an error is final.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err == nil {
			r.rest, r.err = r.chunk()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// chunk is the next chunk; the one after it may be read meanwhile.
func (r *chunkReader) chunk() ([]byte, error) {
	var got chunkData
	switch {
	case r.ahead != nil:
		got = <-r.ahead
		r.taken()
	case len(r.chunks) == 0:
		return nil, io.EOF
	default:
		got = r.fetch()
	}
	if got.err == nil {
		r.readAhead()
	}
	return got.data, got.err
}

// Close ends the reading.
func (r *chunkReader) Close() error {
	r.cancel()
	r.taken()
	return nil
}
