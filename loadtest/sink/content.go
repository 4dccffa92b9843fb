package sink

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
)

const (
	maxHeader = 256 << 10
	maxReport = 1 << 20
)

// content is what is known of a message after its dot.
type content struct {
	header     []byte // up to maxHeader octets, with the empty line
	kept       []byte // the first maxReport octets or a little more, if asked for
	bodySHA256 string
	octets     int64
}

// reader takes one message from the wire.
type reader struct {
	content
	keep   bool
	inBody bool
	body   hash.Hash
}

// readContent reads up to CRLF "." CRLF and nothing else (RFC 5321 §4.1.1.4:
// a bare LF ends no line), and removes dot-stuffing (§4.5.2).
func readContent(in *bufio.Reader, keep bool) (content, error) {
	r := &reader{keep: keep, body: sha256.New()}
	lineStart, afterCR := true, false
	for {
		piece, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return content{}, err
		}
		if lineStart && piece[0] == '.' {
			if string(piece) == ".\r\n" {
				r.bodySHA256 = hex.EncodeToString(r.body.Sum(nil))
				return r.content, nil
			}
			piece = piece[1:]
		}
		r.take(piece, lineStart)
		// A line longer than the buffer comes in pieces, and the edge may
		// fall between its CR and LF.
		lineStart = bytes.HasSuffix(piece, []byte("\r\n")) || afterCR && string(piece) == "\n"
		afterCR = bytes.HasSuffix(piece, []byte("\r"))
	}
}

func (r *reader) take(piece []byte, lineStart bool) {
	r.octets += int64(len(piece))
	if r.keep {
		r.kept = append(r.kept, piece...)
		r.keep = len(r.kept) < maxReport
	}
	if r.inBody {
		r.body.Write(piece)
		return
	}
	if len(r.header)+len(piece) <= maxHeader {
		r.header = append(r.header, piece...)
	}
	r.inBody = lineStart && string(piece) == "\r\n"
}

// headerField is the value of the first field of this name, unfolded, or "".
func headerField(header []byte, name string) string {
	var value strings.Builder
	found := false
	for line := range bytes.Lines(header) {
		text := strings.TrimRight(string(line), "\r\n")
		if found {
			if text == "" || (text[0] != ' ' && text[0] != '\t') {
				break
			}
			value.WriteString(" " + strings.TrimSpace(text))
			continue
		}
		field, rest, ok := strings.Cut(text, ":")
		if ok && strings.EqualFold(strings.TrimRight(field, " \t"), name) {
			found = true
			value.WriteString(strings.TrimSpace(rest))
		}
	}
	return strings.TrimSpace(value.String())
}
