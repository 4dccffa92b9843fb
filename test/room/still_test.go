//go:build faults

package room

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/test/world"
)

// TestStoodStill: ingress stands still for longer than a device waits for its
// reply, with the acknowledgement of the message unread. It then says 250, and
// not 451 for what is stored and delivered.
func TestStoodStill(t *testing.T) {
	w, relay := separate(t, t.TempDir())
	ingress, server := relay.Service(t, "ingress"), relay.NATS.Nodes[0]
	const id, octets = "<still@campus.test>", 100 << 10
	s := undotted(t, w.SMTP, id, octets)
	server.Freeze(t)
	began := time.Now()
	if err := s.PrintfLine("."); err != nil {
		t.Fatal(err)
	}
	world.WaitFor(t, "the message to lie before the server", func(context.Context) error {
		if n := unread(t, server.Address); n < octets {
			return fmt.Errorf("%d octets", n)
		}
		return nil
	})
	ingress.Freeze(t)
	server.Signal(t, syscall.SIGCONT)
	world.WaitFor(t, "the message to be delivered, and longer than a device waits", func(context.Context) error {
		switch {
		case len(w.Campus.Deliveries()) == 0:
			return errors.New("not delivered")
		case time.Since(began) < replyWithin:
			return errors.New("not as long")
		}
		return nil
	})
	ingress.Signal(t, syscall.SIGCONT)
	s.socket.SetDeadline(time.Now().Add(replyWithin))
	if err := s.expect("dot", 250); err != nil {
		t.Error(err)
	}
	w.Balances()
	if n := len(w.Campus.Deliveries()); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// unread is how much of what was sent to an address lies in the queues of both
// ends: how much of it the receiver takes unread is the kernel's choice.
func unread(t *testing.T, address string) (octets int64) {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	local, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		f := strings.Fields(lines.Text()) // sl local_address rem_address st tx_queue:rx_queue
		if len(f) < 5 {
			continue
		}
		sent, received, _ := strings.Cut(f[4], ":")
		for end, queue := range map[string]string{f[1]: received, f[2]: sent} {
			if !strings.HasSuffix(end, fmt.Sprintf(":%04X", local)) {
				continue
			}
			n, err := strconv.ParseInt(queue, 16, 64)
			if err != nil {
				t.Fatalf("read %q: %v", lines.Text(), err)
			}
			octets += n
		}
	}
	return octets
}
