package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

func newReplyReader(r io.Reader) *replyReader {
	return &replyReader{in: bufio.NewReaderSize(r, readerSize)}
}

func TestReplyBounds(t *testing.T) {
	long := strings.Repeat("a", maxReplyLine)
	for _, tt := range []struct {
		name string
		text string
		want string // the text, or "" for an error
	}{
		{"long line is cut", "550 " + long + "\r\n", long[:maxReplyLine-4]},
		{"longer than the buffer", "550 " + long + long + long + "\r\n", long[:maxReplyLine-4]},
		{"longer than all", "550 " + strings.Repeat(long, 32) + "\r\n", ""},
		{"many lines", strings.Repeat("550-a\r\n", maxReplyLines-1) + "550 a\r\n", strings.Repeat("a\n", maxReplyLines-1) + "a"},
		{"too many lines", strings.Repeat("550-a\r\n", maxReplyLines) + "550 a\r\n", ""},
		{"many long lines", strings.Repeat("550-"+long+"\r\n", 32) + "550 a\r\n", ""},
		{"cut inside a letter", "550 " + strings.Repeat("ü", maxReplyText) + "\r\n", strings.Repeat("ü", (maxReplyLine-4)/2)},
		{"cut across lines", "550-" + long[:1999] + "\r\n550-" + long[:47] + "\r\n550 ü\r\n", long[:1999] + "\n" + long[:47] + "\n"},
	} {
		r := newReplyReader(strings.NewReader(tt.text))
		err := r.read()
		if tt.want == "" {
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if got := r.reply().Text; err != nil || got != tt.want {
			t.Errorf("%s: %d octets %.40q, want %d; %v", tt.name, len(got), got, len(tt.want), err)
		}
	}
}

// TestEndlessReply: what a server sends without end is not read without end.
func TestEndlessReply(t *testing.T) {
	for _, text := range []string{"250-a\r\n", "250-" + strings.Repeat("x", 500) + "\r\n", "x", "250 x"} {
		source := &endless{text: text}
		if err := newReplyReader(source).read(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.10q: %v", text, err)
		}
		if source.octets > maxReplyOctets+readerSize {
			t.Errorf("%.10q: read %d octets", text, source.octets)
		}
	}
}

// TestReplyMemory: a large reply does not stay with an idle session.
func TestReplyMemory(t *testing.T) {
	r := newReplyReader(strings.NewReader(strings.Repeat("250-"+strings.Repeat("x", 300)+"\r\n", 150) + "250 x\r\n250 ok\r\n"))
	for range 2 {
		if err := r.read(); err != nil {
			t.Fatal(err)
		}
	}
	if cap(r.text) > readerSize {
		t.Errorf("%d octets kept", cap(r.text))
	}
}

type endless struct {
	text   string
	at     int
	octets int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.text[e.at%len(e.text)]
		e.at++
	}
	e.octets += len(p)
	return len(p), nil
}

func TestParseExtensions(t *testing.T) {
	e := parseExtensions([]byte("mx.dest.test at your service\nsize 35882577\nauth plain Login\nAUTH=CRAM-MD5\n" +
		"LIMITS RCPTMAX=100 MailMax=20 RCPTDOMAINMAX=0 MAILMAX=x RCPTMAX=1000000 =5 NEW\nX-UNKNOWN 1\n\nSTARTTLS\nREQUIRETLS\n"))
	if e.Name != "mx.dest.test" || !e.Size || e.MaxSize != 35882577 || strings.Join(e.Auth, " ") != "PLAIN LOGIN" ||
		e.Limits != (Limits{MailMax: 20, RcptMax: 100}) || !e.StartTLS || !e.RequireTLS || e.Pipelining {
		t.Errorf("%+v", e)
	}
	for _, size := range []string{"SIZE", "SIZE 0", "SIZE -1", "SIZE 99999999999999999999", "SIZE x"} {
		if e := parseExtensions([]byte("mx\n" + size + "\n")); !e.Size || e.MaxSize != 0 {
			t.Errorf("%s: %+v", size, e)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550-5.7.1 a\n550 5.7.1 b\n", "250", "250\n", "\r\n", "250-\xff\x1b\r\n250\x00\r\n", "999 a\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newReplyReader(bytes.NewReader(text))
		err := r.read()
		slow := newReplyReader(iotest.OneByteReader(bytes.NewReader(text)))
		if slowErr := slow.read(); (err == nil) != (slowErr == nil) {
			t.Fatalf("%v in one piece, %v in octets", err, slowErr)
		}
		if err != nil {
			return
		}
		reply := r.reply()
		if reply != slow.reply() {
			t.Fatalf("%v in one piece, %v in octets", reply, slow.reply())
		}
		if reply.Code < 200 || reply.Code > 599 || len(reply.Text) > 3*maxReplyText || !utf8.ValidString(reply.Text) {
			t.Fatalf("%+v", reply)
		}
		for _, c := range reply.Text {
			if c != '\n' && unicode.IsControl(c) {
				t.Fatalf("control character in %q", reply.Text)
			}
		}
		parseExtensions(r.text)
	})
}
