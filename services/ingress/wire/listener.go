package wire

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Listener yields Conns for go-smtp's Server.Serve. Connections are screened
// and, for implicit TLS, shaken hands with on goroutines of their own: a slow
// client, or a slow PROXY header below, holds up nobody.
type Listener struct {
	inner net.Listener
	cfg   Config

	begin    sync.Once
	halt     sync.Once
	queue    chan *Conn
	stop     chan struct{} // closed by Close and Shutdown
	stopping atomic.Bool   // the same, for the goroutines of connections

	mu    sync.Mutex
	links map[*link]struct{}
	peers peers
	empty chan struct{} // closed when stopping and the last link is gone
}

// NewListener wraps inner, which may be a PROXY protocol listener. It takes
// connections from the first Accept on.
func NewListener(inner net.Listener, cfg Config) *Listener {
	return &Listener{
		inner: inner,
		cfg:   cfg.withDefaults(),
		queue: make(chan *Conn),
		stop:  make(chan struct{}),
		links: make(map[*link]struct{}),
		peers: make(peers),
		empty: make(chan struct{}),
	}
}

// Accept returns the next connection that passed the limits, a *Conn. After
// Close or Shutdown it returns net.ErrClosed, which Server.Serve returns in
// turn.
func (l *Listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.acceptAll() })
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.stop:
		return nil, net.ErrClosed
	}
}

// acceptAll survives everything but the end of the inner listener: a shortage
// of descriptors and a bad PROXY header are trouble of one moment or one
// client.
func (l *Listener) acceptAll() {
	const shortest, longest = 5 * time.Millisecond, time.Second
	wait := shortest
	for {
		raw, err := l.inner.Accept()
		switch {
		case err == nil:
			wait = shortest
			go l.admit(raw)
		case l.stopping.Load() || errors.Is(err, net.ErrClosed):
			l.Close()
			return
		default:
			select {
			case <-time.After(wait):
			case <-l.stop:
				return
			}
			wait = min(2*wait, longest)
		}
	}
}

// admit counts one connection, secures it where TLS is implicit, and queues it.
func (l *Listener) admit(raw net.Conn) {
	k := newLink(l, raw, raw.RemoteAddr())
	k.address = peerOf(k.remote)
	if refusal, ok := l.track(k); !ok {
		l.refuse(k, refusal)
		return
	}
	if l.cfg.ImplicitTLS {
		if err := k.shakeHands(); err != nil {
			k.close()
			return
		}
	}
	l.enqueue(newConn(k, false))
}

// enqueue hands c to Accept; when nobody accepts any more, c is told so.
func (l *Listener) enqueue(c *Conn) {
	select {
	case l.queue <- c:
	case <-l.stop:
		c.shutDown()
		c.link.close()
	}
}

// track admits k to the set of open links, or names the reason not to.
func (l *Listener) track(k *link) (Refusal, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	refusal := Refusal{Kind: KindConnections, Remote: k.remote, Local: k.raw.LocalAddr(), Reply: replyBusy}
	switch {
	case l.stopping.Load():
		refusal.Kind, refusal.Reply = KindShutdown, smtp.ReplyShutdown
		return refusal, false
	case l.cfg.MaxConnections > 0 && len(l.links) >= l.cfg.MaxConnections:
		return refusal, false
	case !l.peers.add(k.address, l.cfg.MaxConnectionsPerAddress):
		refusal.Reply = replyBusyAddress
		return refusal, false
	}
	l.links[k] = struct{}{}
	return Refusal{}, true
}

// refuse answers a connection that is not admitted. On a port of implicit TLS a
// reply would cost a handshake, which is what a flood wants: it is closed.
func (l *Listener) refuse(k *link, r Refusal) {
	if l.cfg.ImplicitTLS {
		r.Reply = smtp.Reply{}
	}
	reply := l.tell(r)
	if !reply.IsZero() {
		k.out = appendReply(k.out, reply)
	}
	k.hangUp(false)
}

// tell reports a refusal and returns the reply to send.
func (l *Listener) tell(r Refusal) smtp.Reply {
	if l.cfg.Refused == nil {
		return r.Reply
	}
	reply := l.cfg.Refused(r)
	if r.Reply.IsZero() || reply.IsZero() {
		return r.Reply // what must be silent stays so, what must be said is said
	}
	return reply
}

// leaving frees the place of a client that said QUIT: it may connect again
// before its old connection is closed.
func (l *Listener) leaving(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers.remove(k.address)
	k.address = netip.Addr{}
}

// forget is called once for every tracked link, when go-smtp is done with it.
func (l *Listener) forget(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.links[k]; !ok {
		return
	}
	delete(l.links, k)
	l.peers.remove(k.address)
	if len(l.links) == 0 && l.stopping.Load() {
		close(l.empty)
	}
}

// Connections is the number of open sockets.
func (l *Listener) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.links)
}

// Addr is the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting. Open connections are told so as Shutdown describes;
// Close does not wait for them.
func (l *Listener) Close() error {
	var err error
	l.halt.Do(func() {
		l.mu.Lock()
		l.stopping.Store(true)
		close(l.stop)
		if len(l.links) == 0 {
			close(l.empty)
		}
		open := l.snapshot()
		l.mu.Unlock()
		err = l.inner.Close()
		for _, k := range open {
			k.interrupt()
		}
	})
	return err
}

// Shutdown stops accepting, answers 421 to idle clients at once and to busy
// ones after the message they are sending, and returns when go-smtp is done
// with all of them. When ctx ends first, what is still open is closed as it is
// and the error is that of ctx.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.Close()
	select {
	case <-l.empty:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	open := l.snapshot()
	l.mu.Unlock()
	for _, k := range open {
		k.raw.Close()
	}
	return ctx.Err()
}

func (l *Listener) snapshot() []*link {
	open := make([]*link, 0, len(l.links))
	for k := range l.links {
		open = append(open, k)
	}
	return open
}

// peers counts connections per address.
type peers map[netip.Addr]int

// add counts one more connection unless there are limit already.
func (p peers) add(address netip.Addr, limit int) bool {
	if !address.IsValid() {
		return true
	}
	if limit > 0 && p[address] >= limit {
		return false
	}
	p[address]++
	return true
}

func (p peers) remove(address netip.Addr) {
	if p[address]--; p[address] <= 0 {
		delete(p, address)
	}
}

// peerOf is what counts as one address: an IPv4 address, or an IPv6 /64, which
// is what one host has.
func peerOf(a net.Addr) netip.Addr {
	address := addressOf(a)
	if address.Is4() || !address.IsValid() {
		return address
	}
	prefix, err := address.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return prefix.Addr()
}

// addressOf is the IP address of a socket's end, in its canonical form; zero
// where it has none.
func addressOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	port, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return port.Addr().Unmap()
}
