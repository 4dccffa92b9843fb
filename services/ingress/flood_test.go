package ingress

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// A flood of refused recipients is answered one by one, and does not keep a
// device from sending, nor its refusals from being found: of each address the
// first are kept singly, the rest counted, and all add up. `make flood` is the
// long form.
func TestFlood(t *testing.T) {
	const (
		addresses, sessions = 10, 20 // each
		perSession          = 100    // wire ends a session after as many
		flooded             = addresses * sessions * perSession
	)
	r := start(t)
	var flooders sync.WaitGroup
	for a := range addresses {
		from := netip.AddrFrom4([4]byte{127, 66, 0, byte(a + 1)}).String()
		flooders.Go(func() {
			for range sessions {
				if n := flood(t, from, r.cfg.Listeners[0].Address, perSession); n != perSession {
					t.Errorf("%d of %d recipients refused", n, perSession)
				}
			}
		})
	}
	served := 0
	done := make(chan struct{})
	go func() { flooders.Wait(); close(done) }()
	for over := false; !over; served++ {
		r.send(device, message, "x@example.test")
		select {
		case <-done:
			over = true
		default:
		}
	}
	c := r.begin(campus)
	ref := mail.Ref(strings.Fields(c.say("RCPT TO:<x@example.test>", "550 5.7.1 "))[2])
	c.say("QUIT", "221")
	singly, counted := map[string]int{}, 0
	kept := r.refusals()
	for _, e := range kept {
		if e.Count == 1 {
			singly[e.Facts.Address.String()]++
		}
		counted += e.Count
	}
	if counted != flooded+1 || kept[ref] == nil {
		t.Errorf("%d refusals counted of %d, that of another: %v", counted, flooded+1, kept[ref])
	}
	if len(singly) != addresses+1 || len(kept) > 3*(addresses+1)*(evidenceSingles+1) { // the minute may have turned
		t.Errorf("%d records, singly %v", len(kept), singly)
	}
	t.Logf("%d recipients refused, %d records; %d messages of a device meanwhile", flooded, len(kept), served)
}

// flood is one session of refused recipients in a single segment, and how many
// were refused with a reference of their own.
func flood(t *testing.T, from, to string, recipients int) (refused int) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil {
		t.Error(err)
		return 0
	}
	text := bytes.NewBufferString("HELO flood\r\nMAIL FROM:<a@campus.test>\r\n")
	for range recipients {
		text.WriteString("RCPT TO:<x@example.test>\r\n")
	}
	if _, err := conn.Write(append(text.Bytes(), "QUIT\r\n"...)); err != nil {
		t.Error(err)
		return 0
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return refused
		}
		if words := strings.Fields(line); len(words) > 2 && words[0] == "550" {
			if _, err := mail.ParseRef(words[2]); err == nil {
				refused++
			}
		}
	}
}
