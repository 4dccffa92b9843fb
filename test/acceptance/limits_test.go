package acceptance

import (
	"fmt"
	"strings"
	"testing"
)

// How much may be sent.

// The size is that on the wire, dots of transparency not counted, and the limit
// is the device's own.
func TestS8_SizeOfADevice(t *testing.T) {
	r := open()
	const small, limit = "127.1.1.20", 5_000_000
	for _, c := range []struct {
		name     string
		from     string
		size     int
		declared bool
		want     string
	}{
		{"one octet less", small, limit - 1, false, "250"},
		{"exactly", small, limit, false, "250"},
		{"one octet more", small, limit + 1, false, "552 5.3.4 "},
		{"one octet more, declared", small, limit + 1, true, "552 5.3.4 "},
		{"of another device", printer, limit + 1, true, "250"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := r.dial(t, r.SMTP, c.from)
			defer s.close()
			s.must(hello, "250")
			from, token := byPrinter, r.token()
			if c.declared {
				from += fmt.Sprintf(" SIZE=%d", c.size)
			}
			got := s.ask("MAIL FROM:" + from)
			if got.code == 250 {
				s.must("RCPT TO:"+inet, "250")
				s.must("DATA", "354")
				content := sized("From: prn@campus.test\r\nX-Token: "+token+"\r\n\r\n", c.size)
				s.said.WriteString("From: prn@campus.test")
				if _, err := s.conn.Write([]byte(content + ".\r\n")); err != nil {
					t.Fatal(err)
				}
				got = s.read()
			}
			if !strings.HasPrefix(got.String(), c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got.code == 250 {
				r.arrived(t, token)
			}
		})
	}
}

// sized is a content of so many octets.
func sized(header string, size int) string {
	line := strings.Repeat("x", 70) + "\r\n"
	var b strings.Builder
	b.WriteString(header)
	for b.Len() < size-2*len(line) {
		b.WriteString(line)
	}
	b.WriteString(strings.Repeat("y", size-b.Len()-2) + "\r\n")
	return b.String()
}

// The limit of all is announced, and holds for who has none of his own.
func TestW34_SizeIsAnnounced(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, printer)
	defer s.close()
	if got := s.must(hello, "250"); !strings.Contains(got.text, "\nSIZE 50000000\n") {
		t.Errorf("EHLO says %q", got.text)
	}
	if got := s.must("MAIL FROM:<prn@campus.test> SIZE=50000001", "552"); !strings.Contains(got.text, "5.3.4 ") {
		t.Errorf("got %s", got)
	}
	s.must("MAIL FROM:<prn@campus.test> SIZE=50000000", "250")
}

// The hundredth message of a session is taken; at the next one the session ends,
// and nothing is lost.
func TestS9_MessagesOfASession(t *testing.T) {
	r := open()
	const hundred = "127.1.1.21"
	s := r.dial(t, r.SMTP, hundred)
	defer s.close()
	s.must(hello, "250")
	var tokens []string
	for range 100 {
		token := r.token()
		if got := s.send(byPrinter, "From: prn@campus.test", token, inside); got.code != 250 {
			t.Fatalf("message %d: %s", len(tokens)+1, got)
		}
		tokens = append(tokens, token)
	}
	if got := s.must("MAIL FROM:"+byPrinter, "421"); !strings.HasPrefix(got.text, "4.7.0 ") {
		t.Errorf("got %s", got)
	}
	if _, err := s.in.ReadByte(); err == nil {
		t.Error("the session goes on")
	}
	for _, token := range tokens {
		r.arrived(t, token)
	}
	r.play(t, attempt{name: "a new session", from: hundred, want: "250"})
}

// One recipient too many is to come again (RFC 5321 §4.5.3.1.10); those before
// it get the message.
func TestS9_RecipientsOfADevice(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, "127.1.1.21")
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	for _, to := range []string{"<a@inet.test>", "<b@inet.test>", "<c@inet.test>"} {
		s.must("RCPT TO:"+to, "250")
	}
	s.must("RCPT TO:<d@inet.test>", "452")
	token := r.token()
	s.must("DATA", "354")
	s.write("From: prn@campus.test\r\nX-Token: " + token + "\r\n\r\nthree\r\n.\r\n")
	s.expect("250")
	if d := r.arrived(t, token); len(d.Recipients) != 3 {
		t.Errorf("it arrived for %v", recipients(d))
	}
}

// The limit of all.
func TestS9_RecipientsOfAll(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	for i := range 1000 {
		s.must(fmt.Sprintf("RCPT TO:<r%d@campus.test>", i), "250")
	}
	if got := s.must("RCPT TO:<r1000@campus.test>", "452"); got.String() != "452 4.5.3 Too many recipients" {
		t.Errorf("got %s", got)
	}
	s.must("RSET", "250")
}
