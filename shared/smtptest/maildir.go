package smtptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// IndexFile is the name of the index in the directory of a Maildir.
const IndexFile = "index.jsonl"

// Maildir is a Store in a directory: tmp/ while a message is written, new/ with
// one .eml file for each message, and index.jsonl with one IndexEntry a line.
// The file is in new/ before its line is in the index, and the line is handed
// to the operating system before Commit returns. Nothing is synced: it outlives
// this process, not the machine.
type Maildir struct {
	dir    string
	prefix string // unique to this process and start
	serial atomic.Int64

	mu    sync.Mutex
	index *os.File
}

// IndexEntry is one line of index.jsonl.
type IndexEntry struct {
	Time time.Time `json:"time"`
	// File is relative to the directory.
	File        string   `json:"file"`
	ReversePath string   `json:"reverse_path"` // empty: null
	Recipients  []string `json:"recipients"`
	// SHA256 is that of all of the content, in hex.
	SHA256    string `json:"sha256"`
	MessageID string `json:"message_id"`
	Subject   string `json:"subject"`
	Size      int64  `json:"size"`
	// TLS is the version; empty in the clear.
	TLS          string `json:"tls"`
	Acknowledged bool   `json:"acknowledged"`
}

// OpenMaildir makes the directory if needed and appends to its index.
func OpenMaildir(dir string) (*Maildir, error) {
	for _, sub := range []string{"tmp", "new"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open maildir: %w", err)
		}
	}
	index, err := os.OpenFile(filepath.Join(dir, IndexFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open maildir: %w", err)
	}
	prefix := strconv.FormatInt(time.Now().UnixNano(), 10) + ".P" + strconv.Itoa(os.Getpid())
	return &Maildir{dir: dir, prefix: prefix, index: index}, nil
}

// Close closes the index. Call it after MX.Run has returned.
func (m *Maildir) Close() error { return m.index.Close() }

// Begin creates the file of one message in tmp/.
func (m *Maildir) Begin() (Spool, error) {
	name := fmt.Sprintf("%s.Q%d.eml", m.prefix, m.serial.Add(1))
	f, err := os.OpenFile(filepath.Join(m.dir, "tmp", name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create message file: %w", err)
	}
	return &maildirSpool{File: f, store: m, name: name}, nil
}

type maildirSpool struct {
	*os.File
	store *Maildir
	name  string
}

func (s *maildirSpool) Commit(d *Delivery) error {
	if err := s.Close(); err != nil {
		return fmt.Errorf("close message file: %w", err)
	}
	file := filepath.Join("new", s.name)
	if err := os.Rename(s.Name(), filepath.Join(s.store.dir, file)); err != nil {
		return fmt.Errorf("keep message file: %w", err)
	}
	entry := IndexEntry{
		Time: d.Time.UTC(), File: file, ReversePath: d.ReversePath.String(),
		SHA256: d.ContentSHA256, MessageID: d.MessageID(), Subject: d.Field("Subject"),
		Size: d.Size, TLS: d.TLS, Acknowledged: d.Acknowledged,
	}
	for _, r := range d.Recipients {
		entry.Recipients = append(entry.Recipients, r.String())
	}
	line, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if _, err := s.store.index.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

func (s *maildirSpool) Discard() {
	_ = s.Close()
	_ = os.Remove(s.Name())
}

// ReadIndex reads the index of a directory that a Maildir writes or has
// written. A last line that is still being written is left out; a missing
// index is an empty one.
func ReadIndex(dir string) ([]IndexEntry, error) {
	text, err := os.ReadFile(filepath.Join(dir, IndexFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	var entries []IndexEntry
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var entry IndexEntry
		if err := dec.Decode(&entry); errors.Is(err, io.EOF) {
			return entries, nil
		} else if err != nil {
			return entries, fmt.Errorf("read index entry %d: %w", len(entries)+1, err)
		}
		entries = append(entries, entry)
	}
}
