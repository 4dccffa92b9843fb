// Package porttest finds ports for servers that a test starts, stops and starts
// again.
//
// A port that the kernel chose is from the range that it also gives to outgoing
// connections: between two moments at which nobody listens on it, a connection
// of the test takes it, or the kernel offers it a second time. The ports here
// lie below that range (net.ipv4.ip_local_port_range begins at 32,768), so that
// they stay free until they are listened on.
package porttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// lowest and highest bound the ports given: [lowest, highest).
const lowest, highest = 10_000, 30_000

// Address is one of 127.0.0.1 that nobody listens on.
func Address(t testing.TB) string {
	t.Helper()
	return Addresses(t, 1)[0]
}

// Addresses are n of 127.0.0.1, no two alike, that nobody listens on.
func Addresses(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		socket := listen(t, "127.0.0.1")
		defer socket.Close() // held until all are found
		out = append(out, socket.Addr().String())
	}
	return out
}

// Shared is one port that nobody listens on at any of some addresses.
func Shared(t testing.TB, ips ...string) int {
	t.Helper()
next:
	for {
		first := listen(t, ips[0])
		first.Close()
		port := first.Addr().(*net.TCPAddr).Port
		for _, ip := range ips[1:] {
			socket, taken := try(t, ip, port)
			if taken {
				continue next
			}
			socket.Close()
		}
		return port
	}
}

func listen(t testing.TB, ip string) net.Listener {
	t.Helper()
	for {
		if socket, taken := try(t, ip, lowest+rand.IntN(highest-lowest)); !taken {
			return socket
		}
	}
}

// try listens on a port, unless somebody else does.
func try(t testing.TB, ip string, port int) (socket net.Listener, taken bool) {
	t.Helper()
	socket, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, true
	}
	if err != nil {
		t.Fatal(err)
	}
	return socket, false
}
