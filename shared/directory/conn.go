package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Conn is a connection to the directory, encrypted or on loopback.
type Conn struct {
	*ldap.Conn
	client *Client
	raw    net.Conn
}

// patience is how long a server is waited for where nobody says otherwise.
const patience = 5 * time.Second

// connection is one that is idle, or a fresh one.
func (l *Client) connection(ctx context.Context) (c *Conn, fresh bool, err error) {
	for {
		select {
		case c := <-l.idle:
			if !c.IsClosing() {
				return c, false, nil
			}
			c.Close()
		default:
			c, err := l.connect(ctx)
			return c, true, err
		}
	}
}

// keep puts a connection back, unless enough are there.
func (l *Client) keep(c *Conn) {
	select {
	case l.idle <- c:
	default:
		c.Close()
	}
}

// connect tries one server after the other. Each has its part of the time that
// is left.
func (l *Client) connect(ctx context.Context) (*Conn, error) {
	var failed []error
	for i, s := range l.servers {
		part := patience
		if deadline, ok := ctx.Deadline(); ok {
			part = time.Until(deadline) / time.Duration(len(l.servers)-i)
		}
		c, err := l.dial(ctx, s, part)
		if err == nil {
			return c, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", s.address, err))
	}
	return nil, errors.Join(failed...)
}

func (l *Client) dial(ctx context.Context, s server, within time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c, err := l.secure(ctx, raw, s)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// secure brings a connection under TLS, by which the server proves its name.
func (l *Client) secure(ctx context.Context, raw net.Conn, s server) (*Conn, error) {
	settings := l.tls.Clone()
	settings.ServerName = s.host
	if s.implicit {
		encrypted := tls.Client(raw, settings)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return l.started(raw, encrypted, true), nil
	}
	if l.cfg.Clear {
		if a, ok := raw.RemoteAddr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			return nil, fmt.Errorf("no password goes to %s in clear", raw.RemoteAddr())
		}
		return l.started(raw, raw, false), nil
	}
	c := l.started(raw, raw, false)
	defer c.bound(ctx)()
	if err := c.StartTLS(settings); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (l *Client) started(raw, conn net.Conn, encrypted bool) *Conn {
	c := &Conn{ldap.NewConn(conn, encrypted), l, raw}
	c.Start()
	return c
}

// bound ends what the connection waits for when ctx ends, until it is released.
func (c *Conn) bound(ctx context.Context) (release func()) {
	if deadline, ok := ctx.Deadline(); ok {
		c.raw.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if stop() {
			c.raw.SetDeadline(time.Time{})
		}
	}
}
