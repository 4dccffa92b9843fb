package smtptest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestScriptBothSides(t *testing.T) {
	text := `
# A conversation as in the RFCs.
S: 220 mx.example.test
C: EHLO relay
S-raw: "250-a\n250 b\r\n"
C: DATA
C: Subject: x
C: .
S-pause: 5m
S: 250 ok
S-drop
`
	script, err := ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		served := make(chan error)
		go func() { served <- script.Serve(t.Context(), server) }()
		if err := script.Dial(t.Context(), client); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestScriptMismatch(t *testing.T) {
	for _, tt := range []struct{ script, sent, want string }{
		{"C: EHLO *", "HELO x\r\n", `got "HELO x\r\n"`},
		{"C: EHLO *", "EHLO x\n", `got "EHLO x\n"`},
		{"C: EHLO *", "EHL", "EOF"},
		{"C-until: .", "a\r\n..\r\n", "EOF"},
		{"C-raw: \"ab\"", "ac", `got "ac"`},
		{"C-raw: \"ab\"", "a", "unexpected EOF"},
		{"C-drop", "QUIT\r\n", `got 'Q'`},
		{"C: EHLO *", "ehlo X\r\n", ""},
		{"C: EHLO *\nC-until: .\nC-drop", "EHLO x\r\na\r\n.\r\n", ""},
		{"C-raw: \"a\\nb\"\nC-flood: x", "a\nbxxxxx", ""},
	} {
		script, err := ParseScript(tt.script)
		if err != nil {
			t.Fatal(err)
		}
		server, client := net.Pipe()
		go func() {
			_, _ = io.WriteString(client, tt.sent)
			_ = client.Close()
		}()
		switch err := script.Serve(t.Context(), server); {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q against %q: %v, want %s", tt.script, tt.sent, err, tt.want)
		}
	}
}

func TestFloodEnds(t *testing.T) {
	script, err := ParseScript("S-flood: 250-more")
	if err != nil {
		t.Fatal(err)
	}
	server, client := net.Pipe()
	go func() {
		_, _ = io.CopyN(io.Discard, client, 1<<20)
		_ = client.Close()
	}()
	if err := script.Serve(t.Context(), server); err != nil {
		t.Error(err)
	}
}

func TestParseScript(t *testing.T) {
	for _, bad := range []string{"X: y", "S 220", "S-raw: 220", "S-pause: long", "S-explode: now", "S-: x", "S-drop: x", "-drop", "drop"} {
		if _, err := ParseScript("# first\n" + bad); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("S: 220 x\nC-until: .\nS-raw: \"a\"\nS-pause: 1s\nC-drop\n")
	f.Fuzz(func(t *testing.T, text string) {
		script, err := ParseScript(text)
		if err == nil && len(script.steps) > strings.Count(text, "\n")+1 {
			t.Errorf("%q has %d steps", text, len(script.steps))
		}
	})
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false}, {"MAIL FROM:<*> SIZE=*", "mail from:<a@b> size=10", true},
		{"ab*bc", "abc", false}, {"a", "ab", false}, {"a*a", "a", false}, {"***", "x", true},
	} {
		if got := match(tt.pattern, tt.text); got != tt.want {
			t.Errorf("match(%q, %q) = %v", tt.pattern, tt.text, got)
		}
	}
}

// reporter is a T that keeps what is reported.
type reporter struct {
	cleanups []func()
	failures []string
}

func (r *reporter) Helper()          {}
func (r *reporter) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *reporter) Errorf(s string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(s, args...))
}
func (r *reporter) Fatalf(s string, args ...any) { panic(fmt.Sprintf(s, args...)) }

func TestServeScripts(t *testing.T) {
	var r reporter
	addr := ServeScripts(&r, "S: 220 first\nC: QUIT", "S: 220 second\nC: NOOP", "S-pause: 1h")
	talk := func(line string) string {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buf := make([]byte, 100)
		n, _ := conn.Read(buf)
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if first, second := talk("QUIT\r\n"), talk("QUIT\r\n"); first != "220 first\r\n" || second != "220 second\r\n" {
		t.Errorf("%q, %q", first, second)
	}
	for _, f := range r.cleanups {
		f()
	}
	if len(r.failures) != 1 || !strings.Contains(r.failures[0], "connection 2: play script line 2") {
		t.Errorf("reported: %q", r.failures)
	}
}

func TestScriptIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, err := ParseScript("S-pause: 1h\nS: 220 never")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		server, client := net.Pipe()
		defer client.Close()
		if err := script.Serve(ctx, server); err != nil {
			t.Error(err)
		}
	})
}
