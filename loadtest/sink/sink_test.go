package sink

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

// memory is a Recorder that keeps its lines.
type memory struct {
	mu    sync.Mutex
	lines []journal.Arrival
	err   error
}

func (m *memory) Append(lines ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, line := range lines {
		m.lines = append(m.lines, line.(journal.Arrival))
	}
	return nil
}

// talk runs one session over a pipe. The client sends the text after each
// "C:" and wants the lines after each "S:"; "S: EOF" wants the end.
func talk(t *testing.T, s *Sink, script string) {
	t.Helper()
	client, server := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.serve(ctx, server); close(done) }()
	defer func() { client.Close(); cancel(); <-done }()
	in := bufio.NewReader(client)
	for line := range strings.Lines(script) {
		who, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !ok:
			continue
		case who == "C":
			text = strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(text)
			if _, err := client.Write([]byte(text + "\r\n")); err != nil {
				t.Fatalf("send %q: %v", text, err)
			}
		case text == "EOF":
			if got, err := in.ReadString('\n'); err == nil {
				t.Fatalf("got %q, want the end of the session", got)
			}
		default:
			got, err := in.ReadString('\n')
			if err != nil || strings.TrimRight(got, "\r\n") != text {
				t.Fatalf("got %q, %v; want %q", got, err, text)
			}
		}
	}
}

