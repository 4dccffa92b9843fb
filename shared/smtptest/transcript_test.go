package smtptest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// transcriptOptions are those of the transcripts that need others than the
// default.
func transcriptOptions() map[string]Options {
	auth := Options{User: "relay", Password: "secret", NoTLS: true}
	hidden := Options{Without: []string{"PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE", "STARTTLS"}, With: []string{"DSN"}}
	return map[string]Options{
		"at-stages":       {At: map[Stage]string{StageStartTLS: "454", StageQuit: "drop", StageRcpt: "once-450-4.2.1"}},
		"auth":            auth,
		"auth-plain":      auth,
		"hidden":          hidden,
		"hidden-chunking": hidden,
		"limits":          {MaxSize: 20, MaxRecipients: 2, MaxTransactions: 3},
		"lmtp":            {LMTP: true},
	}
}

// TestTranscripts plays the client of every testdata/*.smtp against an MX and
// compares what it stored with the lines below "---".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	options := transcriptOptions()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".smtp")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			conversation, want, ok := strings.Cut(string(text), "\n---\n")
			if !ok {
				t.Fatal("no --- line")
			}
			o := options[name]
			o.Transcripts = true
			mx := Start(t, o)
			play(t, mx.Addr(), conversation)
			if got := stored(mx); got != want {
				t.Errorf("stored:\n%swant:\n%s%s", got, want, mx.Transcripts()[0])
			}
		})
		delete(options, name)
	}
	if len(options) > 0 {
		t.Errorf("options without a transcript: %v", options)
	}
}

// play plays the client of a script against addr.
func play(t *testing.T, addr, text string) {
	t.Helper()
	script, err := ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := script.Dial(ctx, conn); err != nil {
		t.Fatal(err)
	}
}

func stored(mx *MX) string {
	var b strings.Builder
	for _, d := range mx.Deliveries() {
		b.WriteString(d.ReversePath.Bracketed() + " ->")
		for _, r := range d.Recipients {
			b.WriteString(" " + r.String())
		}
		state := "unacknowledged"
		if d.Acknowledged {
			state = "acknowledged"
		}
		fmt.Fprintf(&b, " %q %s\n", d.Content, state)
	}
	return b.String()
}
