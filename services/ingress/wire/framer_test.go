package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/smtp"
)

// run feeds src to f in pieces, with a dst of the given size, as long as it
// takes anything, and returns the output and what was not used.
func run(f *framer, src []byte, piece, room int) (out, rest []byte) {
	dst := make([]byte, room)
	for len(src) > 0 && f.state != ended {
		n, used := f.frame(dst, src[:min(piece, len(src))])
		out, src = append(out, dst[:n]...), src[used:]
	}
	return out, src
}

// unstuffed reads dot-stuffed lines.
func unstuffed(framed []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(framed) {
		b.Write(bytes.TrimPrefix(line, dot))
	}
	return b.String()
}

func TestFramerRepair(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a\nb\r\n.\r\n", "a\r\nb\r\n"},
		{"a\rb\r\n.\r\n", "a\r\nb\r\n"},
		{"a\r\r\nb\r\n.\r\n", "a\r\nb\r\n"},
		{"a\n\nb\n\r\n.\r\n", "a\r\n\r\nb\r\n\r\n"},
		{"a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"a\n..\nb\r\n.\r\n", "a\r\n..\r\nb\r\n"},
		{"a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n"},
		{"a\r\n\x00.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"a\r\n\x00\x00..\r\n.\r\n", "a\r\n..\r\n"},
		{"a\x00b\r\n.\r\n", "ab\r\n"},
		{"\x00\r\n.\r\n", "\r\n"},
		{".\r.\r\n.\r\n", "\r\n.\r\n"},
		{".\ra\r\n.\r\n", "\r\na\r\n"},
		{"\r\r\n.\r\n", "\r\n"},
	} {
		f := framer{repair: true}
		out, rest := run(&f, []byte(tt.in), len(tt.in), 100)
		if got := unstuffed(out); got != tt.want || len(rest) != 0 || f.fault != nil || f.size != int64(len(tt.want)) {
			t.Errorf("%q became %q (size %d, fault %v), want %q; %q is left", tt.in, got, f.size, f.fault, tt.want, rest)
		}
	}
}

func TestFramerLongestLine(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{{".\r\n", 0}, {"\r\n.\r\n", 0}, {"abc\r\na\r\n.\r\n", 3}, {"..\r\n.\r\n", 1}, {strings.Repeat("x", 3000) + "\r\n.\r\n", 3000}} {
		f := framer{}
		run(&f, []byte(tt.in), 7, 64)
		if f.longest != tt.want {
			t.Errorf("%.20q: longest line %d, want %d", tt.in, f.longest, tt.want)
		}
	}
}

// FuzzFramer compares the framer, fed in pieces, with what the standard says
// about the whole.
func FuzzFramer(f *testing.F) {
	for _, seed := range []string{
		"a\r\n.\r\n", ".\r\n", "..\r\n.\r\n", "a\n.\nb\r\n.\r\nc", "a\r\r\n.\r\n", "\r\n\x00.\r\n.\r\n", ".\r.\r\n.\r\n", "\r\n.\x00\r\n.\r\n", "a\r\n.b\r\n.\r\n",
	} {
		for flags := range byte(8) {
			f.Add([]byte(seed), flags, byte(1))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, flags, size byte) {
		chunked, repair, bounded := flags&1 != 0, flags&2 != 0, flags&4 != 0
		fr := framer{chunked: chunked, repair: repair}
		if bounded {
			fr.limit = 16
		}
		out, rest := run(&fr, in, 1+int(size%16), frameRoom+int(size/16))

		body := in
		if !chunked {
			end := bytes.Index(append([]byte("\r\n"), in...), []byte("\r\n.\r\n"))
			if (end >= 0) != (fr.state == ended) || end >= 0 && len(rest) != len(in)-end-len(".\r\n") {
				t.Fatalf("%q: end at %d, framer is at state %d with %q left", in, end, fr.state, rest)
			}
			if end < 0 {
				return
			}
			body = in[:end]
		} else {
			for range 2 { // the second time is after a fault
				var last [frameRoom]byte
				out = append(out, last[:fr.finish(last[:])]...)
			}
			if fr.state != ended {
				t.Fatalf("%q: chunked body does not end", in)
			}
		}

		plain := bytes.ReplaceAll(body, crlf, nil)
		flawed := bytes.ContainsAny(plain, "\r\n\x00")
		var refused *smtp.Error
		errors.As(fr.fault, &refused)
		switch {
		case fr.fault != nil && refused.Reply == smtp.ReplyBareNewline:
			if repair || !flawed {
				t.Fatalf("%q: fault %v", in, fr.fault)
			}
			return
		case fr.fault != nil:
			if !bounded {
				t.Fatalf("%q: fault %v", in, fr.fault)
			}
			return
		case flawed && !repair:
			t.Fatalf("%q: no fault", in)
		}

		content := unstuffed(out)
		if strings.ContainsAny(strings.ReplaceAll(content, "\r\n", ""), "\r\n\x00") || content != "" && !strings.HasSuffix(content, "\r\n") {
			t.Fatalf("%q: content %q is not in lines", in, content)
		}
		if bytes.Contains(append([]byte("\r\n"), out...), []byte("\r\n.\r\n")) {
			t.Fatalf("%q: output %q ends early", in, out)
		}
		if fr.size != int64(len(content)) || bounded && fr.size > fr.limit {
			t.Fatalf("%q: size %d of %q", in, fr.size, content)
		}
		if !flawed {
			want := string(body)
			if !chunked {
				want = unstuffed(body)
			} else if want != "" && !strings.HasSuffix(want, "\r\n") {
				want += "\r\n"
			}
			if content != want {
				t.Fatalf("%q: content %q, want %q", in, content, want)
			}
		}
	})
}
