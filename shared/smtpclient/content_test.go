package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/shared/smtp"
)

// slowText says what check and stuff must say, one octet at a time.
func slowText(content []byte) (stuffed []byte, ok bool) {
	for i, c := range content {
		bare := c == 0 ||
			c == '\n' && (i == 0 || content[i-1] != '\r') ||
			c == '\r' && (i+1 == len(content) || content[i+1] != '\n')
		if bare {
			return nil, false
		}
		if c == '.' && (i == 0 || content[i-1] == '\n') {
			stuffed = append(stuffed, '.')
		}
		stuffed = append(stuffed, c)
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		stuffed = append(stuffed, "\r\n"...)
	}
	return stuffed, true
}

func transferAll(content []byte, wrap func(io.Reader) io.Reader, stuffed bool) ([]byte, error) {
	var sent bytes.Buffer
	out := bufio.NewWriterSize(&sent, blockSize)
	m := Message{Size: int64(len(content)), Content: func() (io.ReadCloser, error) {
		return io.NopCloser(wrap(bytes.NewReader(content))), nil
	}}
	err := transfer(context.Background(), out, &m, stuffed)
	out.Flush()
	return sent.Bytes(), err
}

var readers = map[string]func(io.Reader) io.Reader{
	"plain":   func(r io.Reader) io.Reader { return r },
	"octets":  iotest.OneByteReader,
	"halves":  iotest.HalfReader,
	"dataEOF": iotest.DataErrReader,
}

func checkTransfer(t *testing.T, content []byte) {
	t.Helper()
	want, ok := slowText(content)
	for name, wrap := range readers {
		for _, stuffed := range []bool{true, false} {
			got, err := transferAll(content, wrap, stuffed)
			var verdict *smtp.Error
			switch {
			case !ok && !errors.As(err, &verdict):
				t.Fatalf("%s: %.60q passed: %v", name, content, err)
			case ok && err != nil:
				t.Fatalf("%s: %.60q refused: %v", name, content, err)
			case ok && stuffed && !bytes.Equal(got, want), ok && !stuffed && !bytes.Equal(got, content):
				t.Fatalf("%s: %.60q became %.60q", name, content, got)
			case bytes.IndexByte(got, 0) >= 0:
				t.Fatalf("%s: NUL was sent", name)
			}
		}
	}
}

func FuzzTransfer(f *testing.F) {
	for _, s := range []string{"", ".", "..", "\r\n.\r\n", "a\r\n.b\r\n\r\n..\r\n", "a\nb", "a\rb", "\r", "\n", "a\r", "\r\r\n", "a\x00", "\na\rb\r\n"} {
		f.Add([]byte(s), uint16(0))
		f.Add([]byte(s), uint16(chunkSize-1))
	}
	f.Fuzz(func(t *testing.T, content []byte, fill uint16) {
		if len(content) > 1<<12 {
			return
		}
		checkTransfer(t, append(bytes.Repeat([]byte("x"), int(fill)), content...))
	})
}

// TestTransferChunks puts every awkward sequence across every chunk boundary.
func TestTransferChunks(t *testing.T) {
	for _, s := range []string{"\r\n.\r\n", "\r\n..\r\n.", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n\x00", "\r", "a\na\rb\r\n"} {
		for back := range len(s) + 1 {
			for _, boundary := range []int{chunkSize, 2 * chunkSize, 3 * chunkSize} {
				content := append(bytes.Repeat([]byte("x"), boundary-back), s...)
				checkTransfer(t, content)
			}
		}
	}
}

