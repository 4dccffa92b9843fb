package authority

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// link is a connection to the directory, encrypted or on loopback.
type link struct {
	*ldap.Conn
	raw net.Conn
}

// connection is one that is idle, or a fresh one.
func (l *LDAP) connection(ctx context.Context) (c *link, fresh bool, err error) {
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
func (l *LDAP) keep(c *link) {
	select {
	case l.idle <- c:
	default:
		c.Close()
	}
}

// connect tries one server after the other. Each has its part of the time that
// is left.
func (l *LDAP) connect(ctx context.Context) (*link, error) {
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

func (l *LDAP) dial(ctx context.Context, s server, within time.Duration) (*link, error) {
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
func (l *LDAP) secure(ctx context.Context, raw net.Conn, s server) (*link, error) {
	settings := l.tls.Clone()
	settings.ServerName = s.host
	if s.implicit {
		encrypted := tls.Client(raw, settings)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return started(raw, encrypted, true), nil
	}
	if l.cfg.Clear {
		if a, ok := raw.RemoteAddr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			return nil, fmt.Errorf("no password goes to %s in clear", raw.RemoteAddr())
		}
		return started(raw, raw, false), nil
	}
	c := started(raw, raw, false)
	defer c.bound(ctx)()
	if err := c.StartTLS(settings); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func started(raw, conn net.Conn, encrypted bool) *link {
	c := &link{ldap.NewConn(conn, encrypted), raw}
	c.Start()
	return c
}

// bound ends what the connection waits for when ctx ends, until it is released.
func (c *link) bound(ctx context.Context) (release func()) {
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
