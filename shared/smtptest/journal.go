package smtptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// TokenHeader is the header field by which load tests tie a copy at the MX to
// its submission.
const TokenHeader = "X-Ledger"

// Journal is a Store that keeps no content and writes one JournalEntry a line
// for each message and recipient: the witness of the far end for a check of
// the books. The lines of one message are one write, made before the final
// reply.
type Journal struct {
	mu sync.Mutex
	w  io.Writer
}

// JournalEntry is one line of a Journal.
type JournalEntry struct {
	Time        time.Time `json:"time"`
	ReversePath string    `json:"reverse_path"` // empty: null
	Recipient   string    `json:"recipient"`
	MessageID   string    `json:"message_id"`
	// SubmissionID is the value of the X-Ledger field.
	SubmissionID string `json:"submission_id"`
	// SHA256Body is that of what follows the header section, in hex.
	SHA256Body string `json:"sha256_body"`
	// Size is that of all of the content, in octets.
	Size         int64  `json:"size"`
	TLS          string `json:"tls"`
	RemoteAddr   string `json:"remote_addr"`
	Acknowledged bool   `json:"acknowledged"`
}

// NewJournal writes to w, which gets one Write for each message.
func NewJournal(w io.Writer) *Journal { return &Journal{w: w} }

// Begin returns a place that forgets the content.
func (j *Journal) Begin() (Spool, error) { return journalSpool{journal: j}, nil }

type journalSpool struct {
	nothing
	journal *Journal
}

func (s journalSpool) Commit(d *Delivery) error {
	entry := JournalEntry{
		Time: d.Time.UTC(), ReversePath: d.ReversePath.String(), MessageID: d.MessageID(),
		SubmissionID: d.Field(TokenHeader), SHA256Body: d.BodySHA256, Size: d.Size,
		TLS: d.TLS, RemoteAddr: d.RemoteAddr, Acknowledged: d.Acknowledged,
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, r := range d.Recipients {
		entry.Recipient = r.String()
		if err := enc.Encode(entry); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if _, err := s.journal.w.Write(lines.Bytes()); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}
