package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// A packet of a milter begins with its length. The client reads what that says,
// however much, and takes for granted that it is something: this connection sees
// to both, and to the time that is left.

// maxPacket is the longest packet of a milter, in octets: a piece of a body that
// is replaced has up to 64 KiB.
const maxPacket = 128 << 10

var errPacket = errors.New("its answer is no packet of a milter")

// dialer connects to a milter for one message.
type dialer struct {
	ctx  context.Context
	conn *bounded
}

// Dial connects.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.conn = &bounded{Conn: conn, left: maxAnswer}
	if deadline, ok := d.ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	d.conn.stop = context.AfterFunc(d.ctx, func() { conn.Close() })
	return d.conn, nil
}

func (d *dialer) close() {
	if d.conn != nil {
		d.conn.stop()
		d.conn.Conn.Close()
	}
}

// bounded is a connection whose packets are looked at before the client reads
// them.
type bounded struct {
	net.Conn
	stop func() bool
	// left is how much may still come; packet is what is left of the packet that
	// has begun, and head what came of the length of the next.
	left   int
	packet int
	head   []byte
}

// Read reads on, up to the end of what is known of the packet.
func (b *bounded) Read(p []byte) (int, error) {
	if b.packet == 0 {
		p = p[:min(len(p), 4-len(b.head))]
	} else {
		p = p[:min(len(p), b.packet)]
	}
	n, err := b.Conn.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("its answer is longer than %d octets", maxAnswer)
	}
	if b.packet > 0 {
		b.packet -= n
		return n, err
	}
	if b.head = append(b.head, p[:n]...); len(b.head) == 4 {
		length := binary.BigEndian.Uint32(b.head)
		if b.head = b.head[:0]; length == 0 || length > maxPacket {
			return 0, errPacket
		}
		b.packet = int(length)
	}
	return n, err
}

// The deadline is that of the message, whatever the client would have.

// SetDeadline does nothing.
func (b *bounded) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (b *bounded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (b *bounded) SetWriteDeadline(time.Time) error { return nil }