func newSink(t *testing.T, config Config) (*Sink, *memory) {
	t.Helper()
	m := &memory{}
	s, err := New(config, m)
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func TestCopy(t *testing.T) {
	s, m := newSink(t, Config{})
	talk(t, s, `
		S: 220 sink.test ESMTP
		C: MAIL FROM:<scan@device.test> SIZE=100 BODY=8BITMIME
		S: 250 2.1.0 OK
		C: RCPT TO:<u1+k7-1@load.test>
		S: 250 2.1.5 OK
		C: RCPT TO:<550+k7-1@load.test>
		S: 550 5.1.1 As the recipient address asks
		C: RCPT TO:<"a>b+k7-1"@load.test>
		S: 250 2.1.5 OK
		C: DATA
		S: 354 Go ahead
		C: Received: from x\r\n\tby y\r\nmessage-id:\r\n <k7-1@load.test>\r\nX-Ledger : k7-1\r\n
		C: ..dot
		C: one\ntwo
		C: .\n.
		C: .
		S: 250 2.0.0 Taken
		C: QUIT
		S: 221 2.0.0 Bye
		S: EOF`)
	want := journal.Arrival{
		Kind: journal.Copy, Token: "k7-1", MessageID: "<k7-1@load.test>", ReversePath: "scan@device.test",
		BodySHA256: digest(".dot\r\none\ntwo\r\n\n.\r\n"), Acknowledged: true,
	}
	if len(m.lines) != 1 {
		t.Fatalf("journal has %d lines, want 1", len(m.lines))
	}
	got := m.lines[0]
	if !slices.Equal(got.Recipients, []string{"u1+k7-1@load.test", `"a>b+k7-1"@load.test`}) {
		t.Errorf("recipients %q", got.Recipients)
	}
	got.Recipients, got.Time = nil, time.Time{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if c := s.Counts(); c.Messages != 1 || c.RefusedRecipients != 1 || c.Dropped != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestCommands(t *testing.T) {
	for name, script := range map[string]string{
		"greeting": "C: EHLO x\nS: 250-sink.test\nS: 250-PIPELINING\nS: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250-ENHANCEDSTATUSCODES\nS: 250 SIZE\nC: HELO x\nS: 250 sink.test",
		"order": "C: RCPT TO:<a@b.test>\nS: 503 5.5.1 Need MAIL\nC: DATA\nS: 503 5.5.1 Need RCPT\n" +
			"C: MAIL FROM:<>\nS: 250 2.1.0 OK\nC: MAIL FROM:<>\nS: 503 5.5.1 Nested MAIL\nC: RSET\nS: 250 2.0.0 OK\nC: MAIL FROM:<>\nS: 250 2.1.0 OK",
		"syntax": "C: MAIL FROM:a@b\nS: 501 5.1.7 Bad sender address syntax\nC: MAIL\nS: 501 5.1.7 Bad sender address syntax\n" +
			"C: MAIL FROM:<a\nS: 501 5.1.7 Bad sender address syntax\nC: MAIL FROM:<a@b.test>\nS: 250 2.1.0 OK\nC: RCPT TO:<>\nS: 501 5.1.3 Bad recipient address syntax",
		"unknown":     "C: BDAT 5 LAST\nS: 500 5.5.1 Command not known\nC: NOOP\nS: 250 2.0.0 OK\nC: STARTTLS\nS: 503 5.5.1 STARTTLS not offered",
		"temporary":   "C: MAIL FROM:<>\nS: 250 2.1.0 OK\nC: RCPT TO:<450+x@b.test>\nS: 450 4.1.1 As the recipient address asks",
		"closing":     "C: MAIL FROM:<>\nS: 250 2.1.0 OK\nC: RCPT TO:<421+x@b.test>\nS: 421 4.1.1 As the recipient address asks\nS: EOF",
		"no refusal":  "C: MAIL FROM:<>\nS: 250 2.1.0 OK\nC: RCPT TO:<5500+x@b.test>\nS: 250 2.1.5 OK\nC: RCPT TO:<550@b.test>\nS: 250 2.1.5 OK\nC: RCPT TO:<250+x@b.test>\nS: 250 2.1.5 OK",
		"no CRLF dot": "C: MAIL FROM:<a@b.test>\nS: 250 2.1.0 OK\nC: RCPT TO:<u@b.test>\nS: 250 2.1.5 OK\nC: DATA\nS: 354 Go ahead\nC: x\\n.\\nMAIL FROM:<b@b.test>\nC: .\nS: 250 2.0.0 Taken",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSink(t, Config{})
			talk(t, s, "S: 220 sink.test ESMTP\n"+script)
		})
	}
}

const oneMessage = `
	S: 220 sink.test ESMTP
	C: MAIL FROM:<a@b.test>
	S: 250 2.1.0 OK
	C: RCPT TO:<u@b.test>
	S: 250 2.1.5 OK
	C: DATA
	S: 354 Go ahead
	C: X-Ledger: t\r\n\r\nbody
	C: .
`

func TestCutPath(t *testing.T) {
	for in, want := range map[string]string{
		"FROM:<a@b.test>":                     "a@b.test",
		"from: <a@b.test> AUTH=<c@d.test>":    "a@b.test",
		`FROM:<"x\">@y"@b.test> SIZE=1 X=y@z`: `"x\">@y"@b.test`,
		"FROM:<>":                             "",
		"FROM:a@b.test":                       "none",
		"FROM:<a@b.test":                      "none",
		`FROM:<"a@b.test`:                     "none",
		"TO:<a@b.test>":                       "none",
		"FR":                                  "none",
	} {
		got, ok := cutPath(in, "FROM:")
		if ok != (want != "none") || ok && got != want {
			t.Errorf("cutPath(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestDropAfterDot(t *testing.T) {
	s, m := newSink(t, Config{DropAfterDot: 2})
	talk(t, s, oneMessage+"S: 250 2.0.0 Taken")
	talk(t, s, oneMessage+"S: EOF")
	talk(t, s, oneMessage+"S: 250 2.0.0 Taken")
	var acknowledged []bool
	for _, line := range m.lines {
		acknowledged = append(acknowledged, line.Acknowledged)
	}
	if !slices.Equal(acknowledged, []bool{true, false, true}) || s.Counts().Dropped != 1 {
		t.Errorf("acknowledged %v, counts %+v", acknowledged, s.Counts())
	}
}

func TestJournalFailureRefuses(t *testing.T) {
	s, m := newSink(t, Config{})
	m.err = errors.New("disk full")
	talk(t, s, oneMessage+"S: 451 4.3.0 Journal cannot be written\nS: EOF")
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSink(t, Config{Delay: 3 * time.Second})
		start := time.Now()
		talk(t, s, oneMessage+"S: 250 2.0.0 Taken")
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("answered after %v, want 3s", waited)
		}
	})
}

// timings is a Recorder of transactions.
type timings []journal.Transaction

func (r *timings) Append(lines ...any) error {
	for _, line := range lines {
		*r = append(*r, line.(journal.Transaction))
	}
	return nil
}

func TestTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r timings
		s, _ := newSink(t, Config{Delay: 3 * time.Second, Transactions: &r})
		talk(t, s, oneMessage+"S: 250 2.0.0 Taken")
		if len(r) != 1 || r[0].Answered.Sub(r[0].Dot) != 3*time.Second || len(r[0].Recipients) != 1 {
			t.Errorf("transactions %+v, want one that took 3s", r)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSink(t, Config{IdleTimeout: time.Minute})
		start := time.Now()
		talk(t, s, "S: 220 sink.test ESMTP\nS: EOF")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("ended after %v, want 1m", waited)
		}
	})
}

