package wire

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

func TestPeerOf(t *testing.T) {
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 5}, "10.1.2.3"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3"), Port: 5}, "10.1.2.3"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:3:4:5:6"), Port: 5}, "2001:db8:1:2::"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 5}, "fe80::"},
		{&net.UDPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 5}, "10.1.2.3"},
		{&net.UnixAddr{Name: "x"}, "invalid IP"},
		{nil, "invalid IP"},
	} {
		if got := peerOf(tt.addr).String(); got != tt.want {
			t.Errorf("peerOf(%v) = %s, want %s", tt.addr, got, tt.want)
		}
	}
}

func TestPeers(t *testing.T) {
	p, a := make(peers), peerOf(&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)})
	if !p.add(a, 2) || !p.add(a, 2) || p.add(a, 2) {
		t.Error("the limit does not hold")
	}
	p.remove(a)
	if !p.add(a, 2) {
		t.Error("a removed connection still counts")
	}
	p.remove(a)
	p.remove(a)
	if len(p) != 0 {
		t.Errorf("left over: %v", p)
	}
}

// faltering fails a few times and then is closed.
type faltering struct{ left int }

func (f *faltering) Accept() (net.Conn, error) {
	if f.left--; f.left < 0 {
		return nil, net.ErrClosed
	}
	return nil, errors.New("too many open files")
}
func (f *faltering) Close() error   { return nil }
func (f *faltering) Addr() net.Addr { return nil }

// Trouble in accepting is waited out; go-smtp, which would stop serving, does
// not hear of it.
func TestAcceptTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &faltering{left: 12}
		if _, err := NewListener(inner, Config{}).Accept(); !errors.Is(err, net.ErrClosed) || inner.left != -1 {
			t.Errorf("Accept: %v, %d failures left", err, inner.left)
		}
	})
}
