package generate_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/loadtest/generate"
	"github.com/postrider/postrider/loadtest/journal"
	"github.com/postrider/postrider/loadtest/sink"
)

// stage is a sink and the two journals.
type stage struct {
	address        string
	client, copies *journal.Writer
	dir            string
	sink           *sink.Sink
}

func newStage(t *testing.T, config sink.Config) *stage {
	t.Helper()
	s := &stage{dir: t.TempDir()}
	for path, writer := range map[string]**journal.Writer{"client.jsonl": &s.client, "sink.jsonl": &s.copies} {
		opened, err := journal.Open(filepath.Join(s.dir, path), false)
		if err != nil {
			t.Fatal(err)
		}
		*writer = opened
		t.Cleanup(func() { opened.Close() })
	}
	server, err := sink.New(config, s.copies)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	s.address, s.sink = listener.Addr().String(), server
	return s
}

func (s *stage) submissions(t *testing.T) map[journal.Phase][]journal.Submission {
	t.Helper()
	lines, err := journal.ReadFile[journal.Submission](filepath.Join(s.dir, "client.jsonl"), journal.Whole)
	if err != nil {
		t.Fatal(err)
	}
	out := map[journal.Phase][]journal.Submission{}
	for _, line := range lines {
		out[line.Phase] = append(out[line.Phase], line)
	}
	return out
}

func (s *stage) arrivals(t *testing.T) map[string][]journal.Arrival {
	t.Helper()
	lines, err := journal.ReadFile[journal.Arrival](filepath.Join(s.dir, "sink.jsonl"), journal.Whole)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]journal.Arrival{}
	for _, line := range lines {
		out[line.Token] = append(out[line.Token], line)
	}
	return out
}

func config(address string) generate.Config {
	return generate.Config{
		Server: address, Messages: 200, Recipients: 2, Bad: 0.1, Connections: 8, Size: 3000, Seed: 1,
		Domains: []string{"load.test"}, Sender: "scan@device.test", Pipelining: true, Backoff: time.Millisecond,
	}
}

func TestGeneratorAgainstSink(t *testing.T) {
	for name, change := range map[string]func(*generate.Config){
		"pipelined":    func(*generate.Config) {},
		"step by step": func(c *generate.Config) { c.Pipelining = false },
		"reconnecting": func(c *generate.Config) { c.PerConnection = 7 },
		"TLS":          func(c *generate.Config) { c.StartTLS = true; c.PerConnection = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, sink.Config{StartTLS: true})
			c := config(s.address)
			change(&c)
			g, err := generate.New(c, s.client)
			if err != nil {
				t.Fatal(err)
			}
			summary, err := g.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			phases, arrived := s.submissions(t), s.arrivals(t)
			// A message whose two recipients are bad is refused as a whole.
			refused := len(phases[journal.Refused])
			if summary.Accepted+refused != 200 || summary.Refused != refused || len(phases[journal.Sent]) != summary.Accepted || len(arrived) != summary.Accepted {
				t.Fatalf("summary %+v, %d refused, %d sent, %d arrived", summary, refused, len(phases[journal.Sent]), len(arrived))
			}
			for _, sent := range phases[journal.Sent] {
				copies := arrived[sent.Token]
				if len(copies) != 1 || copies[0].BodySHA256 != sent.BodySHA256 || copies[0].MessageID != sent.MessageID {
					t.Fatalf("sent %+v, arrived %+v", sent, copies)
				}
				accepted := 0
				for _, recipient := range sent.Recipients {
					if recipient.Bad != (recipient.RcptReply == 550) {
						t.Fatalf("recipient %+v", recipient)
					}
					if !recipient.Bad {
						accepted++
					}
				}
				if len(copies[0].Recipients) != accepted {
					t.Fatalf("%d recipients arrived, %d accepted", len(copies[0].Recipients), accepted)
				}
			}
			if c.PerConnection > 0 && summary.Connections <= c.Connections {
				t.Errorf("%d connections for %d workers", summary.Connections, c.Connections)
			}
			if s.sink.Counts().Connections != int64(summary.Connections) || summary.Latency.P50 <= 0 || summary.Rate <= 0 {
				t.Errorf("summary %+v, sink %+v", summary, s.sink.Counts())
			}
		})
	}
}

