package generate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// play is a relay that follows a script: it wants the lines after "C:" and
// says those after "S:". "C: CONTENT" is everything up to the dot.
func play(t *testing.T, conn net.Conn, script string) {
	t.Helper()
	in := bufio.NewReader(conn)
	for line := range strings.Lines(script) {
		who, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !ok:
			continue
		case who == "S":
			if _, err := conn.Write([]byte(text + "\r\n")); err != nil {
				t.Errorf("say %q: %v", text, err)
				return
			}
		default:
			for {
				got, err := in.ReadString('\n')
				if err != nil {
					t.Errorf("want %q, got %v", text, err)
					return
				}
				got = strings.TrimRight(got, "\r\n")
				if text == "CONTENT" && got != "." {
					continue
				}
				if text != "CONTENT" && got != text {
					t.Errorf("got %q, want %q", got, text)
				}
				break
			}
		}
	}
}

func TestSubmit(t *testing.T) {
	const (
		step = "C: MAIL FROM:<scan@device.test>\nS: 250 ok\nC: RCPT TO:<u1+r-0000000@a.test>\nS: 250 ok\nC: RCPT TO:<u2+r-0000000@a.test>\n"
		pipe = "C: MAIL FROM:<scan@device.test>\nC: RCPT TO:<u1+r-0000000@a.test>\nC: RCPT TO:<u2+r-0000000@a.test>\nC: DATA\n"
		rset = "C: RSET\nS: 250 ok\n"
	)
	for name, tt := range map[string]struct {
		pipelining bool
		script     string
		phase      journal.Phase
		code       int
		rcpt       [2]int
		broken     bool
	}{
		"accepted":           {false, step + "S: 550 no\nC: DATA\nS: 354 go\nC: CONTENT\nS: 250 2.0.0 queued as X1", journal.Reply, 250, [2]int{250, 550}, false},
		"accepted, pipeline": {true, pipe + "S: 250 ok\nS: 250 ok\nS: 550 no\nS: 354 go\nC: CONTENT\nS: 250-2.0.0 two\nS: 250 2.0.0 lines", journal.Reply, 250, [2]int{250, 550}, false},
		"MAIL refused":       {false, "C: MAIL FROM:<scan@device.test>\nS: 550 5.7.1 no\n" + rset, journal.Refused, 550, [2]int{}, false},
		"MAIL refused, pipe": {true, pipe + "S: 451 no\nS: 503 x\nS: 503 x\nS: 503 x\n" + rset, journal.Refused, 451, [2]int{503, 503}, false},
		"all refused":        {false, strings.Replace(step, "test>\nS: 250 ok\nC: RCPT TO:<u2", "test>\nS: 450 later\nC: RCPT TO:<u2", 1) + "S: 550 no\n" + rset, journal.Refused, 450, [2]int{450, 550}, false},
		"all refused, 354":   {true, pipe + "S: 250 ok\nS: 550 a\nS: 550 b\nS: 354 go\nC: .\nS: 554 none\n" + rset, journal.Refused, 550, [2]int{550, 550}, false},
		"all refused, 250":   {true, pipe + "S: 250 ok\nS: 550 a\nS: 550 b\nS: 354 go\nC: .\nS: 250 taken", journal.Aborted, 0, [2]int{550, 550}, true},
		"DATA refused":       {false, step + "S: 250 ok\nC: DATA\nS: 452 4.3.1 full\n" + rset, journal.Refused, 452, [2]int{250, 250}, false},
		"dot refused":        {false, step + "S: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\nS: 451 4.3.0 later", journal.Reply, 451, [2]int{250, 250}, false},
		"shutdown at MAIL":   {false, "C: MAIL FROM:<scan@device.test>\nS: 421 4.3.2 bye\n", journal.Refused, 421, [2]int{}, true},
		"shutdown at RCPT":   {true, pipe + "S: 250 ok\nS: 421 bye", journal.Refused, 421, [2]int{421, 0}, true},
		"shutdown at dot":    {false, step + "S: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\nS: 421 4.3.2 bye", journal.Reply, 421, [2]int{250, 250}, true},
		"lost after dot":     {false, step + "S: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\n", journal.Lost, 0, [2]int{250, 250}, true},
		"nonsense after dot": {false, step + "S: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\nS: what", journal.Lost, 0, [2]int{250, 250}, true},
		"lost before dot":    {false, step + "S: 250 ok\nC: DATA\n", journal.Aborted, 0, [2]int{250, 250}, true},
		"strange DATA reply": {false, step + "S: 250 ok\nC: DATA\nS: 250 ok\n", journal.Aborted, 0, [2]int{250, 250}, true},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			config := Config{Messages: 1, Recipients: 2, Size: 2048, Domains: []string{"a.test"}, Sender: "scan@device.test", Run: "r", Pipelining: tt.pipelining}.withDefaults()
			p, err := newPlan(config)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { play(t, server, tt.script); server.Close(); close(done) }()
			s := &session{config: config, ctx: context.Background(), conn: client, in: bufio.NewReader(client), offers: map[string]bool{"PIPELINING": true}}
			m := p.message(0, 0, time.Now())
			journaled := false
			got := s.submit(m, func() error { journaled = true; return nil })
			client.Close()
			<-done
			if got.phase != tt.phase || got.reply.code != tt.code || s.broken != tt.broken {
				t.Errorf("got %+v, broken %v; want %s %d, broken %v", got, s.broken, tt.phase, tt.code, tt.broken)
			}
			if rcpt := [2]int{m.recipients[0].RcptReply, m.recipients[1].RcptReply}; rcpt != tt.rcpt {
				t.Errorf("replies to RCPT %v, want %v", rcpt, tt.rcpt)
			}
			if dotted := tt.phase == journal.Reply || tt.phase == journal.Lost; dotted && !journaled {
				t.Error("the dot was sent before the journal knew")
			}
		})
	}
}

