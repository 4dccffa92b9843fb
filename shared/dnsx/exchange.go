package dnsx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

var (
	errMismatch  = errors.New("the reply is to another question")
	errTruncated = errors.New("truncated reply over TCP")
	errTimeout   = errors.New("no answer in time")
)

// transport sends one query to one server.
type transport struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	timeout time.Duration // of one try over one network
}

// exchange asks over UDP, and over TCP when the reply did not fit. The reply
// has the ID and the question of the query; what it says is not judged here.
func (t *transport) exchange(ctx context.Context, address string, q question) (*dns.Msg, error) {
	query := q.message()
	reply, err := t.try(ctx, "udp", address, query)
	if err == nil && reply.Truncated {
		reply, err = t.try(ctx, "tcp", address, query)
		if err == nil && reply.Truncated {
			err = errTruncated
		}
		if err != nil {
			return nil, fmt.Errorf("over TCP: %w", err)
		}
	}
	return reply, err
}

// try is one query and its reply over one connection of its own, so that the
// port is fresh (RFC 5452 §4.5). Cancelling ctx ends it at once.
func (t *transport) try(ctx context.Context, network, address string, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.timeout, errTimeout)
	defer cancel()
	reply, err := t.converse(ctx, network, address, query)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return reply, err
}

func (t *transport) converse(ctx context.Context, network, address string, query *dns.Msg) (*dns.Msg, error) {
	conn, err := t.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The deadline of the connection follows the context, whose end the
	// library itself does not notice.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	c := &dns.Conn{Conn: conn, UDPSize: dns.DefaultMsgSize}
	if err := c.WriteMsg(query); err != nil {
		return nil, err
	}
	for {
		packet, err := c.ReadMsgHeader(nil)
		if errors.Is(err, dns.ErrShortRead) && network == "udp" {
			continue
		}
		if err != nil {
			return nil, err
		}
		if reply := read(packet, query); reply != nil {
			return reply, nil
		}
		// Over UDP anybody may send: the right reply may still come. Over TCP
		// it was the server.
		if network != "udp" {
			return nil, errMismatch
		}
	}
}

// read unpacks a packet; nil when it is no reply to the query or cannot be
// read. Of a truncated reply the header is enough: some servers cut it in the
// middle of a record.
func read(packet []byte, query *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	if err := reply.Unpack(packet); err != nil {
		const response, truncated = 0x80, 0x02 // RFC 1035 §4.1.1
		if binary.BigEndian.Uint16(packet) == query.Id && packet[2]&response != 0 && packet[2]&truncated != 0 {
			reply.Truncated = true
			return reply
		}
		return nil
	}
	if !matches(query, reply) {
		return nil
	}
	return reply
}
