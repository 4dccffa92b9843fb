package wire_test

import (
	"io"
	"log"
	"net"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/services/ingress/wire"
)

// pipes is a listener of in-memory connections, for tests that own the clock.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial connects a client.
func (p *pipes) dial(t *testing.T) *client {
	near, far := net.Pipe()
	p.conns <- far
	t.Cleanup(func() { near.Close() })
	return newClient(t, near)
}

// pipedBare starts go-smtp alone in the bubble of the test; the returned
// function stops it.
func pipedBare(b *backend, adjust func(*gosmtp.Server)) (*pipes, func()) {
	p, s := newPipes(), gosmtp.NewServer(b)
	s.ErrorLog = log.New(io.Discard, "", 0)
	adjust(s)
	go s.Serve(p)
	return p, func() { s.Close() }
}

// pipedWire is the same with wire in front.
func pipedWire(b *backend, cfg wire.Config) (*pipes, *wire.Listener, func()) {
	p, s := newPipes(), gosmtp.NewServer(b)
	s.ErrorLog = log.New(io.Discard, "", 0)
	wire.Configure(s, cfg)
	l := wire.NewListener(p, cfg)
	go s.Serve(l)
	return p, l, func() { s.Close() }
}