func TestTransferSource(t *testing.T) {
	trouble := errors.New("store trouble")
	for _, tt := range []struct {
		name string
		src  io.Reader
		want error
	}{
		{"fails", io.MultiReader(strings.NewReader("a\r\n"), iotest.ErrReader(trouble)), trouble},
		{"cut short", iotest.ErrReader(io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		{"hangs", nothing{}, io.ErrNoProgress},
	} {
		m := Message{Content: func() (io.ReadCloser, error) { return io.NopCloser(tt.src), nil }}
		err := transfer(t.Context(), bufio.NewWriter(io.Discard), &m, true)
		var verdict *smtp.Error
		if !errors.Is(err, tt.want) || errors.As(err, &verdict) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// TestBeforeDot: whatever the size, the end of the message is still here when
// BeforeDot is asked, and its error keeps it here.
func TestBeforeDot(t *testing.T) {
	lost := errors.New("lease lost")
	for _, extensions := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		for _, size := range []int{2, 100, chunkSize, 2 * chunkSize, 2*chunkSize + 2, 4 * chunkSize, 10*chunkSize - 1} {
			s := &sink{extensions: extensions}
			session, wait := s.connect(t, nil)
			m := letter(strings.Repeat("\r\n", size/2)+strings.Repeat("x", size%2), 1)
			m.BeforeDot = func(context.Context) error { return lost }
			m.AfterDot = func() { t.Errorf("%d octets: the end is out", size) }
			res, err := session.Send(t.Context(), m)
			if !errors.Is(err, lost) || res.DotSent || res.Unknown || session.Healthy() {
				t.Errorf("%d octets: %+v, %v", size, res, err)
			}
			wait()
			if len(s.contents) > 1 || len(s.contents) == 1 && len(s.contents[0]) >= size {
				t.Errorf("%d octets: %d arrived", size, len(s.contents[0]))
			}
		}
	}
}

// TestAfterDot: it is told once, when the end is out, and before the reply.
func TestAfterDot(t *testing.T) {
	for _, extensions := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		s := &sink{extensions: extensions}
		session, wait := s.connect(t, nil)
		told := 0
		m := letter("a\r\n", 1)
		m.BeforeDot = func(context.Context) error {
			if told > 0 {
				t.Error("told before it was asked")
			}
			return nil
		}
		m.AfterDot = func() { told++ }
		if res, err := session.Send(t.Context(), m); err != nil || !res.DotSent || told != 1 {
			t.Errorf("%+v, %v; told %d times", res, err, told)
		}
		session.Quit(t.Context())
		wait()
	}
}

// TestCutShort: a server that read all but the last octet cannot have the
// message, and the outcome is not unknown.
func TestCutShort(t *testing.T) {
	for _, tt := range []struct{ extensions, rest string }{
		{"250 PIPELINING\r\n", "MAIL FROM:<scan@campus.test>\r\nRCPT TO:<user-0@dest.test>\r\nDATA\r\n"},
		{"250-CHUNKING\r\n250 PIPELINING\r\n", "MAIL FROM:<scan@campus.test>\r\nRCPT TO:<user-0@dest.test>\r\n"},
	} {
		client, server := net.Pipe()
		chunked := strings.Contains(tt.extensions, "CHUNKING")
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer server.Close()
			io.WriteString(server, "220 mx\r\n")
			io.ReadFull(server, make([]byte, len("EHLO relay.test\r\n")))
			io.WriteString(server, "250-mx\r\n"+tt.extensions)
			io.ReadFull(server, make([]byte, len(tt.rest)))
			content := "a\r\n.\r"
			if io.WriteString(server, "250 ok\r\n250 ok\r\n"); chunked {
				content = "BDAT 3 LAST\r\na\r"
			} else {
				io.WriteString(server, "354 go\r\n")
			}
			io.ReadFull(server, make([]byte, len(content)))
		}()
		session, err := Start(t.Context(), client, "mx.test", Config{Hello: "relay.test", TLS: Never})
		if err != nil {
			t.Fatal(err)
		}
		res, err := session.Send(t.Context(), letter("a\r\n", 1))
		if err == nil || res.DotSent || res.Unknown || res.Chunked != chunked {
			t.Errorf("chunked %t: %+v, %v", chunked, res, err)
		}
		<-done
	}
}
