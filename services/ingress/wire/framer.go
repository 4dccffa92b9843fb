package wire

import (
	"bytes"
	"errors"

	"github.com/postrider/postrider/shared/smtp"
)

var (
	errNewline = errors.New("bare CR, bare LF or NUL in the body")
	errTooBig  = errors.New("body larger than the limit")
)

// frameRoom is the space that framer.frame wants in dst to make progress: the
// longest sequence it writes as a whole.
const frameRoom = 4

// longestRun bounds how far framer looks ahead for one octet, so that a body of
// nothing but NUL, say, costs no more than a small multiple of its size.
const longestRun = 256

// framer turns what a client sends as a body into what go-smtp may read: lines
// that end in CRLF, dot-stuffed (RFC 5321 §4.5.2), without NUL. It decides
// where the body ends, and performs no I/O.
//
// In DATA the input is dot-stuffed and ends at CRLF.CRLF. In BDAT (chunked) it
// is the content itself and ends when the caller says so, by finish.
//
// A fault (a newline fault without repair, or too much content) stops the
// output for good. The input is still followed to its genuine end.
type framer struct {
	chunked bool
	repair  bool
	plain   bool  // without stuffing, for a reader that knows the end
	limit   int64 // of size; 0: none

	state   frameState
	fault   error // *smtp.Error, or errAborted; nil while the body is good
	size    int64 // octets of content written
	seen    int64 // octets of input consumed
	open    bool  // output stands inside a line
	line    int   // octets of the present line of content
	longest int   // octets of the longest line, without CRLF

	repaired int // octets that would have been a fault
}

type frameState uint8

const (
	atLine     frameState = iota // after CRLF, or at the start: a dot is framing in DATA
	atContent                    // at the start of a line by repair or after a dot: a dot is content
	inLine                       // inside a line
	afterDot                     // a dot at the start of a line was taken, not written
	afterDotCR                   // the dot and a CR were taken, not written
	afterCR                      // a CR inside a line was taken, not written
	ended                        // the genuine CRLF.CRLF was taken
)

// frame consumes src and writes to dst until src is used up, dst has less than
// frameRoom left, the body has ended, or a fault was found.
func (f *framer) frame(dst, src []byte) (written, used int) {
	before := f.fault
	for used < len(src) && len(dst)-written >= frameRoom && f.state != ended && f.fault == before { //nolint:errorlint // identity: is it still the same fault?
		if f.state == inLine {
			n, m := f.text(dst[written:], src[used:])
			written += n
			used += m
			continue
		}
		n, took := f.step(dst[written:], src[used])
		written += n
		if took {
			used++
		}
	}
	f.seen += int64(used)
	return written, used
}

// text takes a run of ordinary octets and at most one special octet after it.
func (f *framer) text(dst, src []byte) (written, used int) {
	run := src[:min(len(src), len(dst)-frameRoom+1, longestRun)]
	special := -1
	if i := bytes.IndexByte(run, '\n'); i >= 0 {
		run, special = run[:i], i
	}
	if i := bytes.IndexByte(run, '\r'); i >= 0 {
		run, special = run[:i], i
	}
	if i := bytes.IndexByte(run, 0); i >= 0 {
		run, special = run[:i], i
	}
	written = f.write(dst, run)
	used = len(run)
	if special < 0 {
		return written, used
	}
	used++
	switch src[special] {
	case '\r':
		f.state = afterCR
	case '\n':
		written += f.newline(dst[written:])
	case 0:
		f.flaw()
	}
	return written, used
}

// step takes one octet outside the run of a line; took is false when the state
// changed and the octet is to be looked at again.
func (f *framer) step(dst []byte, b byte) (written int, took bool) {
	switch f.state {
	case atLine:
		if b == '.' && !f.chunked {
			f.state = afterDot
			return 0, true
		}
		f.state = atContent
		return 0, false

	case atContent:
		switch b {
		case 0: // dropped; what follows still stands at the start of its line
			f.flaw()
			return 0, true
		case '.':
			f.state = inLine
			written = f.write(dst, dot)
			if written > 0 && !f.plain {
				dst[1] = '.' // stuffing, no content
				written++
			}
			return written, true
		}
		f.state = inLine
		return 0, false

	case afterDot:
		if b == '\r' {
			f.state = afterDotCR
			return 0, true
		}
		f.state = atContent // the dot was transparency
		return 0, false

	case afterDotCR:
		if b == '\n' {
			f.state = ended
			return 0, true
		}
		f.state = afterCR
		return 0, false

	default: // afterCR
		switch b {
		case '\n':
			f.state = atLine
			return f.endLine(dst), true
		case '\r': // CR CR LF is one line end, written by a broken text mode
			f.flaw()
			return 0, true
		}
		return f.newline(dst), false
	}
}

// finish ends a chunked body: it completes the last line.
func (f *framer) finish(dst []byte) (written int) {
	before := f.fault
	if f.state == afterCR {
		written = f.newline(dst)
	}
	if f.open && f.fault == nil {
		written += f.endLine(dst[written:])
	}
	if f.fault == before { //nolint:errorlint // identity: a fault of the line just ended
		f.state = ended
	}
	return written
}

// newline replaces a bare CR or a bare LF by CRLF, or finds the fault.
func (f *framer) newline(dst []byte) int {
	f.state = atContent
	f.flaw()
	return f.endLine(dst)
}

// flaw makes a bare CR, bare LF or NUL a fault where it may not be repaired.
func (f *framer) flaw() {
	if !f.repair {
		f.fail(smtp.Refuse(smtp.ReplyBareNewline, errNewline))
		return
	}
	f.repaired++
}

func (f *framer) fail(err error) {
	if f.fault == nil {
		f.fault = err
	}
}

var (
	dot  = []byte(".")
	crlf = []byte("\r\n")
)

func (f *framer) endLine(dst []byte) int {
	n := f.write(dst, crlf)
	if n > 0 {
		f.longest = max(f.longest, f.line-n)
		f.open, f.line = false, 0
	}
	return n
}

// write appends content, all of it or, after a fault, nothing.
func (f *framer) write(dst, content []byte) int {
	if f.fault != nil || len(content) == 0 {
		return 0
	}
	if f.limit > 0 && f.size+int64(len(content)) > f.limit {
		f.fail(smtp.Refuse(smtp.ReplyTooBig, errTooBig))
		return 0
	}
	f.size += int64(len(content))
	f.line += len(content)
	f.open = true
	return copy(dst, content)
}
