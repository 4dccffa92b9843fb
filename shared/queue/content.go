package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
)

// A message of MAIL is its content, then its Accepted event as JSON, then the
// length of that JSON in four octets. The event comes last because most of
// it is known only when the content has ended. A content larger than
// MaxInline lies in chunks in BODY, stored before the message that names
// them: the message is the commit, and chunks without one are garbage.

// tailLen is the length of the length.
const tailLen = 4

// DecodeMail splits a message of MAIL into its event and inline content.
func DecodeMail(data []byte) (*event.Accepted, []byte, error) {
	inline, meta, err := splitMail(data)
	if err != nil {
		return nil, nil, err
	}
	a, err := event.Decode[event.Accepted](meta)
	if err != nil {
		return nil, nil, err
	}
	return a, inline, nil
}

func splitMail(data []byte) (inline, meta []byte, err error) {
	if len(data) < tailLen {
		return nil, nil, fmt.Errorf("decode mail: %w: too short", event.ErrUnreadable)
	}
	end := len(data) - tailLen
	n := int(binary.BigEndian.Uint32(data[end:]))
	if n > end {
		return nil, nil, fmt.Errorf("decode mail: %w: longer than the message", event.ErrUnreadable)
	}
	return data[: end-n : end-n], data[end-n : end], nil
}

// appendMeta ends an inline content with its event.
func appendMeta(content, meta []byte) []byte {
	return binary.BigEndian.AppendUint32(append(content, meta...), uint32(len(meta)))
}

// MaxUpload is how long a content may take from its first chunk to its message.
// Chunks older than that belong to a message that is stored, or to none.
const MaxUpload = time.Hour

// errUpload reports a content that took longer than MaxUpload.
var errUpload = fmt.Errorf("content took longer than %s to arrive", MaxUpload)

// ContentWriter takes a content as it arrives and stores it under a QueueID.
// Memory in use is bounded: MaxInline, then two chunks of MaxChunk.
type ContentWriter struct {
	bus    *Bus
	ctx    context.Context
	id     mail.QueueID
	buf    []byte
	size   int64
	chunks []event.Chunk
	// begun is when the first chunk was.
	begun time.Time
	// pending is the chunk being stored while the next one fills.
	pending chan chunkResult
	err     error
	// named: the message that names the chunks was published, or may have been.
	named bool
}

type chunkResult struct {
	chunk event.Chunk
	buf   []byte
	err   error
}

// bufferSizes are what a content grows through: that of most messages, that of
// a chunk, and that of the largest inline content with its event.
var bufferSizes = [...]int{64 << 10, MaxChunk, MaxInline + 16<<10}

var buffers [len(bufferSizes)]sync.Pool

