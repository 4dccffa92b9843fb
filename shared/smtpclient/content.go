package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/postrider/postrider/shared/smtp"
)

// chunkSize is how much content is looked at and passed on at once, in octets.
// It is smaller than the write buffer, which therefore never runs empty after
// a chunk: the end of a message stays here until it is flushed.
const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// transfer passes a message's content on to out, without its final dot and
// without a last flush. Its error is a *smtp.Error where the content can never
// be sent, a writeError where out failed, and else the trouble of the source.
func transfer(ctx context.Context, out *bufio.Writer, m *Message, stuffed bool) error {
	content, err := m.Content()
	if err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	defer content.Close()
	chunk := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)

	w := contentWriter{out: out, stuffed: stuffed, text: text{lineStart: true}}
	var size int64
	for idle := 0; idle < 100; {
		n, err := content.Read(chunk[:])
		if size += int64(n); m.Size > 0 && size > m.Size {
			return fmt.Errorf("read content: more than the %d octets announced", m.Size)
		}
		if werr := w.write(chunk[:n]); werr != nil {
			return werr
		}
		switch {
		case err == io.EOF && size < m.Size:
			return fmt.Errorf("read content: %w: %d octets of the %d announced", io.ErrUnexpectedEOF, size, m.Size)
		case err == io.EOF:
			return w.finish(ctx, m)
		case err != nil:
			return fmt.Errorf("read content: %w", err)
		}
		if idle++; n > 0 {
			idle = 0
		}
	}
	return fmt.Errorf("read content: %w", io.ErrNoProgress)
}

// writeError is an error of the connection, told apart from those of the
// content's source.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// contentWriter vouches for content and stuffs its dots.
type contentWriter struct {
	out     *bufio.Writer
	stuffed bool
	text    text
}

func (w *contentWriter) write(p []byte) error {
	start := w.text.lineStart
	if err := w.text.check(p); err != nil {
		return err
	}
	if w.stuffed {
		stuff(w.out, p, start)
	} else {
		w.out.Write(p)
	}
	// A bufio.Writer remembers its first error.
	if _, err := w.out.Write(nil); err != nil {
		return writeError{err}
	}
	return nil
}

// finish ends the last line and asks BeforeDot.
func (w *contentWriter) finish(ctx context.Context, m *Message) error {
	if w.text.cr {
		return refuseNewline("CR without LF at the end")
	}
	if w.stuffed && !w.text.lineStart {
		w.out.WriteString("\r\n")
	}
	if m.BeforeDot != nil {
		if err := m.BeforeDot(ctx); err != nil {
			return fmt.Errorf("complete message: %w", err)
		}
	}
	return nil
}

// text checks that octets are CRLF text, whatever the chunks they come in.
type text struct {
	cr        bool // the last octet was CR
	lineStart bool // the next octet begins a line
}

// check looks at the next chunk. Every LF must follow a CR, and there must be
// as many of one as of the other.
func (t *text) check(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return refuseNewline("NUL")
	}
	lines := 0
	for at := 0; ; lines++ {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		if lf := at + i; lf == 0 && !t.cr || lf > 0 && p[lf-1] != '\r' {
			return refuseNewline("LF without CR")
		}
		at += i + 1
	}
	returns := bytes.Count(p, []byte("\r"))
	if t.cr {
		returns++
	}
	last := p[len(p)-1]
	if t.cr = last == '\r'; t.cr {
		returns--
	}
	if returns != lines {
		return refuseNewline("CR without LF")
	}
	t.lineStart = last == '\n'
	return nil
}

func refuseNewline(what string) error {
	return smtp.Refuse(smtp.ReplyBareNewline, errors.New("content has "+what))
}

// stuff writes checked text with every dot that begins a line doubled
// (RFC 5321 §4.5.2).
func stuff(out *bufio.Writer, p []byte, lineStart bool) {
	if lineStart && len(p) > 0 && p[0] == '.' {
		out.WriteByte('.')
	}
	for {
		i := bytes.Index(p, []byte("\n."))
		if i < 0 {
			out.Write(p)
			return
		}
		out.Write(p[:i+2])
		p = p[i+1:]
	}
}