// TestPipelineAndStop sends two whole messages in one write, over TLS, and
// then stops the sink under an open session.
func TestPipelineAndStop(t *testing.T) {
	s, m := newSink(t, Config{StartTLS: true})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx, listener) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(c net.Conn, in *bufio.Reader, text string, replies ...string) {
		t.Helper()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for _, want := range replies {
			got, err := in.ReadString('\n')
			if err != nil || !strings.HasPrefix(got, want) {
				t.Fatalf("got %q, %v; want %q", got, err, want)
			}
		}
	}
	plain := bufio.NewReader(conn)
	send(conn, plain, "", "220 ")
	send(conn, plain, "EHLO x\r\n", "250-", "250-", "250-", "250-", "250-", "250-SIZE", "250 STARTTLS")
	send(conn, plain, "STARTTLS\r\n", "220 ")
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	in := bufio.NewReader(secure)
	envelope := "MAIL FROM:<a@b.test>\r\nRCPT TO:<u@b.test>\r\nDATA\r\n"
	body := "X-Ledger: t\r\n\r\nbody\r\n.\r\n"
	send(secure, in, "EHLO x\r\n", "250-", "250-", "250-", "250-", "250-", "250 SIZE")
	send(secure, in, envelope, "250 ", "250 ", "354 ")
	send(secure, in, body+envelope, "250 ", "250 ", "250 ", "354 ")
	send(secure, in, body+"STARTTLS\r\n", "250 ", "503 ")
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := in.ReadString('\n'); err == nil {
		t.Error("session outlived the sink")
	}
	if len(m.lines) != 2 || m.lines[1].BodySHA256 != digest("body\r\n") {
		t.Errorf("journal %+v", m.lines)
	}
}

func TestLongLines(t *testing.T) {
	// The CR LF of this field is a piece of its own, but no empty line.
	field := "A: " + strings.Repeat("x", readBuffer-3) + "\r\n"
	in := bufio.NewReaderSize(strings.NewReader(field+"B: c\r\n\r\nbody\r\n.\r\n"), readBuffer)
	if got, err := readContent(in, false); err != nil || got.bodySHA256 != digest("body\r\n") || headerField(got.header, "B") != "c" {
		t.Errorf("field of %d octets: %v", len(field), err)
	}
	for _, size := range []int{readBuffer - 1, readBuffer, readBuffer + 1, 3 * readBuffer} {
		body := strings.Repeat("x", size) + "\r\n"
		in := bufio.NewReaderSize(strings.NewReader("A: b\r\n\r\n"+body+".\r\nQUIT\r\n"), readBuffer)
		got, err := readContent(in, false)
		if err != nil || got.bodySHA256 != digest(body) {
			t.Errorf("line of %d octets: %v", size, err)
		}
		if rest, _ := in.ReadString('\n'); rest != "QUIT\r\n" {
			t.Errorf("line of %d octets: %q follows", size, rest)
		}
	}
}