// takeBuffer has room for n octets.
func takeBuffer(n int) []byte {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if b, ok := buffers[i].Get().(*[]byte); ok {
			return (*b)[:0]
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// recycle gives a buffer back that nobody reads any more.
func recycle(buf []byte) {
	if i := slices.Index(bufferSizes[:], cap(buf)); i >= 0 {
		buffers[i].Put(&buf)
	}
}

// NewContent starts the content of a message. ctx bounds every store.
func (b *Bus) NewContent(ctx context.Context, id mail.QueueID) *ContentWriter {
	return &ContentWriter{bus: b, ctx: ctx, id: id, buf: takeBuffer(0)}
}

// Size is the number of octets written so far.
func (w *ContentWriter) Size() int64 { return w.size }

// Write adds to the content. An error is that of the store, and final.
func (w *ContentWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	written := 0
	for len(p) > 0 {
		limit := w.inlineLimit()
		if len(w.chunks) > 0 || w.pending != nil {
			limit = w.chunkLimit()
		}
		if len(w.buf) >= limit {
			if w.err = w.flush(); w.err != nil {
				return written, w.err
			}
			continue
		}
		n := min(len(p), limit-len(w.buf))
		if need := len(w.buf) + n; need > cap(w.buf) {
			small := w.buf
			w.buf = append(takeBuffer(need), small...)
			recycle(small)
		}
		w.buf = append(w.buf, p[:n]...)
		w.size += int64(n)
		written += n
		p = p[n:]
	}
	return written, nil
}

// maxPayload leaves room for headers and the event of an inline message.
func (w *ContentWriter) maxPayload() int { return int(w.bus.NC.MaxPayload()) - 8<<10 }

func (w *ContentWriter) chunkLimit() int { return min(MaxChunk, w.maxPayload()) }

func (w *ContentWriter) inlineLimit() int { return min(MaxInline, w.maxPayload()/2) }

// flush sends the buffer off as a chunk, after the one before it is stored.
func (w *ContentWriter) flush() error {
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.inTime(); err != nil {
		return err
	}
	full := w.buf
	id := fmt.Sprintf("%s/%d", w.id, len(w.chunks))
	w.pending = make(chan chunkResult, 1)
	go func(out chan<- chunkResult) {
		at, err := w.bus.Publish(w.ctx, BodySubject(ShardOf(w.id)), id, full)
		out <- chunkResult{event.Chunk{Seq: at.Seq, Size: len(full)}, full, err}
	}(w.pending)
	w.buf = takeBuffer(w.chunkLimit())
	return nil
}

// inTime refuses what goes on after MaxUpload: its first chunks may be taken
// for garbage.
func (w *ContentWriter) inTime() error {
	switch {
	case w.begun.IsZero():
		w.begun = time.Now()
	case time.Since(w.begun) > MaxUpload:
		return errUpload
	}
	return nil
}

// settle waits for the chunk under way.
func (w *ContentWriter) settle() error {
	if w.pending == nil {
		return nil
	}
	r := <-w.pending
	w.pending = nil
	if r.err != nil {
		return r.err
	}
	recycle(r.buf)
	w.chunks = append(w.chunks, r.chunk)
	return nil
}

// Commit stores the message: after it returned nil the relay is responsible
// for it. The writer completes a.Size and a.Chunks.
func (w *ContentWriter) Commit(a *event.Accepted) (event.ContentRef, error) {
	if w.err != nil {
		return event.ContentRef{}, w.err
	}
	defer w.Discard()
	a.Schema, a.QueueID, a.Size = event.Schema, w.id, w.size
	meta := event.Encode(a)
	if len(w.chunks) > 0 || w.pending != nil || len(w.buf)+len(meta)+tailLen > w.maxPayload() {
		if err := errors.Join(w.toChunks(), w.inTime()); err != nil {
			return event.ContentRef{}, err
		}
		a.Chunks = w.chunks
		meta = event.Encode(a)
	}
	w.buf = appendMeta(w.buf, meta)
	w.named = true
	at, err := w.bus.Publish(w.ctx, MailSubject(a.Class.Lane(), ShardOf(w.id)), string(w.id), w.buf)
	if err != nil {
		w.named = !errors.Is(err, ErrFull) // refused for sure, or perhaps stored
		return event.ContentRef{}, err
	}
	ref := a.Ref(at.Stream, at.Seq)
	if len(a.Chunks) == 0 {
		w.bus.Recent.put(w.id, ref, w.buf[:len(w.buf)-len(meta)-tailLen])
	}
	return ref, nil
}

// toChunks stores what is buffered as the last chunk.
func (w *ContentWriter) toChunks() error {
	if len(w.buf) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.settle(); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	return nil
}

// Discard gives the buffers back. Chunks of a message that was never published
// are deleted in the background: what is refused must not fill the store.
func (w *ContentWriter) Discard() {
	if !w.named && (len(w.chunks) > 0 || w.pending != nil) {
		go w.bus.forget(BodyStream(ShardOf(w.id)), w.chunks, w.pending)
		w.pending, w.chunks = nil, nil
	}
	if w.pending != nil {
		go func(p chan chunkResult) { recycle((<-p).buf) }(w.pending)
		w.pending = nil
	}
	if w.buf != nil {
		recycle(w.buf)
		w.buf = nil
	}
	if w.err == nil {
		w.err = errors.New("content is closed")
	}
}

// forgetTimeout bounds the deletion of the chunks of one message.
const forgetTimeout = time.Minute

// forget deletes chunks, and the one under way. What it cannot delete stays as
// garbage.
func (b *Bus) forget(stream string, chunks []event.Chunk, pending chan chunkResult) {
	if pending != nil {
		r := <-pending
		if r.err == nil {
			chunks = append(chunks, r.chunk)
		}
		recycle(r.buf)
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	s, err := b.stream(ctx, stream)
	for i := 0; err == nil && i < len(chunks); i++ {
		err = s.DeleteMsg(ctx, chunks[i].Seq)
	}
	if err != nil {
		b.Log.Warn().Err(err).Str("stream", stream).Msg("chunks of a refused message stay in the store")
	}
}
