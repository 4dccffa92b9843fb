package signer

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/shared/mail"
)

// written keeps what is hashed.
type written struct {
	hash.Hash
	bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) { return w.Buffer.Write(p) }
func (w *written) Sum([]byte) []byte           { return nil }
func (w *written) Reset()                      {}
func (w *written) Size() int                   { return 0 }

// The examples of RFC 6376 §3.4.5, and what else white space can do, whole and
// octet by octet.
func TestRelaxedBody(t *testing.T) {
	long := strings.Repeat("A line of text that is in canonical form.\r\n", 1000)
	for _, c := range []struct{ body, want string }{
		{" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"},
		{"", ""},
		{"\r\n\r\n", ""},
		{" \t\r\n \r\n\t", ""},
		{"a", "a\r\n"},
		{"a\r", "a\r\r\n"},
		{"a\rb\r\n", "a\rb\r\n"},
		{"a \rb\r\n", "a \rb\r\n"},
		{"a\r\r\n", "a\r\r\n"},
		{"a\nb\n", "a\r\nb\r\n"},
		{"\r\n\r\na  \t b \r\n\r\nc", "\r\n\r\na b\r\n\r\nc\r\n"},
		{long + "\r\n" + strings.Repeat("\r\n", 10_000), long},
		{long + strings.Repeat("\r\n", 10_000) + "x", long + strings.Repeat("\r\n", 10_000) + "x\r\n"},
		{strings.Repeat("x", 100_000), strings.Repeat("x", 100_000) + "\r\n"},
		{strings.Repeat("x\t ", 30_000), strings.Repeat(" x", 30_000)[1:] + "\r\n"},
	} {
		for _, in := range []io.Reader{strings.NewReader(c.body), iotest.OneByteReader(strings.NewReader(c.body)), iotest.HalfReader(strings.NewReader(c.body))} {
			out := &written{}
			b := newRelaxedBody(out)
			if _, err := io.Copy(b, struct{ io.Reader }{in}); err != nil {
				t.Fatal(err)
			}
			if b.sum(); out.String() != c.want {
				t.Errorf("%.60q is %.60q, not %.60q", c.body, out.String(), c.want)
			}
		}
	}
}

func TestRelaxedField(t *testing.T) {
	for raw, want := range map[string]string{ // the first two of RFC 6376 §3.4.5
		"A: X\r\n":                "a:X\r\n",
		"B : Y\t\r\n\tZ  \r\n":    "b:Y Z\r\n",
		"SUBJect:\r\n":            "subject:\r\n",
		"X-Y:\r\n \r\n\t z:\r\n ": "x-y:z:\r\n",
	} {
		for f := range mail.Header(raw).Fields() {
			if got := string(relaxedField(nil, f)); got != want {
				t.Errorf("%q is %q, not %q", raw, got, want)
			}
		}
	}
}

// Another implementation agrees about whatever is made of words, white space and
// line ends, in whatever pieces it is read.
func TestAnotherVerifierAgrees(t *testing.T) {
	keys := relayKeys(t, "relay.campus.test")[1:]
	chance := rand.New(rand.NewPCG(6376, 8463))
	pick := func(n int, of ...string) string {
		var s strings.Builder
		for range chance.IntN(n) {
			s.WriteString(of[chance.IntN(len(of))])
		}
		return s.String()
	}
	for range 500 {
		var header strings.Builder
		for range 1 + chance.IntN(6) {
			name := oversigned[chance.IntN(len(oversigned))]
			if chance.IntN(2) == 0 {
				name = strings.ToUpper(name)
			}
			header.WriteString(name + pick(2, " ", "\t") + ":" + pick(8, "word", ":", ";", " ", "\t", "\r\n ", "\r\n\t") + "x\r\n")
		}
		message := header.String() + "\r\n" + pick(30, "word", "1", " ", "\t", "\r\n", "\r\n", ".", "=20")
		fields, err := Sign(io.MultiReader(strings.NewReader(message[:len(message)/2]), iotest.OneByteReader(strings.NewReader(message[len(message)/2:]))), keys)
		if err != nil {
			t.Fatal(err)
		}
		if verify(t, fields+message, keys...) != 1 {
			t.Errorf("another verifier does not agree about\n%q\n%s", message, fields)
		}
	}
}

// BenchmarkBody is what the body alone costs.
func BenchmarkBody(b *testing.B) {
	text := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog, as it did before.\r\n"), 160)
	encoded := bytes.Repeat(slices.Concat(bytes.Repeat([]byte("A"), 76), []byte("\r\n")), 131)
	for name, body := range map[string][]byte{"text": text, "base64": encoded} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				hashed := newRelaxedBody(sha256.New())
				hashed.Write(body)
				hashed.sum()
			}
		})
	}
}
