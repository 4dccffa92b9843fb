package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// A script is a dialogue in testdata: settings, the lines of both sides, and
// the outcome. It runs in a bubble with its own clock, so that a step which
// never comes ends in a time-out at once.
//
//	with: lmtp | implicit | tls POLICY | hello NAME | auth | messages N | size N |
//	      8bit | utf8 | dsn | lease lost | store down
//	from: ADDRESS       to: ADDRESS       content: "quoted"
//	S: reply line       S* "quoted octets"       S~ pause       S! closes
//	C: command line     C* "quoted octets"       C! the client closes
//	want: one line of outcome
type script struct {
	cfg      Config
	message  Message
	content  string
	messages int
	storeErr error
	steps    []string
	want     []string
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".smtp"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := parseScript(t, string(text))
			synctest.Test(t, s.run)
		})
	}
}

func parseScript(t *testing.T, text string) *script {
	s := &script{messages: 1, content: "Subject: x\r\n\r\nhello\r\n", cfg: Config{Hello: "relay.test", TLS: Never}}
	s.message.ReversePath.Address = smtp.Address{Local: "scan", Domain: "campus.test"}
	s.message.Size = -1
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		kind, value, _ := strings.Cut(line, " ")
		switch kind {
		case "S:", "C:", "S*", "C*", "S!", "C!", "S~":
			s.steps = append(s.steps, line)
		case "from:":
			s.message.ReversePath.Address = parseAddress(t, value)
		case "to:":
			s.message.Recipients = append(s.message.Recipients, smtp.ForwardPath{Address: parseAddress(t, value)})
		case "content:":
			s.content = unquote(t, value)
		case "want:":
			s.want = append(s.want, value)
		case "with:":
			s.with(t, value)
		case "", "#":
		default:
			t.Fatalf("cannot read %q", line)
		}
	}
	if s.message.Recipients == nil {
		s.message.Recipients = []smtp.ForwardPath{{Address: smtp.Address{Local: "ada", Domain: "dest.test"}}}
	}
	if s.message.Size < 0 {
		s.message.Size = int64(len(s.content))
	}
	return s
}

func (s *script) with(t *testing.T, setting string) {
	name, value, _ := strings.Cut(setting, " ")
	n, _ := strconv.Atoi(value)
	switch name {
	case "lmtp":
		s.cfg.LMTP = true
	case "implicit":
		s.cfg.ImplicitTLS = true
	case "tls":
		for _, p := range []TLSPolicy{Opportunistic, Never, Encrypt, Verify} {
			if p.String() == value {
				s.cfg.TLS = p
			}
		}
	case "hello":
		s.cfg.Hello = value
	case "auth":
		s.cfg.Auth, s.cfg.AuthInClear = &Credential{"relay", "secret"}, true
	case "messages":
		s.messages = n
	case "size":
		s.message.Size = int64(n)
	case "8bit":
		s.message.Body8Bit = true
	case "utf8":
		s.message.HeaderUTF8 = true
	case "dsn":
		s.message.DSN = &DSN{EnvelopeID: "Q 1+", Return: ReturnHeaders, Recipients: []RecipientDSN{
			{Notify: NotifyFailure | NotifyDelay, OriginalRecipient: "rfc822;a=b@dest.test\r\nRSET"}, {Notify: NotifyNever}}}
	case "lease":
		s.message.BeforeDot = func(context.Context) error { return errors.New("lease lost") }
	case "store":
		s.storeErr = errors.New("store down")
	default:
		t.Fatalf("cannot read setting %q", setting)
	}
}

