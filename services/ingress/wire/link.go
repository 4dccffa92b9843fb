package wire

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errStopping    = errors.New("the listener is stopping")
	errLineTooLong = errors.New("line too long")
	errEndlessLine = errors.New("line without an end")
	errClientHello = errors.New("TLS ClientHello on a plaintext port")
)

// link is one socket. It outlives the Conn that STARTTLS ends. All methods
// belong to the goroutine of the connection, except interrupt and close.
type link struct {
	listener *Listener
	raw      net.Conn // the socket itself
	conn     net.Conn // raw, or TLS on it
	secure   *tls.Conn
	remote   net.Addr
	address  netip.Addr // what MaxConnectionsPerAddress counts; zero: unknown

	in   *bufio.Reader // over Read
	out  []byte        // replies the client was not sent yet
	long []byte        // a line longer than in
	dead bool          // nothing is read or written any more
	seen bool          // a MAIL, or a refusal that was reported

	clock clock
	tally tally
	idle  atomic.Bool // waiting where a shutdown may interrupt
	once  sync.Once
}

// clock is how long the client may be waited for.
type clock struct {
	until    time.Time     // for the command line; zero: starts with the next wait
	body     bool          // inside a body
	waited   time.Duration // for octets of this body
	received int64         // octets of this body
	busy     bool          // a transaction is open: a shutdown waits for it
}

// tally counts what a client may not do without end.
type tally struct {
	errors, badRecipients, junk int // since the last message accepted
	authFailures                int // of the socket
	messages                    int
}

func newLink(l *Listener, raw net.Conn, remote net.Addr) *link {
	k := &link{listener: l, raw: raw, conn: raw, remote: remote}
	k.in = bufio.NewReaderSize(k, readBufferSize)
	return k
}

// Read fills the buffer from the socket. Before the client is waited for, it is
// sent everything it is owed.
func (k *link) Read(p []byte) (int, error) {
	if k.dead {
		return 0, net.ErrClosed
	}
	if err := k.flush(); err != nil {
		return 0, err
	}
	for {
		now := time.Now()
		deadline := k.deadline(now)
		if !k.arm(deadline, !k.clock.busy) {
			return 0, errStopping
		}
		n, err := k.conn.Read(p)
		if k.clock.body {
			k.clock.waited += time.Since(now)
			k.clock.received += int64(n)
		}
		if n > 0 {
			return n, nil
		}
		if isTimeout(err) && time.Now().Before(deadline) {
			continue // an interrupt: arm tells whether it is for us
		}
		return 0, err
	}
}

// deadline is when the wait that begins now ends.
func (k *link) deadline(now time.Time) time.Time {
	cfg := &k.listener.cfg
	if !k.clock.body {
		if k.clock.until.IsZero() {
			k.clock.until = now.Add(cfg.CommandTimeout)
		}
		return k.clock.until
	}
	earned := time.Duration(float64(k.clock.received) / float64(cfg.MinRate) * float64(time.Second))
	return now.Add(min(cfg.DataTimeout, bodyGrace+earned-k.clock.waited))
}

// arm sets the deadline of the next wait; false: the listener is stopping and
// the wait must not begin. interrupt makes the same two steps in the other
// order, so that one of the two sees the other.
func (k *link) arm(deadline time.Time, idle bool) bool {
	k.idle.Store(idle)
	if err := k.raw.SetReadDeadline(deadline); err != nil {
		return true // the read will tell
	}
	return !idle || !k.listener.stopping.Load()
}

// interrupt ends a wait that a shutdown need not respect. Any goroutine.
func (k *link) interrupt() {
	if k.idle.Load() {
		k.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// flush sends the queued replies in one write.
func (k *link) flush() error {
	if len(k.out) == 0 || k.dead {
		return nil
	}
	err := k.raw.SetWriteDeadline(time.Now().Add(k.listener.cfg.WriteTimeout))
	if err == nil {
		_, err = k.conn.Write(k.out)
	}
	if err != nil {
		k.dead = true // a reply cut off cannot be followed by another
		k.raw.Close()
	}
	if cap(k.out) > maxKeptOutput {
		k.out = nil
	}
	k.out = k.out[:0]
	return err
}

// readLine takes one command line from the client, without its line end. The
// line is valid until the next read.
func (k *link) readLine() (line []byte, bareLF bool, err error) {
	k.clock.until = time.Time{}
	first, err := k.in.Peek(1)
	if err != nil {
		return nil, false, err
	}
	if first[0] == recordHandshake && k.secure == nil {
		return nil, false, errClientHello
	}
	line, err = k.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = k.readLong(line)
	}
	if err != nil {
		return nil, false, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1], false, nil
	}
	return line, true, nil
}

// readLong takes the rest of a line that does not fit the buffer; beyond
// maxAuthLine it is drained.
func (k *link) readLong(start []byte) ([]byte, error) {
	k.long = append(k.long[:0], start...)
	total := len(start)
	for {
		part, err := k.in.ReadSlice('\n')
		total += len(part)
		if total <= maxAuthLine+2 {
			k.long = append(k.long, part...)
		}
		switch {
		case err == nil && total > maxAuthLine+2:
			return nil, errLineTooLong
		case err == nil:
			return k.long, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case total > maxDrainedLine:
			return nil, errEndlessLine
		}
	}
}

// more waits until octets of a body are buffered, and returns them.
func (k *link) more() ([]byte, error) {
	if k.in.Buffered() == 0 {
		if _, err := k.in.Peek(1); err != nil {
			return nil, err
		}
	}
	return k.in.Peek(k.in.Buffered())
}

// discard drains n octets of a body.
func (k *link) discard(n int64) error {
	for n > 0 {
		buffered, err := k.more()
		if err != nil {
			return err
		}
		m := min(n, int64(len(buffered)))
		k.in.Discard(int(m))
		n -= m
	}
	return nil
}

// hangUp sends what is queued and ends the conversation. With linger the client
// is known to be sending: closing at once would reset the connection and take
// the last reply with it.
func (k *link) hangUp(linger bool) {
	if k.dead {
		return
	}
	err := k.flush()
	k.dead = true
	if k.secure != nil && err == nil {
		k.secure.CloseWrite() // close_notify
	}
	half, ok := k.raw.(interface{ CloseWrite() error })
	if linger && ok && err == nil && half.CloseWrite() == nil {
		if k.arm(time.Now().Add(lingerTime), true) {
			io.CopyN(io.Discard, k.raw, lingerOctets)
		}
	}
	k.raw.Close()
}

// close frees the socket. Any goroutine.
func (k *link) close() error {
	err := k.raw.Close()
	k.once.Do(func() { k.listener.forget(k) })
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
