package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/shared/smtp"
)

// Bounds of one reply. RFC 5321 §4.5.3.1.5 allows 512 octets a line; real
// servers exceed that, and none needs more than these.
const (
	maxReplyLine   = 2048     // octets kept of a line; the rest is dropped
	maxReplyLines  = 200      // lines
	maxReplyOctets = 64 << 10 // octets read for one reply, dropped ones included
	maxReplyText   = 2048     // octets kept of the text for people
	readerSize     = 4096     // octets
)

// replyReader reads replies (RFC 5321 §4.2) and keeps the last one.
type replyReader struct {
	in   *bufio.Reader
	code int
	text []byte // of each line what follows the code, ended by "\n"
}

// read reads one reply. It accepts LF for CRLF, and nothing else that the
// standard does not.
func (r *replyReader) read() error {
	if cap(r.text) > readerSize {
		r.text = nil
	}
	r.code, r.text = 0, r.text[:0]
	octets := 0
	for lines := 1; ; lines++ {
		line, n, err := r.line(maxReplyOctets - octets)
		if err != nil {
			return err
		}
		octets += n
		code, text, more, err := parseReplyLine(line)
		if err != nil {
			return err
		}
		if lines > 1 && code != r.code {
			return fmt.Errorf("%w: a reply with the codes %d and %d", ErrProtocol, r.code, code)
		}
		r.code = code
		r.text = append(append(r.text, text...), '\n')
		if !more {
			return nil
		}
		if lines == maxReplyLines {
			return fmt.Errorf("%w: a reply of more than %d lines", ErrProtocol, maxReplyLines)
		}
	}
}

// line reads one line of at most limit octets, and returns its head without
// the line end, valid until the next read, and the octets it took.
func (r *replyReader) line(limit int) (head []byte, n int, err error) {
	for {
		part, err := r.in.ReadSlice('\n')
		n += len(part)
		switch {
		case n > limit:
			return nil, n, fmt.Errorf("%w: a reply of more than %d octets", ErrProtocol, maxReplyOctets)
		case err == nil && head == nil:
			head = bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
			return head[:min(len(head), maxReplyLine)], n, nil
		case err == nil:
			return head, n, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if err == io.EOF && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, n, err
		case head == nil:
			head = bytes.Clone(part[:maxReplyLine])
		}
	}
}

// parseReplyLine reads "250", "250 text" or, with more lines to come,
// "250-text".
func parseReplyLine(line []byte) (code int, text []byte, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, nil, false, fmt.Errorf("%w: no reply code in %.40q", ErrProtocol, line)
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return 0, nil, false, fmt.Errorf("%w: NUL in a reply", ErrProtocol)
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, nil, false, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, nil, false, fmt.Errorf("%w: no reply code in %.40q", ErrProtocol, line)
	}
	return code, line[4:], line[3] == '-', nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// reply is the last reply, fit for logs and reports.
func (r *replyReader) reply() smtp.Reply {
	lines := strings.Split(printable(r.text), "\n")
	return smtp.ParseReply(r.code, lines)
}

// printable is the text bounded, in UTF-8, with every control character but
// the line ends between its lines replaced.
func printable(text []byte) string {
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) > maxReplyText {
		text = text[:maxReplyText]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		if len(text) > 0 && text[len(text)-1] >= utf8.RuneSelf {
			text = text[:len(text)-1]
		}
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n':
			return c
		case c == '\t':
			return ' '
		case c == utf8.RuneError || unicode.IsControl(c) || unicode.Is(unicode.Cf, c):
			return '?'
		}
		return c
	}, string(text))
}
