package smtptest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopyDot(t *testing.T) {
	for _, tt := range []struct{ wire, content, rest string }{
		{".\r\n", "", ""},
		{"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
		{"..\r\n.\r\n", ".\r\n", ""},
		{".a\r\n.\r\n", "a\r\n", ""},
		{"\r\n.\r\n", "\r\n", ""},
		{"a\n.\n\r\n.\r\n", "a\n.\n\r\n", ""},
		{"a\r\r\n.\r\n", "a\r\r\n", ""},
		{"\r.\r\n\r\n.\r\n", "\r.\r\n\r\n", ""},
		{".\n.\r\n\r\n.\r\n", "\n.\r\n\r\n", ""},
		{".\r.\r\n.\r\n", "\r.\r\n", ""},
		{"\x00\r\n.\r\n", "\x00\r\n", ""},
	} {
		for _, reader := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			var got bytes.Buffer
			r := bufio.NewReader(reader(strings.NewReader(tt.wire)))
			if err := copyDot(&got, r); err != nil || got.String() != tt.content {
				t.Errorf("%q: %q, %v", tt.wire, got.String(), err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != tt.rest {
				t.Errorf("%q leaves %q", tt.wire, rest)
			}
		}
	}
	for _, cut := range []string{"", "a", "a\r", "a\r\n", "a\r\n.", "a\r\n.\r", ".", ".\r", "a\n.\r\n"} {
		if err := copyDot(io.Discard, bufio.NewReader(strings.NewReader(cut))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v, want an unexpected end", cut, err)
		}
	}
}

// FuzzCopyDot sends content as RFC 5321 §4.5.2 says and expects it back.
func FuzzCopyDot(f *testing.F) {
	for _, s := range []string{"", ".\r\n..\r\n", "a\r", "\r\n.\n", "x\r\n.y"} {
		f.Add([]byte(s), uint8(16))
	}
	f.Fuzz(func(t *testing.T, content []byte, buffer uint8) {
		if !bytes.HasSuffix(content, []byte("\r\n")) {
			content = append(content, "\r\n"...)
		}
		wire := bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
		if content[0] == '.' {
			wire = append([]byte("."), wire...)
		}
		wire = append(wire, ".\r\nQUIT\r\n"...)
		var got bytes.Buffer
		r := bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(wire)), int(buffer))
		if err := copyDot(&got, r); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Fatalf("%q came as %q, %v", content, got.Bytes(), err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "QUIT\r\n" {
			t.Fatalf("%q leaves %q", content, rest)
		}
	})
}

func TestMeter(t *testing.T) {
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	big := strings.Repeat("x", maxHeader+10)
	for _, tt := range []struct{ content, header, body string }{
		{"", "", ""},
		{"A: b\r\n", "A: b\r\n", ""},
		{"A: b\r\n\r\nbody", "A: b\r\n", "body"},
		{"A: b\r\n\r\n\r\n\r\nx", "A: b\r\n", "\r\n\r\nx"},
		{"\r\nbody", "", "body"},
		{"\r\n", "", ""},
		{big, big[:maxHeader], big[maxHeader:]},
		{big + "\r\n\r\nbody", big[:maxHeader], big[maxHeader:] + "\r\n\r\nbody"},
	} {
		for _, step := range []int{1, 3, 1 << 20} {
			m := newMeter(nothing{}, 0, true)
			for rest := []byte(tt.content); len(rest) > 0; {
				n := min(step, len(rest))
				if len(rest) > maxHeader/2 {
					n = min(1<<16, len(rest)) // octet by octet would take long
				}
				_, _ = m.Write(rest[:n])
				rest = rest[n:]
			}
			whole, body := m.sums()
			if string(m.header) != tt.header || whole != sum(tt.content) || body != sum(tt.body) || m.size != int64(len(tt.content)) {
				t.Errorf("%.20q by %d: header %.20q, size %d, body digest right: %v", tt.content, step, m.header, m.size, body == sum(tt.body))
			}
		}
	}
}

func TestFields(t *testing.T) {
	d := Delivery{Header: []byte("Subject: a\r\n b\r\nX-LEDGER : 7 \r\nmessage-id:\r\n\t<1@x>\r\nX-Ledger: 8")}
	for name, want := range map[string]string{"subject": "a b", "X-Ledger": "7", "Message-ID": "<1@x>", "To": "", "": ""} {
		if got := d.Field(name); got != want {
			t.Errorf("Field(%q) = %q, want %q", name, got, want)
		}
	}
	if got := d.MessageID(); got != "<1@x>" {
		t.Errorf("MessageID() = %q", got)
	}
}

func FuzzField(f *testing.F) {
	f.Add([]byte("A: b\r\n c\r\nMessage-ID: <x>\r\n"))
	f.Fuzz(func(t *testing.T, header []byte) {
		value := (&Delivery{Header: header}).MessageID()
		if strings.Contains(value, "\r\n") || len(value) > len(header) {
			t.Errorf("%q gives %q", header, value)
		}
	})
}

func TestSplitPath(t *testing.T) {
	for _, tt := range []struct {
		argument, path, parameters string
		ok                         bool
	}{
		{"FROM:<>", "<>", "", true},
		{"from:<a@b> SIZE=1  BODY=7BIT", "<a@b>", "SIZE=1 BODY=7BIT", true},
		{`FROM:<"a>\"b"@c> X`, `<"a>\"b"@c>`, "X", true},
		{"FROM: <a@b>", "", "", false},
		{"FROM:a@b", "", "", false},
		{"FROM:<a@b", "", "", false},
		{"FROM:<a@b>SIZE=1", "", "", false},
		{`FROM:<"a>`, "", "", false},
		{"TO:<a@b>", "", "", false},
		{"FRO", "", "", false},
	} {
		path, parameters, ok := splitPath(tt.argument, "FROM:")
		if path != tt.path || strings.Join(parameters, " ") != tt.parameters || ok != tt.ok {
			t.Errorf("splitPath(%q) = %q %q %v", tt.argument, path, parameters, ok)
		}
	}
}

func FuzzSplitPath(f *testing.F) {
	f.Add(`FROM:<"a>\"b"@c> X=1`)
	f.Fuzz(func(t *testing.T, argument string) {
		path, _, ok := splitPath(argument, "FROM:")
		if ok && (!strings.HasPrefix(path, "<") || !strings.HasSuffix(path, ">") || !strings.Contains(argument, path)) {
			t.Errorf("%q gives path %q", argument, path)
		}
	})
}
