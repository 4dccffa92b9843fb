package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// sink is a server that accepts everything, answers a group of commands in one
// write, and keeps what it was sent as content, still stuffed.
type sink struct {
	extensions []string
	quiet      bool // do not keep content
	contents   [][]byte
	commands   []string
}

func (s *sink) serve(conn net.Conn) error {
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	io.WriteString(out, "220 sink.test ESMTP\r\n")
	for {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !s.quiet {
			s.commands = append(s.commands, strings.TrimSpace(string(line)))
		}
		switch verb := string(bytes.ToUpper(line[:4])); verb {
		case "EHLO":
			io.WriteString(out, "250-sink.test\r\n")
			for _, e := range s.extensions {
				fmt.Fprintf(out, "250-%s\r\n", e)
			}
			io.WriteString(out, "250 HELP\r\n")
		case "DATA":
			io.WriteString(out, "354 go\r\n")
			out.Flush()
			if err := s.data(in); err != nil {
				return err
			}
			io.WriteString(out, "250 2.0.0 queued\r\n")
		case "BDAT":
			var n int64
			fmt.Sscanf(string(line), "BDAT %d LAST", &n)
			if err := s.bdat(in, n); err != nil {
				return err
			}
			io.WriteString(out, "250 2.0.0 queued\r\n")
		case "QUIT":
			io.WriteString(out, "221 bye\r\n")
			return out.Flush()
		default:
			io.WriteString(out, "250 2.1.0 Ok\r\n")
		}
	}
}

func (s *sink) data(in *bufio.Reader) error {
	var content []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			s.contents = append(s.contents, content)
			return err
		}
		if string(line) == ".\r\n" {
			s.contents = append(s.contents, content)
			return nil
		}
		if !s.quiet {
			content = append(content, line...)
		}
	}
}

func (s *sink) bdat(in *bufio.Reader, n int64) error {
	if s.quiet {
		_, err := io.CopyN(io.Discard, in, n)
		return err
	}
	var content bytes.Buffer
	_, err := io.CopyN(&content, in, n)
	s.contents = append(s.contents, content.Bytes())
	return err
}

// connect starts a session with the sink over a real connection. The returned
// wait closes the session and waits for the sink to end.
func (s *sink) connect(t testing.TB, wrap func(net.Conn) net.Conn) (session *Session, wait func()) {
	t.Helper()
	client, server := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- s.serve(server) }()
	if wrap != nil {
		client = wrap(client)
	}
	session, err := Start(t.Context(), client, "sink.test", Config{Hello: "relay.test", TLS: Never})
	if err != nil {
		t.Fatal(err)
	}
	return session, func() {
		session.Close()
		<-done
	}
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// letter is a message to n recipients.
func letter(content string, n int) Message {
	m := Message{
		ReversePath: smtp.ReversePath{Address: smtp.Address{Local: "scan", Domain: "campus.test"}},
		Size:        int64(len(content)),
		Content:     func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	for i := range n {
		m.Recipients = append(m.Recipients, smtp.ForwardPath{Address: smtp.Address{Local: fmt.Sprintf("user-%d", i), Domain: "dest.test"}})
	}
	return m
}

// turns counts how often a connection is read after it was written: the round
// trips of its owner.
type turns struct {
	net.Conn
	wrote  bool
	writes int
	trips  int
}

func (c *turns) Read(p []byte) (int, error) {
	if c.wrote {
		c.wrote = false
		c.trips++
	}
	return c.Conn.Read(p)
}

func (c *turns) Write(p []byte) (int, error) {
	c.wrote = true
	c.writes++
	return c.Conn.Write(p)
}

func TestRoundTrips(t *testing.T) {
	small := "Subject: x\r\n\r\n" + strings.Repeat("hello\r\n", 1000)
	for _, tt := range []struct {
		name          string
		extensions    []string
		recipients    int
		trips, writes int
	}{
		{"data", []string{"PIPELINING"}, 1, 2, 2},
		{"data to ten", []string{"PIPELINING"}, 10, 2, 2},
		{"data to a thousand", []string{"PIPELINING"}, 1000, 3, 3},
		{"chunk", []string{"PIPELINING", "CHUNKING"}, 1, 2, 2},
		{"chunk to ten", []string{"PIPELINING", "CHUNKING"}, 10, 2, 2},
		{"no pipelining", []string{"CHUNKING"}, 10, 13, 13},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &sink{extensions: tt.extensions}
			var counter *turns
			session, wait := s.connect(t, func(c net.Conn) net.Conn { counter = &turns{Conn: c}; return counter })
			for range 2 {
				trips, writes := counter.trips, counter.writes
				if _, err := session.Send(t.Context(), letter(small, tt.recipients)); err != nil {
					t.Fatal(err)
				}
				if counter.trips-trips != tt.trips || counter.writes-writes != tt.writes {
					t.Errorf("%d round trips, %d writes; want %d, %d", counter.trips-trips, counter.writes-writes, tt.trips, tt.writes)
				}
			}
			wait()
			if len(s.contents) != 2 || string(s.contents[1]) != small {
				t.Errorf("%d contents arrived", len(s.contents))
			}
		})
	}
}

func BenchmarkSend(b *testing.B) {
	for _, bm := range []struct {
		name       string
		extensions []string
		size       int
		recipients int
	}{
		{"data-2KiB", []string{"PIPELINING"}, 2 << 10, 1},
		{"bdat-2KiB", []string{"PIPELINING", "CHUNKING"}, 2 << 10, 1},
		{"data-2KiB-50rcpt", []string{"PIPELINING"}, 2 << 10, 50},
		{"data-1MiB", []string{"PIPELINING"}, 1 << 20, 1},
		{"bdat-1MiB", []string{"PIPELINING", "CHUNKING"}, 1 << 20, 1},
		{"stepwise-2KiB", nil, 2 << 10, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var counter *turns
			s := &sink{extensions: bm.extensions, quiet: true}
			session, wait := s.connect(b, func(c net.Conn) net.Conn { counter = &turns{Conn: c}; return counter })
			ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
			defer cancel()
			line := strings.Repeat("x", 74) + "\r\n"
			m := letter(strings.Repeat(line, bm.size/len(line)), bm.recipients)
			trips := counter.trips
			b.ReportAllocs()
			b.SetBytes(m.Size)
			for b.Loop() {
				if res, err := session.Send(ctx, m); err != nil || res.Recipients[0].Err != nil {
					b.Fatal(res, err)
				}
			}
			b.ReportMetric(float64(counter.trips-trips)/float64(b.N), "trips/op")
			wait()
		})
	}
}
