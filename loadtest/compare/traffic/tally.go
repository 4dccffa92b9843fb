package traffic

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Tally counts what arrived of one run.
type Tally struct {
	messages   int
	signatures int
	body       []byte

	mu         sync.Mutex
	seen       []bool
	distinct   int
	duplicates int
	unlike     int // other body, or other number of signatures
	complaint  string
	header     []byte // of the first that arrived
	last       time.Time
	all        chan struct{}
}

func newTally(messages, signatures int, message Message) *Tally {
	return &Tally{
		messages: messages, signatures: signatures, body: message.body,
		seen: make([]bool, messages), all: make(chan struct{}),
	}
}

// All is closed when every message of the run has arrived.
func (t *Tally) All() <-chan struct{} { return t.all }

// Arrived is how many different messages have arrived, and when the last did.
func (t *Tally) Arrived() (distinct int, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.distinct, t.last
}

// Check is nil when every message has arrived exactly once, unchanged, and
// with as many signatures as expected.
func (t *Tally) Check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.distinct != t.messages || t.duplicates+t.unlike > 0 {
		return fmt.Errorf("%d of %d messages arrived, %d copies too many, %d not as they should be%s",
			t.distinct, t.messages, t.duplicates, t.unlike, t.complaint)
	}
	return nil
}

// Signatures says how the first message that arrived is signed: for each
// DKIM-Signature field its algorithm and the length of the signature in bits.
func (t *Tally) Signatures() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return signatures(t.header)
}

func (t *Tally) arrived(number uint32, message []byte, now time.Time) {
	end := bytes.Index(message, []byte("\r\n\r\n"))
	complaint := t.examine(message, end)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.header == nil && end >= 0 {
		t.header = bytes.Clone(message[:end+2])
	}
	if complaint != "" {
		t.unlike++
		t.complaint = ": " + complaint
	}
	switch {
	case int(number) >= len(t.seen):
		t.unlike++
		t.complaint = fmt.Sprintf(": number %d", number)
		return
	case t.seen[number]:
		t.duplicates++
		return
	}
	t.seen[number] = true
	t.last = now
	if t.distinct++; t.distinct == t.messages {
		close(t.all)
	}
}

// examine says what is wrong with a message whose header ends at end.
func (t *Tally) examine(message []byte, end int) string {
	if end < 0 || !bytes.Equal(message[end+4:], t.body) {
		return "the body is another"
	}
	if n := bytes.Count(message[:end], []byte(signatureField)); n != t.signatures {
		return fmt.Sprintf("%d DKIM-Signature fields, expected %d", n, t.signatures)
	}
	return ""
}

// signatureField begins with the line break before it: the sink keeps one in
// front of each message, so that the first field is found, too.
const signatureField = "\r\nDKIM-Signature:"

func signatures(header []byte) []string {
	var found []string
	unfolded := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(header))
	for line := range strings.Lines(unfolded) {
		value, ok := strings.CutPrefix(line, strings.TrimPrefix(signatureField, "\r\n"))
		if !ok {
			continue
		}
		tags := map[string]string{}
		for tag := range strings.SplitSeq(value, ";") {
			name, content, _ := strings.Cut(tag, "=")
			tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(content), "")
		}
		signature, err := base64.StdEncoding.DecodeString(tags["b"])
		if err != nil {
			found = append(found, tags["a"]+" unreadable")
			continue
		}
		found = append(found, fmt.Sprintf("%s %d", tags["a"], len(signature)*8))
	}
	return found
}
