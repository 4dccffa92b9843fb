package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// blockSize is the largest single write, in octets.
const blockSize = 64 << 10

// writers lends each operation its write buffer, so that an idle session does
// not hold one.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, blockSize) }}

// wire is the connection under a session: buffers, deadlines, and the context
// of the operation in progress.
type wire struct {
	raw    net.Conn // the socket: deadlines, and the end
	conn   net.Conn // raw, or TLS on it
	block  time.Duration
	in     replyReader
	out    *bufio.Writer   // nil between operations
	ctx    context.Context // of the operation in progress
	stop   func() bool
	broken error // why the session is unusable

	mu          sync.Mutex
	interrupted bool // guarded by mu: no deadline may be moved any more
}

func newWire(conn net.Conn, block time.Duration) *wire {
	w := &wire{raw: conn, conn: conn, block: block}
	w.in.in = bufio.NewReaderSize(conn, readerSize)
	return w
}

// begin starts an operation that ends with ctx.
func (w *wire) begin(ctx context.Context) error {
	if w.broken != nil {
		// Not wrapped: an old 421 is no verdict on what comes now.
		return fmt.Errorf("%w: %s", ErrUnusable, w.broken.Error())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.ctx, w.stop = ctx, nil
	if ctx.Done() != nil {
		w.stop = context.AfterFunc(ctx, w.interrupt)
	}
	w.out = writers.Get().(*bufio.Writer)
	w.out.Reset((*blockWriter)(w))
	return nil
}

// end ends the operation. One that was interrupted leaves a session of which
// nobody knows how far the dialogue went.
func (w *wire) end() {
	w.out.Reset(nil)
	writers.Put(w.out)
	w.out = nil
	if w.stop != nil && !w.stop() {
		w.fail(context.Cause(w.ctx))
	}
	if w.broken == nil {
		w.raw.SetDeadline(time.Time{})
	}
	w.ctx, w.stop = nil, nil
}

// interrupt wakes a blocked read or write.
func (w *wire) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupted = true
	w.raw.SetDeadline(time.Unix(1, 0))
}

// limit gives the next reads and writes d. The end of the context needs no
// deadline of its own: it interrupts.
func (w *wire) limit(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.interrupted {
		w.raw.SetDeadline(time.Now().Add(d))
	}
}

// blockWriter is where the buffer empties itself: each block has its own
// deadline (RFC 5321 §4.5.3.2.5).
type blockWriter wire

func (b *blockWriter) Write(p []byte) (int, error) {
	w := (*wire)(b)
	w.limit(w.block)
	return w.conn.Write(p)
}

// cause names the context where it was the context that ended a read or write.
func (w *wire) cause(err error) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return err
}

// fail closes the connection for good. The first cause is kept.
func (w *wire) fail(err error) error {
	if w.broken == nil {
		w.broken = err
		w.raw.Close()
	}
	return err
}

// close ends a connection that is in order. It may be called more than once.
func (w *wire) close() error {
	if w.broken != nil {
		return nil
	}
	w.broken = net.ErrClosed
	return w.conn.Close()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
