package signer

import (
	"bytes"
	"hash"

	"github.com/postrider/postrider/shared/mail"
)

// relaxedField appends a header field in its relaxed canonical form, CRLF
// included (RFC 6376 §3.4.2).
func relaxedField(out []byte, f mail.Field) []byte {
	for _, c := range []byte(f.Name) {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	out = append(out, ':')
	begun, space := false, false
	for _, c := range f.Raw[bytes.IndexByte(f.Raw, ':')+1:] {
		switch c {
		case ' ', '\t', '\r', '\n':
			space = true
			continue
		}
		if begun && space {
			out = append(out, ' ')
		}
		begun, space = true, false
		out = append(out, c)
	}
	return append(out, "\r\n"...)
}

// relaxedBody hashes a body in its relaxed canonical form (RFC 6376 §3.4.4): no
// white space at the end of a line, one space for any other, no empty lines at
// the end, and a CRLF behind the last. An LF without a CR ends a line, too. Of
// the body it holds no more than what is not hashed yet.
type relaxedBody struct {
	hash hash.Hash
	out  []byte
	// lines, space and cr came and are not written: what follows decides whether
	// they count.
	lines int
	space bool
	cr    bool
	begun bool
}

// hashedAtOnce is how much is collected before it is hashed, in octets.
const hashedAtOnce = 4 << 10

func newRelaxedBody(h hash.Hash) *relaxedBody {
	return &relaxedBody{hash: h, out: make([]byte, 0, 2*hashedAtOnce)}
}

func (b *relaxedBody) Write(p []byte) (int, error) {
	n := len(p)
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			b.text(p)
			return n, nil
		}
		b.text(p[:end])
		b.lines++
		b.cr, b.space = false, false
		p = p[end+1:]
	}
}

// sum ends the body.
func (b *relaxedBody) sum() []byte {
	b.lone()
	if b.begun {
		b.out = append(b.out, "\r\n"...)
	}
	b.hash.Write(b.out)
	return b.hash.Sum(nil)
}

// text takes a part of a line, of which the last octet may be the CR of its end.
func (b *relaxedBody) text(p []byte) {
	if len(p) == 0 {
		return
	}
	b.lone()
	if last := len(p) - 1; p[last] == '\r' {
		p, b.cr = p[:last], true
	}
	if len(p) == 0 {
		return
	}
	if plain(p) {
		b.begin()
		b.write(p)
		return
	}
	for _, c := range p {
		if c == ' ' || c == '\t' {
			b.space = true
			continue
		}
		b.begin()
		b.out = append(b.out, c)
		b.drain()
	}
}

// plain reports text that is in canonical form already: most lines are.
func plain(p []byte) bool {
	return p[0] != ' ' && p[len(p)-1] != ' ' && bytes.IndexByte(p, '\t') < 0 && !bytes.Contains(p, []byte("  "))
}

// lone writes a CR that no LF follows.
func (b *relaxedBody) lone() {
	if b.cr {
		b.cr = false
		b.begin()
		b.out = append(b.out, '\r')
	}
}

// begin writes what came before an octet that counts.
func (b *relaxedBody) begin() {
	for ; b.lines > 0; b.lines-- {
		b.out = append(b.out, "\r\n"...)
		b.drain()
	}
	if b.space {
		b.out = append(b.out, ' ')
	}
	b.space, b.begun = false, true
}

func (b *relaxedBody) write(p []byte) {
	if len(p) >= hashedAtOnce {
		b.hash.Write(b.out)
		b.out = b.out[:0]
		b.hash.Write(p)
		return
	}
	b.out = append(b.out, p...)
	b.drain()
}

func (b *relaxedBody) drain() {
	if len(b.out) >= hashedAtOnce {
		b.hash.Write(b.out)
		b.out = b.out[:0]
	}
}
