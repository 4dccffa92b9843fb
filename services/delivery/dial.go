package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connectTimeout is for one address. RFC 5321 §4.5.3.2 leaves it open and
// asks for minutes only from the greeting on; a host that has not completed a
// handshake in this time has others beside it, and an attempt is due again.
const connectTimeout = 30 * time.Second

// errNoSource: delivery.source_addresses has none of the family.
var errNoSource = errors.New("no source address of this family")

// dialer connects from the addresses that may be used.
type dialer struct {
	sources []netip.Addr // empty leaves it to the system
}

// dial connects to one address. closed is called once, when the connection
// is.
func (d *dialer) dial(ctx context.Context, to netip.AddrPort, closed func()) (net.Conn, error) {
	from, err := d.source(to.Addr())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	dialer := net.Dialer{Timeout: connectTimeout, LocalAddr: from}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return &tracked{TCPConn: conn.(*net.TCPConn), closed: sync.OnceFunc(closed)}, nil
}

// source picks one of the addresses at random. Mail must not leave from
// another one: SPF and the reverse DNS know only these. The loopback is
// reached from where the system likes.
func (d *dialer) source(to netip.Addr) (net.Addr, error) {
	if len(d.sources) == 0 || to.IsLoopback() {
		return nil, nil
	}
	var fitting []netip.Addr
	for _, s := range d.sources {
		if s.Is4() == to.Is4() {
			fitting = append(fitting, s)
		}
	}
	if len(fitting) == 0 {
		return nil, errNoSource
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(fitting[rand.IntN(len(fitting))], 0)), nil
}

// tracked is a connection that tells when it is closed. It stays a TCPConn,
// so that the client can look at its socket.
type tracked struct {
	*net.TCPConn
	closed func()
}

// Close closes the connection.
func (t *tracked) Close() error {
	t.closed()
	return t.TCPConn.Close()
}
