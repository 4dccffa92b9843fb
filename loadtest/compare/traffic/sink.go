package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Sink takes all mail and counts it by run.
type Sink struct {
	listener net.Listener
	sessions sync.WaitGroup
	buffers  sync.Pool // *[]byte; a server may open a connection per message

	mu      sync.Mutex
	tallies map[uint32]*Tally
	open    map[net.Conn]bool // nil when closed
	strays  int
	stray   string // the first of them
}

// NewSink listens on a free port of the loopback address.
func NewSink() (*Sink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Sink{listener: listener, tallies: map[uint32]*Tally{}, open: map[net.Conn]bool{}}
	s.buffers.New = func() any { buffer := make([]byte, 32<<10); return &buffer }
	return s, nil
}

// Address is where the sink listens.
func (s *Sink) Address() string { return s.listener.Addr().String() }

// Expect begins to count a run. Runs stay open: a copy that comes late makes
// the Check of its run fail, whenever that is asked.
func (s *Sink) Expect(run uint32, messages, signatures int, message Message) *Tally {
	t := newTally(messages, signatures, message)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tallies[run] = t
	return t
}

// Check is nil when everything that arrived belonged to a run.
func (s *Sink) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.strays > 0 {
		return fmt.Errorf("%d messages arrived that nobody submitted, the first: %.300q", s.strays, s.stray)
	}
	return nil
}

// Run serves until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	defer s.sessions.Wait()
	defer context.AfterFunc(ctx, s.close)()
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if !s.admit(conn) {
			conn.Close()
			return nil
		}
		s.sessions.Go(func() {
			defer s.dismiss(conn)
			buffer := s.buffers.Get().(*[]byte)
			r := &reception{sink: s, conn: conn, buffer: *buffer}
			r.serve()
			*buffer = r.buffer
			s.buffers.Put(buffer)
		})
	}
}

func (s *Sink) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
}

func (s *Sink) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[conn] = true
	return true
}

func (s *Sink) dismiss(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

func (s *Sink) arrived(message []byte) {
	now := time.Now()
	run, number, ok := tokenOf(message)
	s.mu.Lock()
	tally := s.tallies[run]
	if !ok || tally == nil {
		if s.strays++; s.strays == 1 {
			s.stray = string(message)
		}
		tally = nil
	}
	s.mu.Unlock()
	if tally != nil {
		tally.arrived(number, message, now)
	}
}

// reception is one session. What is pipelined is answered in one segment.
type reception struct {
	sink   *Sink
	conn   net.Conn
	buffer []byte // buffer[from:to] is read and not yet used
	from   int
	to     int
	out    []byte // replies not yet written
}

const ehloReply = "250-sink.load.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n"

var (
	errQuit  = errors.New("quit")
	errEarly = errors.New("message before the reply to DATA")
)

// serve ends with the connection. Why it ended is of no interest: what counts
// is what arrived.
func (r *reception) serve() {
	r.say("220 sink.load.test ESMTP\r\n")
	for {
		line, err := r.line()
		if err == nil {
			err = r.answer(line)
		}
		if err != nil {
			_ = r.flush()
			return
		}
	}
}

func (r *reception) answer(line []byte) error {
	switch string(bytes.ToUpper(line[:min(4, len(line))])) {
	case "EHLO":
		r.say(ehloReply)
	case "HELO", "MAIL", "RCPT", "RSET", "NOOP":
		r.say("250 2.0.0 Ok\r\n")
	case "DATA":
		r.say("354 Go on\r\n")
		if err := r.message(); err != nil {
			return err
		}
		r.say("250 2.0.0 Counted\r\n")
	case "QUIT":
		r.say("221 2.0.0 Bye\r\n")
		return errQuit
	default:
		r.say("502 5.5.2 Unknown\r\n")
	}
	return nil
}

func (r *reception) say(reply string) { r.out = append(r.out, reply...) }

// line takes the next line, valid until the next read.
func (r *reception) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buffer[r.from:r.to], '\n'); i >= 0 {
			line := r.buffer[r.from : r.from+i]
			r.from += i + 1
			return line, nil
		}
		if err := r.read(); err != nil {
			return nil, err
		}
	}
}

// message takes a message up to its final dot and has it counted. A line break
// before the header makes every field begin with one.
func (r *reception) message() error {
	if r.from != r.to {
		return errEarly
	}
	r.from, r.to = 0, copy(r.buffer, "\r\n")
	searched := 0
	for {
		if i := bytes.Index(r.buffer[searched:r.to], []byte("\r\n.\r\n")); i >= 0 {
			end := searched + i + 2
			r.sink.arrived(r.buffer[:end])
			r.from = end + 3
			return nil
		}
		searched = max(0, r.to-4)
		if err := r.read(); err != nil {
			return err
		}
	}
}

// read writes what is to be said, since the peer waits, and reads more behind
// what is not yet used.
func (r *reception) read() error {
	if err := r.flush(); err != nil {
		return err
	}
	if r.from > 0 {
		r.to = copy(r.buffer, r.buffer[r.from:r.to])
		r.from = 0
	}
	if r.to == len(r.buffer) {
		r.buffer = append(r.buffer, make([]byte, len(r.buffer))...)
	}
	n, err := r.conn.Read(r.buffer[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	return err
}

func (r *reception) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	_, err := r.conn.Write(r.out)
	r.out = r.out[:0]
	return err
}
