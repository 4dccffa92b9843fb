//go:build compose

package compose

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Every batch is so many messages to two recipients each, over so many
// connections at a time. The second recipient of every fifth message does not
// exist: one in ten. A worker serves some destinations alone; there are enough
// of them that every worker has some.
const (
	messages     = 200
	connections  = 10
	badEvery     = 5
	bad          = messages / badEvery
	destinations = 40
	sender       = "me@campus.test"
)

// batch is mail that is being submitted.
type batch struct {
	name string
	// slow makes the sink take from one to ten seconds for each message, so
	// that mail is under way while something happens to a worker.
	slow bool

	done chan error // has one value when all of it was accepted, or one was not
}

// recipients of one message: the first is good, the second is bad for every
// fifth. What they do to the sink is in the grammar of smtptest.
func (b *batch) recipients(i int) [2]string {
	first, second := "first", "second"
	if b.slow {
		first = fmt.Sprintf("pause-%ds", 1+i%10)
	}
	if b.isBad(i) {
		second = "550-5.1.1"
	}
	detail := fmt.Sprintf("+%s-%d@d%d.example.test", b.name, i, i%destinations)
	return [2]string{first + detail, second + detail}
}

func (b *batch) isBad(i int) bool { return i%badEvery == 0 }

func (b *batch) subject(i int) string { return fmt.Sprintf("%s %d", b.name, i) }

// submit begins to submit a batch to the published port.
func (p *project) submit(b *batch) *batch {
	address := p.docker("port", "ingress", "2525")
	b.done = make(chan error, 1)
	group, ctx := errgroup.WithContext(p.ctx)
	for c := range connections {
		group.Go(func() error {
			return device(ctx, address, func(text *textproto.Conn) error {
				for i := c; i < messages; i += connections {
					if err := send(text, b.recipients(i), b.subject(i)); err != nil {
						return fmt.Errorf("message %d: %w", i, err)
					}
				}
				return nil
			})
		})
	}
	go func() { b.done <- group.Wait() }()
	return b
}

// begins waits until some of it has arrived, with more under way: what happens
// to a worker then happens under load.
func (b *batch) begins(p *project) {
	p.t.Helper()
	n := 0
	p.until("batch "+b.name+" to arrive", time.Minute, func() error {
		select {
		case err := <-b.done:
			if b.done <- err; err != nil {
				p.t.Fatalf("submit batch %s: %v", b.name, err)
			}
		default:
		}
		if n = b.arrived(p); n == 0 {
			return errors.New("nothing has")
		}
		return nil
	})
	p.t.Logf("%d of %d messages have arrived", n, messages)
	if n >= messages/2 {
		p.t.Errorf("most of batch %s arrived before anything happened", b.name)
	}
}

// arrived counts its messages at the sink.
func (b *batch) arrived(p *project) int {
	p.t.Helper()
	mail, _ := copies(p.arrivals())
	n := 0
	for i := range messages {
		n += min(mail[b.recipients(i)[0]], 1)
	}
	return n
}

// wait waits until all of it has been accepted.
func (b *batch) wait(p *project) {
	p.t.Helper()
	if err := <-b.done; err != nil {
		p.t.Fatalf("submit batch %s: %v", b.name, err)
	}
}

// device is a session of a device that speaks SMTP without TLS.
func device(ctx context.Context, address string, work func(*textproto.Conn) error) error {
	text, err := textproto.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer text.Close()
	defer context.AfterFunc(ctx, func() { text.Close() })()
	if _, _, err := text.ReadResponse(220); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if err := command(text, 250, "EHLO device.campus.test"); err != nil {
		return err
	}
	if err := work(text); err != nil {
		return err
	}
	return command(text, 221, "QUIT")
}

// send sends one message.
func send(text *textproto.Conn, recipients [2]string, subject string) error {
	if err := command(text, 250, "MAIL FROM:<"+sender+">"); err != nil {
		return err
	}
	for _, r := range recipients {
		if err := command(text, 250, "RCPT TO:<"+r+">"); err != nil {
			return err
		}
	}
	if err := command(text, 354, "DATA"); err != nil {
		return err
	}
	return command(text, 250, "From: "+sender+"\r\nTo: "+strings.Join(recipients[:], ", ")+"\r\nSubject: "+subject+"\r\n\r\nA page.\r\n..\r\n.")
}

func command(text *textproto.Conn, want int, line string) error {
	if err := text.PrintfLine("%s", line); err != nil {
		return err
	}
	if _, _, err := text.ReadResponse(want); err != nil {
		verb, _, _ := strings.Cut(line, "\r\n")
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}
