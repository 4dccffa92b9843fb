package mail

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
)

// MaxHeader is the most octets a header section may have: signing a larger
// one costs time quadratic in its size.
const MaxHeader = 256 << 10

// MaxMessage is the most octets one message may have, whatever is configured.
const MaxMessage = 150_000_000

// MaxField is the most octets one header field may have, folding included.
const MaxField = 32 << 10

// Header is a header section as it was received: CRLF lines, without the
// empty line that ends it. Reading it never fails; lines that are no fields
// are skipped, since devices send such things and mail must go on.
type Header []byte

// Field is one header field in place.
type Field struct {
	// Name as written, without the colon and without space before it.
	Name string
	// Raw is the whole field with folding and final CRLF.
	Raw []byte
}

// Value is the unfolded field body without surrounding space (RFC 5322 §2.2.3).
func (f Field) Value() string {
	colon := bytes.IndexByte(f.Raw, ':')
	v := string(f.Raw[colon+1:])
	if strings.Contains(v, "\n") {
		v = strings.NewReplacer("\r\n", "", "\n", "").Replace(v)
	}
	return strings.TrimSpace(v)
}

// ErrNoHeaderEnd reports that more octets are needed to see the header's end.
var ErrNoHeaderEnd = errors.New("header section does not end here")

// SplitHeader finds the end of the header section at the start of content.
// It returns the header and the offset of the body. A content that does not
// begin with anything like a header (a device that sends plain text) has an
// empty header and its body at 0. ErrNoHeaderEnd asks for more octets; at the
// end of the content pass final.
func SplitHeader(content []byte, final bool) (h Header, body int, err error) {
	for at := 0; ; {
		nl := bytes.IndexByte(content[at:], '\n')
		line := content[at:]
		if nl >= 0 {
			line = content[at : at+nl+1]
		}
		switch {
		case nl < 0 && !final:
			return nil, 0, ErrNoHeaderEnd
		case len(bytes.TrimRight(line, "\r\n")) == 0 && nl >= 0:
			return Header(content[:at]), at + nl + 1, nil
		case len(line) == 0:
			return Header(content[:at]), at, nil
		case !fieldLine(line, at == 0):
			return Header(content[:at]), at, nil
		}
		at += len(line)
	}
}

// ErrHeaderTooLarge reports a header section over the limit.
var ErrHeaderTooLarge = errors.New("header section is too large")

// ReadHeader reads until the header section has ended, at most limit octets of
// it. It returns what was read, the header in it, and the offset of the body in
// it. It looks for the end each time the buffer is full: a sender that trickles
// octets costs no more than one that does not.
func ReadHeader(content io.Reader, limit int) (start []byte, h Header, body int, err error) {
	buf := make([]byte, 0, 8<<10)
	for {
		var n int
		for err == nil && len(buf) < cap(buf) {
			n, err = content.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
		}
		final := errors.Is(err, io.EOF)
		if err != nil && !final {
			return nil, nil, 0, err
		}
		h, body, incomplete := SplitHeader(buf, final)
		if incomplete == nil && len(h) <= limit {
			return buf, h, body, nil
		}
		if len(buf) > limit {
			return nil, nil, 0, ErrHeaderTooLarge
		}
		buf = slices.Grow(buf, cap(buf))
	}
}

// fieldLine reports a line that belongs to a header section: a field name
// and a colon, or a folded continuation.
func fieldLine(line []byte, first bool) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return !first
	}
	return nameLen(line) > 0
}

// nameLen is the length of the field name before the colon, 0 when there is
// none. Space before the colon is obsolete syntax that is still sent.
func nameLen(line []byte) int {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return 0
	}
	name := bytes.TrimRight(line[:colon], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return 0
		}
	}
	return len(name)
}

// Fields yields every field in order.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for at := 0; at < len(h); {
			end := at
			for {
				nl := bytes.IndexByte(h[end:], '\n')
				if nl < 0 {
					end = len(h)
					break
				}
				end += nl + 1
				if end == len(h) || (h[end] != ' ' && h[end] != '\t') {
					break
				}
			}
			raw := h[at:end]
			at = end
			n := nameLen(raw)
			if n == 0 {
				continue
			}
			if !yield(Field{Name: string(raw[:n]), Raw: raw}) {
				return
			}
		}
	}
}

// All is every value of the named field, in order, name in any case.
func (h Header) All(name string) []string {
	var out []string
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value())
		}
	}
	return out
}

// Get is the first value of the named field.
func (h Header) Get(name string) string {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			return f.Value()
		}
	}
	return ""
}

// Has reports that the named field is there, even when empty.
func (h Header) Has(name string) bool {
	for f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// Hops is the number of Received fields (RFC 5321 §6.3).
func (h Header) Hops() int { return len(h.All("Received")) }

// LongestField is the size of the largest field in octets.
func (h Header) LongestField() int {
	longest := 0
	for f := range h.Fields() {
		longest = max(longest, len(f.Raw))
	}
	return longest
}
