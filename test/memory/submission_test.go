//go:build memory

package memory

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/smtp"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/test/world"
)

// submit sends one message whose content has size octets, a scan as a device
// sends it, and returns the digest of its body.
func submit(t *testing.T, server, token string, size int) (digest string, err error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr(world.Printer).AsSlice()}}
	conn, err := dialer.DialContext(t.Context(), "tcp", server)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	c, err := smtp.NewClient(conn, "relay.campus.test")
	if err != nil {
		return "", err
	}
	for _, step := range []func() error{
		func() error { return c.Hello("prn.campus.test") },
		func() error { return c.Mail("prn@campus.test") },
		func() error { return c.Rcpt("scans@" + destination) },
	} {
		if err := step(); err != nil {
			return "", err
		}
	}
	w, err := c.Data()
	if err != nil {
		return "", err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	header := "From: prn@campus.test\r\nTo: scans@" + destination + "\r\nSubject: scan\r\n" + smtptest.TokenHeader + ": " + token + "\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n"
	if _, err := io.WriteString(out, header); err != nil {
		return "", err
	}
	sum := sha256.New()
	if err := scan(io.MultiWriter(out, sum), token, size-len(header)); err != nil {
		return "", err
	}
	if err := out.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), w.Close()
}

// scan writes a body of size octets in lines of 76 (RFC 2045 §6.8), other ones
// for every token.
func scan(w io.Writer, token string, size int) error {
	source := rand.NewChaCha8(sha256.Sum256([]byte(token)))
	var raw [57]byte
	line := make([]byte, 78)
	copy(line[76:], "\r\n")
	for ; size > 0; size -= len(line) {
		source.Read(raw[:])
		base64.StdEncoding.Encode(line, raw[:])
		if rest := size - len(line); rest < 3 { // no room for one more line
			line = append(bytes.Repeat(line[:76], 2)[:size-2], "\r\n"...)
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// journal is what the sink wrote down.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// entries are the messages that arrived, by token.
func (j *journal) entries() (map[string][]smtptest.JournalEntry, error) {
	j.mu.Lock()
	text := j.buf.String()
	j.mu.Unlock()
	found := map[string][]smtptest.JournalEntry{}
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var e smtptest.JournalEntry
		err := d.Decode(&e)
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		found[e.SubmissionID] = append(found[e.SubmissionID], e)
	}
}
