//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package smtpclient

import (
	"net"
	"syscall"
)

// quiet reports that an idle connection is open and has nothing to read. A
// server that got tired of waiting has sent 421, or FIN, or both; either is
// better noticed before a message is on its way.
func quiet(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var peek error
	err = raw.Read(func(fd uintptr) bool {
		var octet [1]byte
		_, _, peek = syscall.Recvfrom(int(fd), octet[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && (peek == syscall.EAGAIN || peek == syscall.EWOULDBLOCK)
}
