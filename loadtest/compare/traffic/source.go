package traffic

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Load says what to submit.
type Load struct {
	// Server is the address of the server.
	Server string
	// Run is the first half of every token.
	Run uint32
	// Messages to submit, over Connections side by side.
	Messages, Connections int
	// PerConnection is how many messages a connection carries before it is
	// closed and opened again; 0 for no end.
	PerConnection int
	// Sent, when not nil, is called around each message: when the final dot
	// was about to be written, and when its 250 was read.
	Sent func(dot, reply time.Time)
}

// Submit submits the load and returns when every message was answered 250, or
// with the first error.
func Submit(ctx context.Context, load Load, message Message) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next    atomic.Int64
		workers sync.WaitGroup
	)
	for range min(load.Connections, load.Messages) {
		s := &submitter{load: load, message: message.numbered(), next: &next}
		workers.Go(func() {
			if err := s.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// submitter is one connection and its successors.
type submitter struct {
	load    Load
	message stamped
	next    *atomic.Int64

	conn    net.Conn
	replies *bufio.Reader
	release func() bool
}

var (
	ehlo = []byte("EHLO client.load.test\r\n")
	mail = []byte("MAIL FROM:<" + reversePath + ">\r\n")
	rcpt = []byte("RCPT TO:<" + forwardPath + ">\r\n")
	data = []byte("DATA\r\n")
	quit = []byte("QUIT\r\n")
)

func (s *submitter) run(ctx context.Context) error {
	carried := 0
	for {
		number := s.next.Add(1) - 1
		if number >= int64(s.load.Messages) {
			break
		}
		if s.conn == nil {
			if err := s.connect(ctx); err != nil {
				return err
			}
			carried = 0
		}
		if err := s.submit(uint32(number)); err != nil {
			s.close()
			return err
		}
		if carried++; carried == s.load.PerConnection {
			if err := s.quit(); err != nil {
				return err
			}
		}
	}
	return s.quit()
}

func (s *submitter) connect(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.load.Server)
	if err != nil {
		return err
	}
	s.conn = conn
	s.release = context.AfterFunc(ctx, func() { conn.Close() })
	if s.replies == nil {
		s.replies = bufio.NewReaderSize(conn, 4096)
	} else {
		s.replies.Reset(conn)
	}
	if err := s.expect("220", "greeting"); err != nil {
		s.close()
		return err
	}
	if err := s.command(ehlo, "250"); err != nil {
		s.close()
		return err
	}
	return nil
}

func (s *submitter) submit(number uint32) error {
	if err := s.command(mail, "250"); err != nil {
		return err
	}
	if err := s.command(rcpt, "250"); err != nil {
		return err
	}
	if err := s.command(data, "354"); err != nil {
		return err
	}
	wire := s.message.stamp(s.load.Run, number)
	dot := time.Now()
	if _, err := s.conn.Write(wire); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	if err := s.expect("250", "message"); err != nil {
		return err
	}
	if s.load.Sent != nil {
		s.load.Sent(dot, time.Now())
	}
	return nil
}

// quit ends the connection, if there is one, as a client should: after the
// reply to QUIT.
func (s *submitter) quit() error {
	if s.conn == nil {
		return nil
	}
	defer s.close()
	return s.command(quit, "221")
}

func (s *submitter) close() {
	s.release()
	s.conn.Close()
	s.conn = nil
}

func (s *submitter) command(line []byte, want string) error {
	if _, err := s.conn.Write(line); err != nil {
		return fmt.Errorf("write %.4s: %w", line, err)
	}
	return s.expect(want, string(line[:4]))
}

// expect reads one reply, of any number of lines, that must have this code.
func (s *submitter) expect(code, to string) error {
	for {
		line, err := s.replies.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read reply to %s: %w", to, err)
		}
		if len(line) < 4 || string(line[:3]) != code {
			return fmt.Errorf("reply to %s: %s", to, bytes.TrimSpace(line))
		}
		if line[3] != '-' {
			return nil
		}
	}
}
