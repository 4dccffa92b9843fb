//go:build faults

package room

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// replyWithin is how long a device waits for the reply to its final dot.
const replyWithin = 10 * time.Second

// refusal is a reply that refused something.
type refusal struct {
	stage string // mail, rcpt, data, dot
	reply string
}

func (r *refusal) Error() string { return r.stage + ": " + r.reply }

// session is one connection of a device.
type session struct {
	*textproto.Conn
	socket net.Conn
}

// device is the address of the device that is registered with a relay of ours.
const device = "127.0.0.1"

func dial(address string) (*session, error) { return dialFrom(device, address) }

func dialFrom(from, address string) (*session, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &session{textproto.NewConn(conn), conn}
	_, _, err = s.ReadResponse(220)
	if err == nil {
		err = s.ask("ehlo", 250, "EHLO device.campus.test")
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ask sends a command and expects a code.
func (s *session) ask(stage string, code int, format string, args ...any) error {
	s.socket.SetDeadline(time.Now().Add(20 * time.Second))
	if err := s.PrintfLine(format, args...); err != nil {
		return err
	}
	return s.expect(stage, code)
}

func (s *session) expect(stage string, code int) error {
	_, _, err := s.ReadResponse(code)
	var said *textproto.Error
	if errors.As(err, &said) {
		return &refusal{stage, fmt.Sprintf("%d %s", said.Code, said.Msg)}
	}
	return err
}

// begin sends the envelope and DATA.
func (s *session) begin(to string) error {
	if err := s.ask("mail", 250, "MAIL FROM:<prn@campus.test>"); err != nil {
		return err
	}
	if err := s.ask("rcpt", 250, "RCPT TO:<%s>", to); err != nil {
		return err
	}
	return s.ask("data", 354, "DATA")
}

// write sends a content up to its final dot.
func (s *session) write(id string, octets int) error {
	s.socket.SetDeadline(time.Now().Add(60 * time.Second))
	line := strings.Repeat("x", 76) + "\r\n"
	if _, err := fmt.Fprintf(s.W, "From: prn@campus.test\r\nMessage-ID: %s\r\nSubject: scan\r\n\r\n%s", id, strings.Repeat(line, octets/len(line))); err != nil {
		return err
	}
	return s.W.Flush()
}

// undotted is a session of the printer that has sent a message up to its final
// dot.
func undotted(t *testing.T, address, id string, octets int) *session {
	t.Helper()
	s, err := dialFrom(world.Printer, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.begin("anna@campus.test"); err != nil {
		t.Fatal(err)
	}
	if err := s.write(id, octets); err != nil {
		t.Fatal(err)
	}
	return s
}

// dot sends the final dot and returns the reply to it.
func (s *session) dot() error {
	s.socket.SetDeadline(time.Now().Add(replyWithin))
	if err := s.PrintfLine("."); err != nil {
		return err
	}
	return s.expect("dot", 250)
}

// send is one message with that Message-ID.
func (s *session) send(id, to string, octets int) error {
	err := s.begin(to)
	if err == nil {
		err = s.write(id, octets)
	}
	if err == nil {
		err = s.dot()
	}
	return err
}

// devices is what a crowd of devices was told.
type devices struct {
	from string // their address
	away bool   // the relay may be away for a moment: who finds nobody has sent nothing

	mu       sync.Mutex
	accepted map[string]bool // Message-IDs answered 250
	refused  map[string]bool // answered 4xx at the dot
	replies  map[string]int  // refusals by stage and code
	unclear  map[string]bool // the dot sent, no reply
	wrong    []string        // what must not be
}

func newDevices() *devices {
	return &devices{from: device, accepted: map[string]bool{}, refused: map[string]bool{}, replies: map[string]int{}, unclear: map[string]bool{}}
}

// note takes down how a message fared, and reports that it was accepted.
func (d *devices) note(id string, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var said *refusal
	switch {
	case err == nil:
		d.accepted[id] = true
		return true
	case !errors.As(err, &said):
		d.unclear[id] = true
		d.wrong = append(d.wrong, fmt.Sprintf("%s: %v", id, err))
	default:
		d.replies[said.stage+" "+said.reply[:min(9, len(said.reply))]]++
		if said.stage == "dot" {
			d.refused[id] = true
		}
		if !strings.HasPrefix(said.reply, "4") {
			d.wrong = append(d.wrong, said.Error())
		}
	}
	return false
}

func (d *devices) said(reply string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replies[reply]
}

func (d *devices) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.accepted)
}

// crowd lets so many devices send messages, one connection each and one message
// after the other, until stop is called.
func (d *devices) crowd(t *testing.T, address, to string, size, connections int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	for n := range connections {
		sending.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("<%d.%d.%s>", n, i, to)
				s, err := dialFrom(d.from, address)
				if err == nil {
					err = s.send(id, to, size)
					s.Close()
				} else if d.away && !errors.As(err, new(*refusal)) {
					err = &refusal{"connect", "421 nobody there"}
				}
				if !d.note(id, err) {
					select { // a device does not try again at once
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	return func() {
		cancel()
		sending.Wait()
	}
}

// arrived waits until everything that was accepted is in the mailboxes, and
// nothing queued any more, and checks that each is there once.
func (d *devices) arrived(t *testing.T, file string, boxes ...*smtptest.MX) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	began := time.Now()
	world.WaitFor(t, "the accepted mail to arrive", func(context.Context) error {
		copies, missing := copiesIn(boxes), 0
		for id := range d.accepted {
			if copies[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing", missing, len(d.accepted))
		}
		return nil
	})
	took := time.Since(began).Round(10 * time.Millisecond)
	world.WaitFor(t, "all mail to be settled", func(context.Context) error { return queued(t, file) })
	copies := copiesIn(boxes)
	twice, late := 0, 0
	for id := range d.accepted {
		if copies[id] > 1 {
			twice++
			t.Errorf("%s arrived %d times", id, copies[id])
		}
	}
	for id := range d.refused {
		if copies[id] > 0 {
			late++
		}
	}
	t.Logf("%d accepted, all there after %s, settled after %s; %d of them twice; %d refused at the dot, %d of these arrived; refusals %v",
		len(d.accepted), took, time.Since(began).Round(10*time.Millisecond), twice, len(d.refused), late, d.replies)
	for _, w := range d.wrong {
		t.Error(w)
	}
}

// copiesIn counts the messages in mailboxes by Message-ID.
func copiesIn(boxes []*smtptest.MX) map[string]int {
	copies := map[string]int{}
	for _, mx := range boxes {
		for _, m := range mx.Deliveries() {
			copies[m.MessageID()]++
		}
	}
	return copies
}

// queued names a message of which a recipient is queued; nil when there is none.
func queued(t *testing.T, file string) error {
	t.Helper()
	for id, rows := range export(t, file) {
		for _, row := range rows {
			if row.State == books.StateQueued {
				return fmt.Errorf("%s: %+v", id, row)
			}
		}
	}
	return nil
}
