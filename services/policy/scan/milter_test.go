package scan

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	milter "github.com/emersion/go-milter"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
)

// sieve is a milter that writes down what it hears, and ends as it is told to.
type sieve struct {
	milter.NoOpMilter
	heard *strings.Builder
	rcpt  milter.Response
	end   func(m *milter.Modifier) (milter.Response, error)
}

func (s *sieve) Connect(host, family string, _ uint16, addr net.IP, m *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString(strings.Join([]string{"connect", host, family, addr.String(), m.Macros["j"]}, " ") + "\n")
	return milter.RespContinue, nil
}

func (s *sieve) Helo(name string, _ *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString("helo " + name + "\n")
	return milter.RespContinue, nil
}

func (s *sieve) MailFrom(from string, m *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString("mail " + from + " " + m.Macros["i"] + " " + m.Macros["{auth_authen}"] + "\n")
	return milter.RespContinue, nil
}

func (s *sieve) RcptTo(to string, _ *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString("rcpt " + to + "\n")
	if s.rcpt != nil {
		return s.rcpt, nil
	}
	return milter.RespContinue, nil
}

func (s *sieve) Header(name, value string, _ *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString(name + ": " + value + "\n")
	return milter.RespContinue, nil
}

func (s *sieve) Headers(textproto.MIMEHeader, *milter.Modifier) (milter.Response, error) {
	s.heard.WriteString("\n")
	return milter.RespContinue, nil
}

func (s *sieve) BodyChunk(chunk []byte, _ *milter.Modifier) (milter.Response, error) {
	s.heard.Write(chunk)
	return milter.RespContinue, nil
}

func (s *sieve) Body(m *milter.Modifier) (milter.Response, error) {
	if s.end == nil {
		return milter.RespAccept, nil
	}
	return s.end(m)
}

