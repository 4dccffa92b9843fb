package smtptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// Sizes of the buffers of a session, in octets. A command line must fit into
// the first.
const (
	readBuffer  = 32 << 10
	writeBuffer = 4 << 10
	maxLine     = 12288 // RFC 4954 §4
)

var (
	errLineEnd  = errors.New("command line without CR LF")
	errLineLong = errors.New("command line too long")
)

// pace is how slowly the MX writes.
type pace struct{ tarpit, trickle time.Duration }

// wire is one connection: lines in, replies out. Replies are gathered and
// written when the session has to wait for the client, so that a pipelined
// group of commands is answered in one segment (RFC 2920 §3.2).
type wire struct {
	ctx    context.Context
	conn   net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	idle   time.Duration
	pace   pace
	record *Transcript // nil: none
}

// use makes conn the connection, forgetting everything buffered (RFC 3207 §4.2).
func (w *wire) use(conn net.Conn) {
	w.conn = conn
	w.r.Reset(w)
	w.w.Reset(connWriter{w})
}

// Read writes out the pending replies, then waits for the client.
func (w *wire) Read(p []byte) (int, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(w.idle)); err != nil {
		return 0, err
	}
	// The order matters: whoever ends ctx moves the deadline afterwards, so
	// one of the two sees the other.
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.conn.Read(p)
}

func (w *wire) flush() error { return w.w.Flush() }

// connWriter is the connection below the buffer of replies.
type connWriter struct{ *wire }

// Write gives the client as long as it may be silent, and little at shutdown.
func (w connWriter) Write(p []byte) (int, error) {
	patience := w.idle
	if w.ctx.Err() != nil {
		patience = min(time.Second, patience)
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return w.conn.Write(p)
}

// line reads one command without its CR LF.
func (w *wire) line() (string, error) {
	raw, err := w.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errLineLong
	}
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(string(raw), "\r\n")
	w.record.add("C: ", strings.TrimRight(string(raw), "\r\n"))
	switch {
	case len(raw) > maxLine:
		return "", errLineLong
	case !ok || strings.ContainsAny(text, "\r\x00"):
		return "", errLineEnd
	}
	return text, nil
}

// say writes the lines of one reply, each with its code.
func (w *wire) say(code int, lines ...string) error {
	w.pause(w.pace.tarpit)
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		text := strconv.Itoa(code) + separator + line
		w.record.add("S: ", text)
		if err := w.write(text + "\r\n"); err != nil {
			return err
		}
	}
	return nil
}

func (w *wire) write(text string) error {
	if w.pace.trickle <= 0 {
		_, err := w.w.WriteString(text)
		return err
	}
	for i := range len(text) {
		w.pause(w.pace.trickle)
		if err := w.w.WriteByte(text[i]); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

// pause lets the client wait, with everything before already written.
func (w *wire) pause(d time.Duration) {
	if d > 0 && w.flush() == nil {
		wait(w.ctx, d)
	}
}

// handshake starts TLS on the connection.
func (w *wire) handshake(config *tls.Config) (tls.ConnectionState, error) {
	conn := tls.Server(w.conn, config)
	ctx, cancel := context.WithTimeout(w.ctx, w.idle)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	w.use(conn)
	return conn.ConnectionState(), nil
}
