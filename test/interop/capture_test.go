//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/test/world"
)

// Capture is what goes over the wire to and from one address, packet by
// packet, as tcpdump writes it (pcap).
type Capture struct {
	address string
	cmd     *exec.Cmd
	said    locked // stderr
	packets locked
}

// StartCapture listens to TCP on loopback from now on.
func StartCapture(t testing.TB, address string) *Capture {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	c := &Capture{address: address, cmd: exec.Command("/usr/bin/tcpdump", "--interface=lo", "--immediate-mode",
		"--packet-buffered", "--snapshot-length=0", "-Z", "root", "-w", "-", "tcp port "+port+" and host "+host)}
	c.cmd.Stdout, c.cmd.Stderr = &c.packets, &c.said
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	world.WaitFor(t, "tcpdump", func(context.Context) error {
		if said := string(c.said.Bytes()); !strings.Contains(said, "listening on lo") {
			return errors.New(said)
		}
		return nil
	})
	return c
}

// Bytes is everything up to now. A marker that is sent last tells that nothing
// is still under way.
func (c *Capture) Bytes(t testing.TB) []byte {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	marker := rand.Text()
	fmt.Fprintf(conn, "NOOP %s\r\nQUIT\r\n", marker)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	world.WaitFor(t, "the marker on the wire", func(context.Context) error {
		if !bytes.Contains(c.packets.Bytes(), []byte(marker)) {
			return fmt.Errorf("not in %d octets; tcpdump said: %s", len(c.packets.Bytes()), c.said.Bytes())
		}
		return nil
	})
	return c.packets.Bytes()
}

// locked collects what a process writes.
type locked struct {
	mu  sync.Mutex
	buf []byte
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	return len(p), nil
}

func (l *locked) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf)
}