// TestLostRepliesAreRetried lets the sink drop every fifth connection after
// the dot: each loss is ambiguous, journaled, and tried again as a message of
// its own.
func TestLostRepliesAreRetried(t *testing.T) {
	s := newStage(t, sink.Config{DropAfterDot: 5})
	c := config(s.address)
	c.Bad, c.Retries = 0, 50
	g, err := generate.New(c, s.client)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := g.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	phases := s.submissions(t)
	// 249 dots, of which every fifth is not answered.
	if summary.Accepted != 200 || summary.Lost != 49 || summary.GaveUp != 0 || len(phases[journal.Lost]) != 49 {
		t.Errorf("summary %+v, %d lost lines", summary, len(phases[journal.Lost]))
	}
	retries := 0
	for _, sent := range phases[journal.Sent] {
		if sent.RetryOf != "" {
			retries++
		}
	}
	if retries != 49 {
		t.Errorf("%d retries, want 49", retries)
	}
}

// TestThink: the connection waits after each answer, the last one included.
func TestThink(t *testing.T) {
	s := newStage(t, sink.Config{})
	c := config(s.address)
	c.Messages, c.Connections, c.Think = 3, 1, 20*time.Millisecond
	generator, err := generate.New(c, s.client)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := generator.Run(t.Context())
	if err != nil || summary.Accepted != 3 || summary.Seconds < 3*c.Think.Seconds() {
		t.Errorf("%d accepted in %v s, %v; want 3 in at least 0.06 s", summary.Accepted, summary.Seconds, err)
	}
}

// TestRate: messages fall due one after the other, however many connections
// wait for them.
func TestRate(t *testing.T) {
	s := newStage(t, sink.Config{})
	c := config(s.address)
	c.Messages, c.Connections, c.Rate, c.Bad = 9, 4, 100, 0
	generator, err := generate.New(c, s.client)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := generator.Run(t.Context())
	if err != nil || summary.Accepted != 9 || summary.Seconds < 8/c.Rate {
		t.Errorf("%d accepted in %v s, %v; want 9 in at least 0.08 s", summary.Accepted, summary.Seconds, err)
	}
}

func TestStop(t *testing.T) {
	s := newStage(t, sink.Config{})
	c := config(s.address)
	c.Messages, c.Bad = 1_000_000, 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, err := generate.New(c, &after{Writer: s.client, lines: 100, then: cancel})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := g.Run(ctx)
	phases := s.submissions(t)
	if !errors.Is(err, context.Canceled) || summary.Accepted == 0 || summary.Lost+summary.Aborted > 0 ||
		len(phases[journal.Sent]) != len(phases[journal.Reply]) {
		t.Errorf("stopped with %v, %+v; %d sent, %d replies", err, summary, len(phases[journal.Sent]), len(phases[journal.Reply]))
	}
}

func TestJournalFailureEndsRun(t *testing.T) {
	s := newStage(t, sink.Config{})
	full := errors.New("disk full")
	c := config(s.address)
	c.Bad = 0
	g, err := generate.New(c, &after{Writer: s.client, lines: 100, err: full})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := g.Run(context.Background())
	if !errors.Is(err, full) || summary.Accepted > 60 {
		t.Errorf("ended with %v, %+v", err, summary)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	g, err := generate.New(config(listener.Addr().String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(context.Background()); err == nil {
		t.Error("no error without a relay")
	}
}

// after does something once so many lines are written.
type after struct {
	*journal.Writer
	count atomic.Int64
	lines int64
	then  func()
	err   error
}

func (a *after) Append(lines ...any) error {
	n := a.count.Add(1)
	if n >= a.lines {
		if a.then != nil {
			a.then()
		}
		if a.err != nil {
			return a.err
		}
	}
	return a.Writer.Append(lines...)
}
