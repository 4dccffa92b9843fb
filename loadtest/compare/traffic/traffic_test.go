package traffic

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func startSink(t testing.TB) *Sink {
	t.Helper()
	sink, err := NewSink()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- sink.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return sink
}

func TestSourceToSink(t *testing.T) {
	for _, tt := range []struct {
		size, messages, connections, perConnection int
	}{
		{10 << 10, 300, 20, 0}, {1 << 10, 100, 7, 1}, {100 << 10, 60, 20, 0}, {0, 10, 20, 3},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			sink := startSink(t)
			message := NewMessage(tt.size)
			if got := len(message.wire) - len(".\r\n"); tt.size > 300 && got != tt.size {
				t.Errorf("message has %d octets", got)
			}
			tally := sink.Expect(7, tt.messages, 0, message)
			var timed atomic.Int64
			load := Load{Server: sink.Address(), Run: 7, Messages: tt.messages, Connections: tt.connections, PerConnection: tt.perConnection,
				Sent: func(dot, reply time.Time) {
					if !reply.Before(dot) {
						timed.Add(1)
					}
				}}
			if err := Submit(t.Context(), load, message); err != nil {
				t.Fatal(err)
			}
			<-tally.All()
			if n, last := tally.Arrived(); n != tt.messages || last.IsZero() || timed.Load() != int64(tt.messages) {
				t.Errorf("%d arrived, last %v, %d timed", n, last, timed.Load())
			}
			if err := tally.Check(); err != nil {
				t.Error(err)
			}
			if err := sink.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFaults: whatever is not exactly once and unchanged is found.
func TestFaults(t *testing.T) {
	message := NewMessage(1000)
	wire := func(run, number uint32) string {
		return string(message.numbered().stamp(run, number))
	}
	for name, tt := range map[string]struct {
		sent []string
		want string
	}{
		"all there":     {[]string{wire(1, 0), wire(1, 1)}, ""},
		"fields added":  {[]string{"Received: x\r\n" + wire(1, 0), wire(1, 1)}, ""},
		"one missing":   {[]string{wire(1, 1)}, "1 of 2 messages arrived"},
		"one twice":     {[]string{wire(1, 0), wire(1, 1), wire(1, 0)}, "1 copies too many"},
		"body changed":  {[]string{wire(1, 0), strings.Replace(wire(1, 1), ".\r\n", "x\r\n.\r\n", 1)}, "the body is another"},
		"signed":        {[]string{"DKIM-Signature: a=b\r\n" + wire(1, 0), wire(1, 1)}, "1 DKIM-Signature fields, expected 0"},
		"number beyond": {[]string{wire(1, 0), wire(1, 1), wire(1, 2)}, "number 2"},
		"other run":     {[]string{wire(1, 0), wire(1, 1), wire(2, 0)}, "1 messages arrived that nobody submitted"},
		"no token":      {[]string{wire(1, 0), wire(1, 1), "Subject: report\r\n\r\nx\r\n.\r\n"}, "nobody submitted"},
	} {
		t.Run(name, func(t *testing.T) {
			sink := startSink(t)
			tally := sink.Expect(1, 2, 0, message)
			converse(t, sink.Address(), tt.sent)
			said := fmt.Sprint(tally.Check(), sink.Check())
			if tt.want == "" && said != "<nil> <nil>" || !strings.Contains(said, tt.want) {
				t.Errorf("got %s, want %q", said, tt.want)
			}
		})
	}
}

// converse sends messages as Postfix does: pipelined, with what follows in the
// segment of the final dot.
func converse(t *testing.T, address string, messages []string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	say := func(text string) {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(code string) {
		for {
			line, err := replies.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, code) {
				t.Fatalf("got %q, %v, want %s", line, err, code)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	hear("220")
	say("EHLO x\r\n")
	hear("250")
	say("MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n")
	for i, m := range messages {
		hear("250")
		hear("250")
		hear("354")
		// In two parts, cut within the end.
		say(m[:len(m)-2])
		if i == len(messages)-1 {
			say(m[len(m)-2:] + "QUIT\r\n")
		} else {
			say(m[len(m)-2:] + "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n")
		}
		hear("250")
	}
	hear("221")
}

// TestRefused: the first reply that is not wanted ends the run with its text.
func TestRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "421 4.3.2 Too many\r\n")
			conn.Close()
		}
	}()
	err = Submit(t.Context(), Load{Server: listener.Addr().String(), Messages: 10, Connections: 3}, NewMessage(100))
	if err == nil || !strings.Contains(err.Error(), "421 4.3.2 Too many") {
		t.Errorf("got %v", err)
	}
}

func TestSignatures(t *testing.T) {
	header := strings.ReplaceAll(`Received: from x
DKIM-Signature: v=1; a=rsa-sha256; d=sender.test; h=From : To; bh=abc=;
	b=QUJD
	 REVGR0hJ
X-Other: DKIM-Signature: a=none
DKIM-Signature: v=1;a=ed25519-sha256;b=AAAA
From: a
`, "\n", "\r\n")
	want := []string{"rsa-sha256 72", "ed25519-sha256 24"}
	if got := signatures([]byte(header)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := bytes.Count([]byte("\r\n"+header), []byte(signatureField)); got != 2 {
		t.Errorf("counted %d", got)
	}
}

func BenchmarkSourceToSink(b *testing.B) {
	for _, perConnection := range []int{0, 1} {
		b.Run(fmt.Sprintf("per-connection=%d", perConnection), func(b *testing.B) {
			sink := startSink(b)
			message := NewMessage(10 << 10)
			run := uint32(0)
			for b.Loop() {
				run++
				tally := sink.Expect(run, 2000, 0, message)
				if err := Submit(b.Context(), Load{Server: sink.Address(), Run: run, Messages: 2000, Connections: 20, PerConnection: perConnection}, message); err != nil {
					b.Fatal(err)
				}
				<-tally.All()
			}
			b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
