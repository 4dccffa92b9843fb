package smtptest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// client is a raw connection that has seen the greeting.
type client struct {
	*textproto.Conn
	t *testing.T
}

func connect(t *testing.T, conn net.Conn) *client {
	t.Helper()
	c := &client{textproto.NewConn(conn), t}
	c.expect(220)
	return c
}

// say sends lines at once and expects one reply each.
func (c *client) say(code int, lines ...string) (reply string) {
	c.t.Helper()
	if _, err := c.W.WriteString(strings.Join(lines, "\r\n") + "\r\n"); err != nil {
		c.t.Fatal(err)
	}
	if err := c.W.Flush(); err != nil {
		c.t.Fatal(err)
	}
	for range lines {
		reply = c.expect(code)
	}
	return reply
}

func (c *client) expect(code int) string {
	c.t.Helper()
	_, text, err := c.ReadResponse(code)
	if err != nil {
		c.t.Fatalf("expect %d: %v", code, err)
	}
	return text
}

func (c *client) expectEnd() {
	c.t.Helper()
	if b, err := c.R.ReadByte(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("expect the end: %q, %v", b, err)
	}
}

func dial(t *testing.T, mx *MX) *client {
	t.Helper()
	conn, err := net.Dial("tcp", mx.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return connect(t, conn)
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"unknown action":  {At: map[Stage]string{StageEhlo: "explode"}},
		"unknown stage":   {At: map[Stage]string{"lunch": "drop"}},
		"two stages":      {At: map[Stage]string{StageEhlo: "data-451"}},
		"detail as stage": {At: map[Stage]string{StageRcpt: "drop-after-dot"}},
		"TLS and no TLS":  {NoTLS: true, ImplicitTLS: true},
		"bad address":     {Addrs: []string{"127.0.0.1:0", "127.0.0.1:x"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestPace runs on the clock of a bubble: hours of tarpit in no time.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mx, err := New(Options{NoTLS: true, At: map[Stage]string{StageConnect: "pause-4m"}})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go mx.ServeConn(t.Context(), theirs)
		start := time.Now()
		elapsed := func(want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("after %v, want %v", got, want)
			}
			start = time.Now()
		}
		c := connect(t, ours)
		elapsed(4 * time.Minute)
		c.say(250, "EHLO relay.campus.test")
		elapsed(0)
		trickled := func(s string) time.Duration { return time.Duration(len(s)+2) * time.Second }
		transaction := func(recipient string, rcpt, data, final time.Duration) {
			t.Helper()
			c.say(250, "MAIL FROM:<a@campus.test>")
			elapsed(0)
			c.say(250, "RCPT TO:<"+recipient+"@example.test>")
			elapsed(rcpt)
			c.say(354, "DATA")
			elapsed(data)
			c.say(250, "x\r\n.")
			elapsed(final)
		}
		transaction("tarpit-30s", 30*time.Second, 30*time.Second, 30*time.Second)
		transaction("pause-1h", time.Hour, 0, 0)
		transaction("data-pause-60s", 0, 0, time.Minute)
		transaction("data-tarpit-60s", 0, 0, time.Minute)
		transaction("content-pause-3m", 0, 0, 3*time.Minute)
		transaction("trickle-1s", trickled("250 2.1.5 Recipient OK"), trickled("354 End data with <CR><LF>.<CR><LF>"), trickled("250 2.6.0 Message stored"))
		transaction("once-tarpit-5m", 5*time.Minute, 5*time.Minute, 5*time.Minute)
		transaction("once-tarpit-5m", 0, 0, 0)
		c.say(221, "QUIT")
		c.expectEnd()
	})
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mx, err := New(Options{NoTLS: true, Idle: time.Minute, At: map[Stage]string{StageConnect: "tarpit-10s"}})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go mx.ServeConn(t.Context(), theirs)
		c := connect(t, ours)
		start := time.Now()
		c.say(250, "EHLO relay.campus.test") // the tarpit lasts for the session
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("EHLO took %v", got)
		}
		c.expectEnd()
		if got := time.Since(start); got != 70*time.Second {
			t.Errorf("closed after %v", got)
		}
	})
}

// TestDeafClient sends commands and reads no reply.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mx, err := New(Options{NoTLS: true, Idle: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		defer ours.Close()
		start := time.Now()
		mx.ServeConn(t.Context(), theirs)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("closed after %v", got)
		}
	})
}