func TestNoDotWithoutJournal(t *testing.T) {
	client, server := net.Pipe()
	config := Config{Messages: 1, Recipients: 1, Size: 2048, Domains: []string{"a.test"}, Run: "r"}.withDefaults()
	p, err := newPlan(config)
	if err != nil {
		t.Fatal(err)
	}
	rest := make(chan string, 1)
	go func() {
		play(t, server, "C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<u1+r-0000000@a.test>\nS: 250 ok\nC: DATA\nS: 354 go")
		got, _ := bufio.NewReader(server).ReadString('\n')
		rest <- got
	}()
	s := &session{config: config, ctx: context.Background(), conn: client, in: bufio.NewReader(client)}
	got := s.submit(p.message(0, 0, time.Now()), func() error { return errors.New("disk full") })
	client.Close()
	if got.phase != journal.Aborted || !s.broken {
		t.Errorf("got %+v", got)
	}
	if text := <-rest; text != "" {
		t.Errorf("content %q was sent", text)
	}
}

// lines keeps what the generator writes down.
type lines struct {
	mu   sync.Mutex
	kept []journal.Submission
}

func (l *lines) Append(more ...any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range more {
		l.kept = append(l.kept, line.(journal.Submission))
	}
	return nil
}

// TestRetry: a 4yz is tried again under a new token, a 5yz is not.
func TestRetry(t *testing.T) {
	for code, tt := range map[string]struct{ rest, want string }{
		"451": {"C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<u1+r-0000000-r1@a.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\nS: 250 ok: queued as X7\n",
			"r-0000000 sent 0, r-0000000 reply 451, r-0000000-r1 sent 0, r-0000000-r1 reply 250 X7, "},
		"550": {"", "r-0000000 sent 0, r-0000000 reply 550, "},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := listener.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			play(t, conn, "S: 220 relay\nC: EHLO load.test\nS: 250-relay\nS: 250 ENHANCEDSTATUSCODES\n"+
				"C: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<u1+r-0000000@a.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC: CONTENT\nS: "+code+" no\n"+
				tt.rest+"C: QUIT\nS: 221 bye")
		}()
		kept := &lines{}
		g, err := New(Config{
			Server: listener.Addr().String(), Messages: 1, Recipients: 1, Connections: 1, Size: 2048, Domains: []string{"a.test"},
			Run: "r", Retries: 1, Backoff: time.Microsecond,
		}, kept)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Run(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
		listener.Close()
		got := ""
		for _, line := range kept.kept {
			got += strings.TrimRight(fmt.Sprintln(line.Token, line.Phase, line.Code, line.QueueID), " \n") + ", "
		}
		if got != tt.want {
			t.Errorf("after %s: %s; want %s", code, got, tt.want)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want reply
	}{
		{"250 2.0.0 queued as K7Q2\r\n", reply{250, "2.0.0", "queued as K7Q2"}},
		{"250-5.7.1 no\r\n250 5.7.1 really\r\n", reply{250, "5.7.1", "no really"}},
		{"354\r\n", reply{354, "", ""}},
		{"550 10.2.3.4 blocked\n", reply{550, "", "10.2.3.4 blocked"}},
		{"250-a\r\n251 b\r\n", reply{}},
		{"nonsense\r\n", reply{}},
		{"199 x\r\n", reply{}},
		{"250_x\r\n", reply{}},
		{"250 unfinished", reply{}},
		{"25\r\n", reply{}},
		{strings.Repeat("250-x\r\n", 101), reply{}},
		{"250 " + strings.Repeat("x", 9000) + "\r\n", reply{}},
	} {
		got, _, err := readReply(bufio.NewReaderSize(strings.NewReader(tt.in), 8<<10))
		if got != tt.want || (err == nil) != (tt.want.code != 0) {
			t.Errorf("readReply(%.40q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add("250 2.0.0 ok\r\n")
	f.Add("250-a\r\n250 b\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		r, lines, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if err == nil && (r.code < 200 || r.code > 599 || len(lines) == 0 || strings.ContainsAny(r.text, "\n")) {
			t.Fatalf("%q gave %+v", in, r)
		}
	})
}

func TestQueueID(t *testing.T) {
	for in, want := range map[string]string{
		"queued as 3KQ7A9": "3KQ7A9", "OK: queued as 3KQ7A9.": "3KQ7A9", "(queued as X) bye": "X", "queued as ": "", "Taken": "",
	} {
		if got := queueID(in); got != want {
			t.Errorf("queueID(%q) = %q, want %q", in, got, want)
		}
	}
}
