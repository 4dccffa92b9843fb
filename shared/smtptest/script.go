package smtptest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxFlood bounds what one S-flood or C-flood line sends, in octets.
const maxFlood = 256 << 20

// endOfScripts is how long ServeScripts waits for scripts to end by themselves
// when the test is over.
const endOfScripts = 10 * time.Second

// errCutShort ends a script whose pause outlasts its context.
var errCutShort = errors.New("script cut short")

// Script is a conversation that can be played from either side. One line of its
// text is one step, S for the server and C for the client:
//
//	S: 220 mx.example.test ESMTP     a line, written with CR LF
//	C: EHLO *                        a line; where it is read, * stands for any octets
//	C-until: .                       lines up to and with one that matches; the writer writes only it
//	S-raw: "250 a\n250 b\r\n"        exactly these octets, as a Go string
//	S-flood: 250-more                this line again and again until the other side closes
//	S-pause: 30s                     that side waits
//	S-drop                           that side closes; the other sees the end
//	# a comment, as are empty lines
//
// A script for one side may contain steps only of what it needs: what is not
// read before the script ends is left unread.
type Script struct{ steps []step }

type step struct {
	line   int
	side   byte   // 'S' or 'C'
	action string // "", "until", "raw", "flood", "pause" or "drop"
	text   string
	pause  time.Duration
}

// ParseScript reads a script.
func ParseScript(text string) (Script, error) {
	var script Script
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(strings.TrimLeft(line, " \t"), "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		st, err := parseStep(line)
		if err != nil {
			return Script{}, fmt.Errorf("read script line %d: %w", number, err)
		}
		st.line = number
		script.steps = append(script.steps, st)
	}
	return script, nil
}

func parseStep(line string) (step, error) {
	head, text, colon := strings.Cut(line, ":")
	side, action, _ := strings.Cut(head, "-")
	if side != "S" && side != "C" {
		return step{}, fmt.Errorf("%q begins with neither S nor C", line)
	}
	st := step{side: side[0], action: action, text: strings.TrimPrefix(text, " ")}
	var err error
	switch {
	case action == "drop" && !colon:
	case !colon:
		err = fmt.Errorf("%q has no colon", line)
	case action == "pause":
		st.pause, err = time.ParseDuration(st.text)
	case action == "raw":
		st.text, err = strconv.Unquote(st.text)
	case action != "" && action != "until" && action != "flood" || head == side+"-":
		err = fmt.Errorf("%q is no action", action)
	}
	return st, err
}

// Serve plays the side of the server and closes conn. A line of the client
// that the script does not expect ends it with an error.
func (s Script) Serve(ctx context.Context, conn net.Conn) error { return s.play(ctx, conn, 'S') }

// Dial plays the side of the client on a connection and closes it.
func (s Script) Dial(ctx context.Context, conn net.Conn) error { return s.play(ctx, conn, 'C') }

func (s Script) play(ctx context.Context, conn net.Conn, me byte) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReader(conn)
	for _, st := range s.steps {
		var err error
		if st.side == me {
			err = st.act(ctx, conn)
		} else {
			err = st.expect(r)
		}
		if errors.Is(err, errCutShort) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("play script line %d: %w", st.line, err)
		}
	}
	return nil
}

// act is the step of our own side.
func (st step) act(ctx context.Context, conn net.Conn) error {
	switch st.action {
	case "pause":
		if !wait(ctx, st.pause) {
			return errCutShort
		}
		return nil
	case "drop":
		return conn.Close()
	case "raw":
		_, err := io.WriteString(conn, st.text)
		return err
	case "flood":
		chunk := strings.Repeat(st.text+"\r\n", 1+(16<<10)/(len(st.text)+2))
		for sent := 0; sent < maxFlood; sent += len(chunk) {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return nil // the other side has had enough, as it should
			}
		}
		return errors.New("the other side took a flood to its end")
	}
	_, err := io.WriteString(conn, st.text+"\r\n")
	return err
}

// expect is the step of the other side.
func (st step) expect(r *bufio.Reader) error {
	switch st.action {
	case "pause":
		return nil
	case "drop", "flood":
		return expectEnd(r, st.action == "flood")
	case "raw":
		got := make([]byte, len(st.text))
		if _, err := io.ReadFull(r, got); err != nil {
			return fmt.Errorf("expect %q: %w", st.text, err)
		}
		if string(got) != st.text {
			return fmt.Errorf("expect %q: got %q", st.text, got)
		}
		return nil
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("expect %q: %w after %q", st.text, err, line)
		}
		if text, ok := strings.CutSuffix(line, "\r\n"); ok && match(st.text, text) {
			return nil
		}
		if st.action != "until" {
			return fmt.Errorf("expect %q: got %q", st.text, line)
		}
	}
}

// expectEnd waits for the other side to close. The reset that a socket sends
// when it was closed with unread input is an end as well; a deadline is not.
func expectEnd(r *bufio.Reader, skip bool) error {
	if skip {
		_, err := io.Copy(io.Discard, r)
		return ended(err)
	}
	if b, err := r.ReadByte(); err == nil {
		return fmt.Errorf("expect the end: got %q", b)
	} else if !errors.Is(err, io.EOF) {
		return ended(err)
	}
	return nil
}

func ended(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("expect the end: %w", err)
	}
	return nil
}

// match compares without regard to letter case; * matches any octets.
func match(pattern, text string) bool {
	pattern, text = strings.ToLower(pattern), strings.ToLower(text)
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// ServeScripts listens on a free port of 127.0.0.1 until the test ends and
// plays the nth script to the nth connection; more connections are closed at
// once. A script that the client does not follow to its end fails the test; it
// must be over 10 s after the test, except for a pause.
func ServeScripts(t T, scripts ...string) (addr string) {
	t.Helper()
	parsed := make([]Script, len(scripts))
	for i, text := range scripts {
		script, err := ParseScript(text)
		if err != nil {
			t.Fatalf("script %d: %v", i+1, err)
		}
		parsed[i] = script
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for scripts: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveScripts(ctx, l, parsed) }()
	t.Cleanup(func() {
		_ = l.Close()
		limit := time.AfterFunc(endOfScripts, cancel)
		defer limit.Stop()
		if err := <-done; err != nil {
			t.Errorf("%v", err)
		}
	})
	return l.Addr().String()
}

// serveScripts plays until the listener is closed and returns what went wrong
// on all of the connections.
func serveScripts(ctx context.Context, l net.Listener, scripts []Script) error {
	results := make(chan error)
	played := 0
	for n := 0; ; n++ {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		if n >= len(scripts) {
			_ = conn.Close()
			continue
		}
		played++
		go func() {
			err := scripts[n].Serve(ctx, conn)
			if err != nil {
				err = fmt.Errorf("connection %d: %w", n+1, err)
			}
			results <- err
		}()
	}
	var all error
	for range played {
		all = errors.Join(all, <-results)
	}
	return all
}