// TestDropOncePerSender breaks off the first attempt of each sender.
func TestDropOncePerSender(t *testing.T) {
	mx := Start(t, Options{})
	for _, tt := range []struct{ sender, end string }{
		{"a", "S-drop"}, {"b", "S-drop"}, {"a", "C: .\nS: 250 *"}, {"b", "C: .\nS: 250 *"},
	} {
		play(t, mx.Addr(), `
S: 220 *
C: EHLO relay.campus.test
S-until: 250 STARTTLS
C: MAIL FROM:<`+tt.sender+`@campus.test>
S: 250 *
C: RCPT TO:<once-drop-data@example.test>
S: 250 *
C: DATA
S: 354 *
C: Subject: x
`+tt.end)
	}
	if got, err := mx.Wait(t.Context(), 2); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestShutdown(t *testing.T) {
	mx, err := New(Options{Addrs: []string{"127.0.0.1:0", "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- mx.Run(ctx) }()
	if addrs := mx.Addrs(); len(addrs) != 2 || addrs[0] != mx.Addr() || addrs[0] == addrs[1] {
		t.Errorf("listening on %v", addrs)
	}
	idle, busy, slow := dial(t, mx), dial(t, mx), dial(t, mx)
	for _, c := range []*client{busy, slow} {
		c.say(250, "EHLO relay.campus.test", "MAIL FROM:<a@campus.test>")
	}
	busy.say(250, "RCPT TO:<u1@example.test>")
	busy.say(354, "DATA")
	if _, err := busy.W.WriteString("half of it\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = busy.W.Flush()
	if _, err := slow.W.WriteString("RCPT TO:<tarpit-1h@example.test>\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = slow.W.Flush()
	cancel()
	idle.expect(421)
	idle.expectEnd()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if c := mx.Counts(); c.Stored != 0 || c.Open != 0 || c.CutOff != 1 || c.PeakOpen != 3 {
		t.Errorf("%+v", c)
	}
}

func TestCounts(t *testing.T) {
	mx := Start(t, Options{MaxConnections: 1, NoDigest: true})
	c := dial(t, mx)
	conn, err := net.Dial("tcp", mx.Addr())
	if err != nil {
		t.Fatal(err)
	}
	second := &client{textproto.NewConn(conn), t}
	second.expect(421)
	second.expectEnd()
	_ = conn.Close()
	if err := mx.WaitFor(t.Context(), func(c Counts) bool { return c.Open == 1 }); err != nil {
		t.Fatal(err)
	}

	c.say(250, "EHLO relay.campus.test")
	c.say(450, "MAIL FROM:<mail-450@campus.test>")
	c.say(250, "MAIL FROM:<a@campus.test>")
	c.say(550, "RCPT TO:<550@example.test>")
	c.say(250, "RCPT TO:<data-451@example.test>")
	c.say(354, "DATA")
	c.say(451, ".")
	c.say(250, "MAIL FROM:<a@campus.test>", "RCPT TO:<u1@example.test>", "RCPT TO:<drop-after-dot@example.test>")
	c.say(354, "DATA")
	if _, err := c.W.WriteString("12345678\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.W.Flush()
	c.expectEnd()
	if err := mx.WaitFor(t.Context(), func(c Counts) bool { return c.Open == 0 }); err != nil {
		t.Fatal(err)
	}
	want := Counts{
		Connections: 2, PeakOpen: 2, Stored: 1, Unacknowledged: 1, Recipients: 2, Octets: 10,
		RefusedMail: 1, RefusedRcpt: 1, RefusedData: 1, Dropped: 1,
	}
	if got := mx.Counts(); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if d := mx.Deliveries()[0]; d.ContentSHA256 != "" || d.BodySHA256 != "" {
		t.Errorf("digests were made: %+v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := mx.Wait(ctx, 2); !errors.Is(err, context.Canceled) || len(got) != 1 {
		t.Errorf("wait in vain: %d, %v", len(got), err)
	}
}

// TestManyReplies answers more than the buffer of replies holds, so that the
// buffer is written in the middle of a pipelined group.
func TestManyReplies(t *testing.T) {
	c := dial(t, Start(t, Options{}))
	c.say(250, "EHLO relay.campus.test", "MAIL FROM:<a@campus.test>")
	lines := make([]string, 900)
	for i := range lines {
		lines[i] = "RCPT TO:<u1@example.test>"
	}
	c.say(250, lines...)
}

func TestLongLine(t *testing.T) {
	for _, size := range []int{maxLine, readBuffer, readBuffer * 4} {
		mx := Start(t, Options{})
		conn, err := net.Dial("tcp", mx.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := connect(t, conn)
		c.say(250, "NOOP "+strings.Repeat("x", maxLine-len("NOOP \r\n")))
		c.say(500, "NOOP "+strings.Repeat("x", size))
		c.expectEnd()
	}
}

func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3 LAST\r\nabcQUIT\r\n"))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<\"a b\"@d>\r\nRSET\r\nBDAT 9999999999999 LAST\r\nabc"))
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			mx, err := New(Options{NoTLS: true})
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				mx.ServeConn(t.Context(), theirs)
			}()
			go func() {
				_, _ = ours.Write(input)
				// Nobody knows when the last reply has come; the pipe is
				// closed once nothing moves any more.
				synctest.Wait()
				_ = ours.Close()
			}()
			for lines := bufio.NewScanner(ours); lines.Scan(); {
				if line := lines.Text(); len(line) < 4 || line[0] < '2' || line[0] > '5' || !strings.ContainsRune(" -", rune(line[3])) {
					t.Errorf("no reply: %q", line)
				}
			}
			<-done
		})
	})
}
