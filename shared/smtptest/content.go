package smtptest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
)

// maxHeader bounds the header section that is looked at, in octets.
const maxHeader = 256 << 10

// copyDot writes the content of DATA up to its final dot into w and removes
// the dots of transparency (RFC 5321 §4.5.2). Only CR LF starts a line: a dot
// after a bare LF or CR is content, so that no second message can be smuggled.
// It stops with the error of w, or io.ErrUnexpectedEOF.
func copyDot(w io.Writer, r *bufio.Reader) error {
	lineStart := true
	for {
		if _, err := r.Peek(1); err != nil {
			return cutOff(err)
		}
		buf, _ := r.Peek(r.Buffered())
		if lineStart && buf[0] == '.' {
			end, err := r.Peek(3)
			if err != nil {
				return cutOff(err)
			}
			if string(end) == ".\r\n" {
				discard(r, 3)
				return nil
			}
			discard(r, 1)
			lineStart = false
			continue
		}
		n := len(buf)
		if i := bytes.Index(buf, []byte("\r\n.")); i >= 0 {
			n = i + 2
		} else if n > 1 && buf[n-1] == '\r' {
			n-- // its LF has not been read yet
		} else if n == 1 && buf[0] == '\r' {
			next, err := r.Peek(2)
			if err != nil {
				return cutOff(err)
			}
			if buf = next; next[1] == '\n' {
				n = 2
			}
		}
		lineStart = n >= 2 && buf[n-2] == '\r' && buf[n-1] == '\n'
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		discard(r, n)
	}
}

// copyChunk writes the n octets of one BDAT chunk into w (RFC 3030 §2).
func copyChunk(w io.Writer, r *bufio.Reader, n int64) error {
	for n > 0 {
		if _, err := r.Peek(1); err != nil {
			return cutOff(err)
		}
		buf, _ := r.Peek(int(min(n, int64(r.Buffered()))))
		if _, err := w.Write(buf); err != nil {
			return err
		}
		discard(r, len(buf))
		n -= int64(len(buf))
	}
	return nil
}

// discard drops octets that were peeked at and are therefore in the buffer.
func discard(r *bufio.Reader, n int) { _, _ = r.Discard(n) }

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// meter stands between the wire and the spool: it counts, bounds and digests
// the content and keeps its header section. It never fails: what the spool or
// the bound refuses is remembered, and the content read to its end.
type meter struct {
	spool  Spool
	limit  int64 // 0: none
	digest bool

	size        int64
	header      []byte
	headerDone  bool
	whole, body hash.Hash
	tooBig      bool
	err         error
}

func newMeter(spool Spool, limit int64, digest bool) *meter {
	m := &meter{spool: spool, limit: limit, digest: digest}
	if digest {
		m.whole, m.body = sha256.New(), sha256.New()
	}
	return m
}

func (m *meter) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	if m.limit > 0 && m.size > m.limit {
		m.tooBig = true
	}
	if m.tooBig || m.err != nil {
		return len(p), nil
	}
	_, m.err = m.spool.Write(p)
	if m.digest {
		m.whole.Write(p)
	}
	rest := m.takeHeader(p)
	if m.digest {
		m.body.Write(rest)
	}
	return len(p), nil
}

// takeHeader appends to the header section until the empty line that ends it,
// or the bound, and returns what belongs to the body.
func (m *meter) takeHeader(p []byte) []byte {
	if m.headerDone {
		return p
	}
	from := max(0, len(m.header)-3)
	seen := p // with what came before: the usual header is in the first p
	if len(m.header) > 0 {
		m.header = append(m.header, p...)
		seen = m.header
	}
	end, body := -1, 0
	if bytes.HasPrefix(seen, []byte("\r\n")) {
		end, body = 0, 2
	} else if i := bytes.Index(seen[from:], []byte("\r\n\r\n")); i >= 0 {
		end, body = from+i+2, from+i+4
	}
	if body > maxHeader || end < 0 && len(seen) > maxHeader {
		end, body = maxHeader, maxHeader
	}
	if end < 0 {
		if len(m.header) == 0 {
			m.header = bytes.Clone(p)
		}
		return nil
	}
	m.header, m.headerDone = bytes.Clone(seen[:end]), true
	return p[len(p)-(len(seen)-body):]
}

// sums are the digests of all of the content and of what follows the empty
// line, in hex; empty when not wanted.
func (m *meter) sums() (whole, body string) {
	if !m.digest {
		return "", ""
	}
	return hex.EncodeToString(m.whole.Sum(nil)), hex.EncodeToString(m.body.Sum(nil))
}