// parseAddress takes an address as it stands where it cannot be parsed: such
// ones must not reach the wire either.
func parseAddress(t *testing.T, s string) smtp.Address {
	if s == "<>" {
		return smtp.Address{}
	}
	if strings.HasPrefix(s, "raw ") {
		local, domain, _ := strings.Cut(unquote(t, s[4:]), "@")
		return smtp.Address{Local: local, Domain: domain}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func unquote(t *testing.T, s string) string {
	u, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return u
}

func (s *script) run(t *testing.T) {
	client, server := net.Pipe()
	played := make(chan error, 1)
	go func() { played <- s.serve(t, server) }()
	got := s.converse(t, addressed{client})
	client.Close()
	if err := <-played; err != nil {
		t.Error(err)
	}
	if g, w := strings.Join(got, "\n"), strings.Join(s.want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// pipeless takes out what only a net.Pipe says.
var pipeless = strings.NewReplacer("read pipe: ", "", "write pipe: ", "")

// addressed is a pipe that looks like a loopback connection.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// converse is the client's side; it returns the outcome as lines.
func (s *script) converse(t *testing.T, conn net.Conn) (got []string) {
	began := time.Now()
	defer func() {
		if d := time.Since(began); d > 0 {
			got = append(got, "after "+d.String())
		}
	}()
	session, err := Start(t.Context(), conn, "mx.dest.test.", s.cfg)
	if err != nil {
		return append(got, "start: "+errorLine(err))
	}
	defer session.Close()
	s.message.Content = func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(s.content)), s.storeErr
	}
	for range s.messages {
		res, err := session.Send(t.Context(), s.message)
		got = append(got, resultLines(s.message, res, err)...)
	}
	if !session.Healthy() {
		return append(got, "broken")
	}
	if err := session.Quit(t.Context()); err != nil {
		got = append(got, "quit: "+pipeless.Replace(err.Error()))
	}
	return got
}

func resultLines(m Message, res Result, err error) (lines []string) {
	for i, r := range res.Recipients {
		line := m.Recipients[i].String() + " "
		if r.Err == nil {
			line += r.Reply.String()
		} else {
			line += errorLine(r.Err)
		}
		lines = append(lines, ascii(line))
	}
	flags := ""
	for _, f := range []struct {
		name string
		set  bool
	}{{" dot", res.DotSent}, {" chunked", res.Chunked}, {" unknown", res.Unknown}, {" stale", res.Stale}, {" error", err != nil}} {
		if f.set {
			flags += f.name
		}
	}
	return append(lines, "result:"+flags)
}

// ascii escapes what would not show in a script.
func ascii(s string) string {
	s = strconv.QuoteToASCII(s)
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
}

func errorLine(err error) string {
	var verdict *smtp.Error
	if !errors.As(err, &verdict) {
		return pipeless.Replace(fmt.Sprintf("error: %v", err))
	}
	if verdict.RemoteMTA == "" {
		return "ours " + verdict.Reply.String()
	}
	return verdict.Reply.String()
}

// serve plays the server's side.
func (s *script) serve(t *testing.T, conn net.Conn) error {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 1<<20)
	for i, step := range s.steps {
		kind, value, _ := strings.Cut(step, " ")
		var err error
		switch kind {
		case "S:":
			_, err = io.WriteString(conn, value+"\r\n")
		case "S*":
			_, err = io.WriteString(conn, unquote(t, value))
		case "S~":
			var d time.Duration
			d, err = time.ParseDuration(value)
			time.Sleep(d)
		case "S!":
			return nil
		case "C:":
			err = expect(in, value+"\r\n")
		case "C*":
			err = expect(in, unquote(t, value))
		case "C!":
			if rest, _ := io.ReadAll(in); len(rest) > 0 {
				err = fmt.Errorf("client sent %q", rest)
			}
		}
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step, err)
		}
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		return fmt.Errorf("after the script the client sent %q", rest)
	}
	return nil
}

func expect(in *bufio.Reader, want string) error {
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		c, err := in.ReadByte()
		if err != nil {
			return fmt.Errorf("client sent %q, then %w", got, err)
		}
		got = append(got, c)
		if c != want[len(got)-1] {
			more, _ := in.Peek(in.Buffered())
			return fmt.Errorf("client sent %q", append(got, more...))
		}
	}
	return nil
}