// serve serves a milter, and returns its address.
func serve(t *testing.T, s *sieve) string {
	t.Helper()
	s.heard = &strings.Builder{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &milter.Server{NewMilter: func() milter.Milter { return s }, Actions: milter.OptAddHeader | milter.OptChangeHeader | milter.OptQuarantine}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return "inet:" + l.Addr().String()
}

// The milter hears of the transaction and gets the content whole.
func TestMilterHears(t *testing.T) {
	s := &sieve{}
	body := strings.Repeat("text of the body\r\n", 10_000)
	if f := scanned(t, scanners(t, config.Scan{Milter: serve(t, s)}), header+body); f.Outcome != authz.Admit || f.Down || f.Fields != "" {
		t.Errorf("%+v", f)
	}
	want := "connect prn.campus.test tcp4 10.2.3.4 relay.campus.test\nhelo prn\r\nX: y\nmail prn@campus.test 0123456789ABCDEF prn-1\n" +
		"rcpt anna@campus.test\nrcpt bert@campus.test\nFrom: prn@campus.test\nTo: anna@campus.test\nSubject: a\n folded\n" +
		"Date: Mon, 02 Nov 2026 12:00:00 +0000\nMessage-ID: <1@campus.test>\n\n" + body
	if got := s.heard.String(); got != want {
		t.Errorf("it heard %.700q, want %.700q", got, want)
	}
}

// Every action has its meaning, and nothing is discarded.
func TestMilterActions(t *testing.T) {
	say := func(r milter.Response) func(*milter.Modifier) (milter.Response, error) {
		return func(*milter.Modifier) (milter.Response, error) { return r, nil }
	}
	for _, c := range []struct {
		name, onReject string
		sieve          sieve
		want           authz.Outcome
		text, fields   string
	}{
		{"accept", "hold", sieve{}, authz.Admit, "milter: accept", ""},
		{"continue", "hold", sieve{end: say(milter.RespContinue)}, authz.Admit, "milter: accept", ""},
		{"reject", "hold", sieve{end: say(milter.RespReject)}, authz.Hold, "milter: reject", ""},
		{"reject", "refuse", sieve{end: say(milter.RespReject)}, authz.Refuse, "milter: reject", ""},
		{"tempfail", "hold", sieve{end: say(milter.RespTempFail)}, authz.Later, "milter: tempfail", ""},
		{"discard", "refuse", sieve{end: say(milter.RespDiscard)}, authz.Hold, "milter: discard", ""},
		{"550", "refuse", sieve{end: say(milter.NewResponseStr('y', "550 5.7.1 virus\r\nX"))}, authz.Refuse, "milter: 550 5.7.1 virus X", ""},
		{"451", "refuse", sieve{end: say(milter.NewResponseStr('y', "451 4.7.1 busy"))}, authz.Later, "milter: 451 4.7.1 busy", ""},
		{"reject at RCPT", "refuse", sieve{rcpt: milter.RespReject}, authz.Refuse, "milter: reject", ""},
		{"accept at RCPT", "refuse", sieve{rcpt: milter.RespAccept}, authz.Admit, "milter: accept", ""},
		{"quarantine", "refuse", sieve{end: func(m *milter.Modifier) (milter.Response, error) {
			return milter.RespAccept, m.Quarantine("virus\x01found")
		}}, authz.Hold, "milter: quarantine, virus?found", ""},
		{"fields", "hold", sieve{end: func(m *milter.Modifier) (milter.Response, error) {
			m.AddHeader("X-Virus", "none\r\n\tat all")
			m.InsertHeader(0, "X-First", "1")
			m.AddHeader("Subject", "changed")
			m.ChangeHeader(1, "Subject", "changed")
			m.ReplaceBody([]byte("changed"))
			m.AddRecipient("<eve@example.test>")
			return milter.RespAccept, nil
		}}, authz.Admit, "milter: accept", "X-Virus: none at all\r\nX-First: 1\r\n"},
	} {
		f := scanned(t, scanners(t, config.Scan{Milter: serve(t, &c.sieve), OnReject: c.onReject}), header+"body\r\n")
		if f.Outcome != c.want || f.Down || f.Scanner != c.text || f.Fields != c.fields {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func packet(code byte, data string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1)), string(rune(code))+data...)
}

// A milter that answers nonsense, too much, or not at all is down.
func TestMilterDown(t *testing.T) {
	hello := packet('O', "\x00\x00\x00\x06"+strings.Repeat("\x00", 8))
	for name, say := range map[string]func(net.Conn){
		"nothing":         func(c net.Conn) { io.Copy(io.Discard, c) },
		"closes":          func(net.Conn) {},
		"HTTP":            func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"4 GiB":           func(c net.Conn) { c.Write(append(bytes.Clone(hello), 0xff, 0xff, 0xff, 0xff, 'c')) },
		"empty packet":    func(c net.Conn) { c.Write(append(bytes.Clone(hello), 0, 0, 0, 0, 'c')) },
		"half a packet":   func(c net.Conn) { c.Write(append(bytes.Clone(hello), 0, 0, 0, 9, 'c')) },
		"unknown code":    func(c net.Conn) { c.Write(append(bytes.Clone(hello), packet('Z', "")...)); io.Copy(io.Discard, c) },
		"old version":     func(c net.Conn) { c.Write(packet('O', "\x00\x00\x00\x01"+strings.Repeat("\x00", 8))) },
		"short hello":     func(c net.Conn) { c.Write(packet('O', "\x00")) },
		"short reply":     func(c net.Conn) { c.Write(append(bytes.Clone(hello), packet('y', "5")...)) },
		"reply no number": func(c net.Conn) { c.Write(append(bytes.Clone(hello), packet('y', "abc def")...)) },
		"endless progress": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			c.Write(hello)
			for {
				if _, err := c.Write(bytes.Repeat(packet('p', ""), 1000)); err != nil {
					return
				}
			}
		},
		"endless fields": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			c.Write(hello)
			c.Write(bytes.Repeat(packet('c', ""), 10))
			for {
				if _, err := c.Write(bytes.Repeat(packet('h', "X-A\x00b\x00"), 1000)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						say(c)
					}()
				}
			}()
			s := scanners(t, config.Scan{Milter: l.Addr().String(), WhenDown: "hold", Timeout: config.Duration(300 * time.Millisecond)})
			if f := scanned(t, s, header+strings.Repeat("text\r\n", 100_000)); f.Outcome != authz.Hold || !f.Down || !strings.Contains(f.Scanner, "milter does not answer") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Nobody listens there.
func TestMilterAbsent(t *testing.T) {
	s := scanners(t, config.Scan{Milter: "unix:/nonexistent/milter.sock", WhenDown: "later"})
	if f := scanned(t, s, header); f.Outcome != authz.Later || !f.Down {
		t.Errorf("%+v", f)
	}
}
