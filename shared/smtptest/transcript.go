package smtptest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Transcript is what was said in one session.
type Transcript struct {
	// Session numbers the connection, from 1.
	Session int64
	// RemoteAddr is the client.
	RemoteAddr string

	mu    sync.Mutex
	lines []string
}

// Lines are the commands ("C: EHLO x") and replies ("S: 250 ok") so far.
// Content is one line with its number of octets, a drop is "S-drop".
func (t *Transcript) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// String is the lines as text.
func (t *Transcript) String() string { return strings.Join(t.Lines(), "\n") + "\n" }

func (t *Transcript) add(side, line string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, side+line)
}

func (t *Transcript) octets(n int64) { t.add("C: ", "("+strconv.FormatInt(n, 10)+" octets)") }

// Transcripts returns the record of every session in the order of their
// connections; nil without Options.Transcripts.
func (mx *MX) Transcripts() []*Transcript {
	mx.mu.Lock()
	defer mx.mu.Unlock()
	return slices.Clone(mx.transcripts)
}

// transcript begins a record, if wanted.
func (mx *MX) transcript(session int64, remote string) *Transcript {
	if !mx.options.Transcripts {
		return nil
	}
	t := &Transcript{Session: session, RemoteAddr: remote}
	mx.mu.Lock()
	defer mx.mu.Unlock()
	mx.transcripts = append(mx.transcripts, t)
	return t
}
