package smtptest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Delivery is one message as the MX took it.
type Delivery struct {
	// Time is when the end of the content was seen.
	Time time.Time
	// Session numbers the connection, from 1.
	Session int64
	// RemoteAddr and LocalAddr are the ends of the connection.
	RemoteAddr, LocalAddr string
	// Helo is the argument of EHLO, HELO or LHLO.
	Helo string
	// TLS is the version, for example "TLS 1.3"; empty in the clear.
	TLS string
	// ServerName is what the client asked for by SNI.
	ServerName string
	// User is who authenticated; empty without AUTH.
	User string
	// ReversePath is the argument of MAIL.
	ReversePath smtp.ReversePath
	// Parameters are those of MAIL as they were written, for example
	// "BODY=8BITMIME".
	Parameters []string
	// Recipients are the accepted ones, in the order of RCPT.
	Recipients []Recipient
	// Size is the number of octets of the content.
	Size int64
	// Header is the header section without the empty line that ends it, at
	// most 256 KiB.
	Header []byte
	// Content is the exact content. Only Memory fills it.
	Content []byte
	// ContentSHA256 and BodySHA256 are hex digests of all of the content and
	// of what follows the header section and its empty line, or the first 256
	// KiB; empty with Options.NoDigest.
	ContentSHA256, BodySHA256 string
	// Chunked tells that it came by BDAT.
	Chunked bool
	// Acknowledged tells that a positive final reply was written, or was
	// about to be: the store has the message before.
	Acknowledged bool
}

// Recipient is one accepted RCPT.
type Recipient struct {
	smtp.ForwardPath
	// Parameters are those of RCPT as they were written.
	Parameters []string
}

// MessageID is the value of the Message-ID field, with its angle brackets.
func (d *Delivery) MessageID() string { return d.Field("Message-ID") }

// Field is the value of the first header field of that name, unfolded (RFC
// 5322 §2.2.3) and without the space around it; empty when there is none.
func (d *Delivery) Field(name string) string {
	header := d.Header
	for len(header) > 0 {
		line := header
		if i := endOfField(header); i >= 0 {
			line, header = header[:i], header[i+2:]
		} else {
			header = nil
		}
		if got, value, ok := bytes.Cut(line, []byte(":")); ok && strings.EqualFold(string(bytes.TrimRight(got, " \t")), name) {
			return strings.TrimSpace(strings.ReplaceAll(string(value), "\r\n", ""))
		}
	}
	return ""
}

// endOfField is the index of the CR LF that ends the field: the first one not
// followed by white space.
func endOfField(header []byte) int {
	for i := 0; ; {
		j := bytes.Index(header[i:], []byte("\r\n"))
		if j < 0 {
			return -1
		}
		i += j
		if i+2 >= len(header) || (header[i+2] != ' ' && header[i+2] != '\t') {
			return i
		}
		i += 2
	}
}

// Store keeps what the MX takes. It is used by many sessions at once.
type Store interface {
	// Begin opens the place for one message. An error is answered with 451.
	Begin() (Spool, error)
}

// Spool takes one message. Either Commit or Discard is called, once.
type Spool interface {
	io.Writer
	// Commit keeps the message. The MX answers 250 only after it returned nil,
	// and 451 otherwise.
	Commit(d *Delivery) error
	// Discard forgets it: it was refused or cut off.
	Discard()
}

// Memory is a Store for tests.
type Memory struct {
	mu         sync.Mutex
	deliveries []Delivery
}

// Begin opens a buffer.
func (m *Memory) Begin() (Spool, error) { return &memorySpool{store: m}, nil }

// Deliveries returns what was committed so far, in that order.
func (m *Memory) Deliveries() []Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.deliveries)
}

type memorySpool struct {
	bytes.Buffer
	store *Memory
}

func (s *memorySpool) Commit(d *Delivery) error {
	kept := *d
	kept.Content = s.Bytes()
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.deliveries = append(s.store.deliveries, kept)
	return nil
}

func (s *memorySpool) Discard() {}

// Discard is a Store that keeps nothing; the MX still counts.
type Discard struct{}

// Begin returns a place that forgets.
func (Discard) Begin() (Spool, error) { return nothing{}, nil }

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) Commit(*Delivery) error      { return nil }
func (nothing) Discard()                    {}

// Stores keeps every message in each of several stores, in order. The first
// that fails to commit ends the commit: the stores before it have the message
// although it is answered with 451.
type Stores []Store

// Begin opens a place in every store.
func (s Stores) Begin() (Spool, error) {
	opened := make(spools, 0, len(s))
	for _, store := range s {
		spool, err := store.Begin()
		if err != nil {
			opened.Discard()
			return nil, err
		}
		opened = append(opened, spool)
	}
	return opened, nil
}

type spools []Spool

func (s spools) Write(p []byte) (int, error) {
	var failed error
	for _, spool := range s {
		_, err := spool.Write(p)
		failed = errors.Join(failed, err)
	}
	return len(p), failed
}

func (s spools) Commit(d *Delivery) error {
	for i, spool := range s {
		if err := spool.Commit(d); err != nil {
			s[i+1:].Discard()
			return err
		}
	}
	return nil
}

func (s spools) Discard() {
	for _, spool := range s {
		spool.Discard()
	}
}
