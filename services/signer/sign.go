package signer

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/mail"
)

// oversigned are the fields named in h= once more than they occur, so that
// none can be added afterwards (RFC 6376 §8.15).
var oversigned = []string{
	"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post",
}

// maxNamed is how often h= names one field at most. A well-formed message has
// each of the oversigned ones once (RFC 5322 §3.6); one with thousands must not
// make h= longer than a message that is fit to be sent.
const maxNamed = 5

// signatureLife is x= minus t=: a signed message cannot be replayed for ever.
// It is longer than any lifetime in the queue.
const signatureLife = 14 * 24 * time.Hour

// Sign reads a content and returns its DKIM-Signature fields, one per key,
// complete with CRLF, to be put before it. It holds the header section in
// memory, never the body, and reads that once for all keys.
func Sign(content io.Reader, keys []*Key) (string, error) {
	start, header, at, err := mail.ReadHeader(content, 2*mail.MaxHeader) // with the fields we put before
	if err != nil {
		return "", err
	}
	body := newRelaxedBody(sha256.New())
	body.Write(start[at:])
	if _, err := io.Copy(body, content); err != nil {
		return "", fmt.Errorf("read content: %w", err)
	}
	s := signed{body: base64.StdEncoding.EncodeToString(body.sum()), at: time.Now()}
	s.names, s.fields = chosen(header)
	var fields strings.Builder
	for _, k := range keys {
		field, err := s.by(k)
		if err != nil {
			return "", fmt.Errorf("sign with %s: %w", k, err)
		}
		fields.WriteString(field)
	}
	return fields.String(), nil
}

// chosen are the names of h=, every oversigned field as often as it occurs and
// once more, and the fields they name, canonical: of several of one name the
// last is named first (RFC 6376 §5.4.2).
func chosen(h mail.Header) (names []string, fields []byte) {
	have := map[string][]mail.Field{}
	for f := range h.Fields() {
		name := strings.ToLower(f.Name)
		have[name] = append(have[name], f)
	}
	for _, name := range oversigned {
		found := have[strings.ToLower(name)]
		for range min(len(found)+1, maxNamed) {
			names = append(names, name)
		}
		for _, f := range slices.Backward(found[max(0, len(found)-maxNamed):]) {
			fields = relaxedField(fields, f)
		}
	}
	return names, fields
}

// signed is what the signatures of one message have in common.
type signed struct {
	body   string // bh=
	names  []string
	fields []byte // canonical
	at     time.Time
}

// by is the DKIM-Signature field of one key. What is signed are the fields, and
// this one with an empty b= and no line end (RFC 6376 §3.7).
func (s *signed) by(k *Key) (string, error) {
	field := mail.Field{Name: "DKIM-Signature", Raw: s.tags(k)}
	text := relaxedField(slices.Clone(s.fields), field)
	digest := sha256.Sum256(text[:len(text)-len("\r\n")])
	hash := crypto.SHA256
	if _, ok := k.private.Public().(ed25519.PublicKey); ok {
		hash = 0 // RFC 8463 §3: the digest is the message
	}
	signature, err := k.private.Sign(rand.Reader, digest[:], hash)
	if err != nil {
		return "", err
	}
	out := folded{text: field.Raw}
	for c := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(signature)), foldAt-10) {
		out.add("", string(c))
	}
	return string(append(out.text, "\r\n"...)), nil
}

// tags is the field up to its b=.
func (s *signed) tags(k *Key) []byte {
	out := folded{text: []byte("DKIM-Signature:")}
	for _, tag := range [...]string{
		"v=1;", "a=" + k.Algorithm + ";", "c=relaxed/relaxed;", "d=" + k.Domain + ";", "s=" + k.Selector + ";",
		"t=" + strconv.FormatInt(s.at.Unix(), 10) + ";", "x=" + strconv.FormatInt(s.at.Add(signatureLife).Unix(), 10) + ";",
	} {
		out.add(" ", tag)
	}
	for i, name := range s.names {
		before, after := "", ":"
		if i == 0 {
			before, name = " ", "h="+name
		}
		if i == len(s.names)-1 {
			after = ";"
		}
		out.add(before, name+after)
	}
	out.add(" ", "bh="+s.body+";")
	out.add(" ", "b=")
	return out.text
}

// foldAt is how long a line gets at most, unless one word is longer (RFC 5322
// §2.1.1).
const foldAt = 78

// folded is a header field in the making.
type folded struct {
	text []byte
	line int // where the last line begins
}

// add appends a word, after before or on a line of its own.
func (f *folded) add(before, word string) {
	if len(f.text)-f.line+len(before)+len(word) > foldAt {
		f.text = append(f.text, "\r\n"...)
		f.line, before = len(f.text), " "
	}
	f.text = append(append(f.text, before...), word...)
}
