//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"
)

// submission is what a line of a device's journal says.
type submission struct {
	Token     string    `json:"token"`
	Phase     string    `json:"phase"`
	MessageID string    `json:"message_id"`
	Code      int       `json:"code"`
	Enhanced  string    `json:"enhanced"`
	Text      string    `json:"text"`
	At        time.Time `json:"at"`
}

// arrival is what a line of the mailbox's journal says.
type arrival struct {
	Kind       string   `json:"kind"`
	Recipients []string `json:"recipients"`
}

// transaction is how long the mailbox took to answer a dot.
type transaction struct {
	MessageID  string    `json:"message_id"`
	Recipients []string  `json:"recipients"`
	Dot        time.Time `json:"dot"`
	Answered   time.Time `json:"answered"`
}

// tail reads a journal that is being written.
type tail struct {
	path   string
	offset int64
}

// next are the whole lines that were written since the last call.
func (f *tail) next(t testing.TB) [][]byte {
	t.Helper()
	file, err := os.Open(f.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, f.offset, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	f.offset += int64(len(text))
	if len(text) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

// read reads what is in a journal.
func read[T any](t testing.TB, path string) []T {
	t.Helper()
	return decode[T](t, (&tail{path: path}).next(t))
}

func decode[T any](t testing.TB, lines [][]byte) []T {
	t.Helper()
	out := make([]T, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal(line, &out[i]); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
	}
	return out
}

// work is how far a relay has come: messages that were accepted, recipients
// that were served or reported.
type work struct {
	clients []*tail
	sink    *tail
	// done and due count one for each message and one for each recipient.
	done, due int
}

func (w *work) expect(client *tail, messages int) {
	w.clients = append(w.clients, client)
	w.due += messages * (1 + recipients)
}

// share is how much of the work is done, from 0 to about 1.
func (w *work) share(t testing.TB) float64 {
	t.Helper()
	for _, client := range w.clients {
		for _, s := range decode[submission](t, client.next(t)) {
			if s.Phase == "reply" && s.Code/100 == 2 {
				w.done++
			}
		}
	}
	for _, a := range decode[arrival](t, w.sink.next(t)) {
		w.done += len(a.Recipients)
	}
	return float64(w.done) / float64(w.due)
}
