package smtptest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const oneMessage = `
S: 220 *
C: EHLO relay.campus.test
S-until: 250 STARTTLS
C: MAIL FROM:<scan@campus.test>
S: 250 *
C: RCPT TO:<u1+t@example.test>
S: 250 *
C: RCPT TO:<u2@example.test>
S: 250 *
C: DATA
S: 354 *
C: Message-ID: <1@campus.test>
C: X-Ledger: token-1
C: Subject: Scan
C:
C: body
C: .
S: 250 *
`

const oneContent = "Message-ID: <1@campus.test>\r\nX-Ledger: token-1\r\nSubject: Scan\r\n\r\nbody\r\n"

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestMaildir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	if entries, err := ReadIndex(dir); err != nil || entries != nil {
		t.Fatalf("missing index: %v %v", entries, err)
	}
	for range 2 { // the second time it is appended to
		store, err := OpenMaildir(dir)
		if err != nil {
			t.Fatal(err)
		}
		mx := Start(t, Options{Store: store})
		play(t, mx.Addr(), oneMessage)
		play(t, mx.Addr(), strings.NewReplacer("u2@", "drop-after-dot@", "C: .\nS: 250 *", "C: .\nS-drop").Replace(oneMessage))
		play(t, mx.Addr(), strings.NewReplacer("u2@", "data-451@", "C: .\nS: 250", "C: .\nS: 451").Replace(oneMessage))
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := ReadIndex(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("index: %v %v", entries, err)
	}
	for i, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.File))
		if err != nil || string(content) != oneContent {
			t.Errorf("%s: %q, %v", e.File, content, err)
		}
		if e.SHA256 != sum(oneContent) || e.MessageID != "<1@campus.test>" || e.Subject != "Scan" ||
			e.ReversePath != "scan@campus.test" || len(e.Recipients) != 2 || e.Size != int64(len(oneContent)) ||
			e.TLS != "" || e.Time.IsZero() || e.Acknowledged != (i%2 == 0) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("tmp has %v, %v", left, err)
	}
}

func TestReadIndexWhileWritten(t *testing.T) {
	dir := t.TempDir()
	text := `{"file":"new/1.eml"}` + "\n" + `{"file":"new/2`
	if err := os.WriteFile(filepath.Join(dir, IndexFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if entries, err := ReadIndex(dir); err != nil || len(entries) != 1 || entries[0].File != "new/1.eml" {
		t.Errorf("half a line: %v %v", entries, err)
	}
	if err := os.WriteFile(filepath.Join(dir, IndexFile), []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadIndex(dir); err == nil {
		t.Error("nonsense was read")
	}
}

func TestJournal(t *testing.T) {
	var lines bytes.Buffer
	mx := Start(t, Options{Store: Stores{NewJournal(&lines), Discard{}}})
	play(t, mx.Addr(), oneMessage)
	dec := json.NewDecoder(&lines)
	for _, recipient := range []string{"u1+t@example.test", "u2@example.test"} {
		var e JournalEntry
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Time.IsZero() || e.RemoteAddr == "" {
			t.Errorf("incomplete: %+v", e)
		}
		e.Time, e.RemoteAddr = time.Time{}, ""
		if e != (JournalEntry{
			ReversePath: "scan@campus.test", Recipient: recipient, MessageID: "<1@campus.test>", SubmissionID: "token-1",
			SHA256Body: sum("body\r\n"), Size: int64(len(oneContent)), Acknowledged: true,
		}) {
			t.Errorf("%+v", e)
		}
	}
	if dec.More() {
		t.Error("more lines than recipients")
	}
}

// TestUnfinished leaves nothing of a message that was cut off or given up.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	store, err := OpenMaildir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	mx := Start(t, Options{Store: store})
	play(t, mx.Addr(), oneMessage[:strings.Index(oneMessage, "C: DATA")]+`
C-raw: "BDAT 4\r\nabcd"
S: 250 *
C: RSET
S: 250 *
C: QUIT
S: 221 *
S-drop`)
	if c := mx.Counts(); c.CutOff != 0 {
		t.Errorf("%+v", c)
	}
	play(t, mx.Addr(), oneMessage[:strings.Index(oneMessage, "C: .")])
	if err := mx.WaitFor(t.Context(), func(c Counts) bool { return c.Open == 0 && c.CutOff == 1 }); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "new"} {
		if left, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(left) != 0 {
			t.Errorf("%s has %v, %v", sub, left, err)
		}
	}
}

// faulty is a Store that fails where it is told to.
type faulty struct{ begin, write, commit, discarded bool }

func (f *faulty) Begin() (Spool, error) {
	if f.begin {
		return nil, errors.New("no room")
	}
	return f, nil
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.write {
		return 0, errors.New("no room")
	}
	return len(p), nil
}

func (f *faulty) Commit(*Delivery) error {
	if f.commit {
		return errors.New("no room")
	}
	return nil
}

func (f *faulty) Discard() { f.discarded = true }

func TestStoreFailure(t *testing.T) {
	for name, store := range map[string]*faulty{
		"begin": {begin: true}, "write": {write: true}, "commit": {commit: true},
	} {
		memory := &Memory{}
		mx := Start(t, Options{Store: Stores{store, memory}})
		script := strings.ReplaceAll(oneMessage, "C: .\nS: 250", "C: .\nS: 451 4.3.0")
		if store.begin {
			script = script[:strings.Index(script, "S: 354")] + "S: 451 4.3.0 *\n"
		}
		play(t, mx.Addr(), script)
		if n := mx.Counts().Stored + int64(len(memory.Deliveries())); n != 0 {
			t.Errorf("%s: %d stored", name, n)
		}
		if store.write != store.discarded {
			t.Errorf("%s: discarded %v", name, store.discarded)
		}
	}
	second := &faulty{begin: true}
	first := &faulty{}
	if _, err := (Stores{first, second}).Begin(); err == nil || !first.discarded {
		t.Errorf("half a begin: %v, discarded %v", err, first.discarded)
	}
}
