package acceptance

import (
	"net"
	"strings"
	"testing"
)

// What is refused before anybody asks who it is.

// Every refusal has a reference, whoever makes it and whatever for: the check
// of each reply is in session.read.
func TestW19_EveryRefusalHasAReference(t *testing.T) {
	r := open()
	const login = "\x00login"
	for name, lines := range map[string][]string{
		"unknown command":         {"FROBNICATE"},
		"no greeting":             {"MAIL FROM:<prn@campus.test>"},
		"no sender":               {hello, "RCPT TO:<anna@campus.test>"},
		"no recipient":            {hello, "MAIL FROM:<prn@campus.test>", "DATA"},
		"second sender":           {hello, "MAIL FROM:<prn@campus.test>", "MAIL FROM:<prn@campus.test>"},
		"parameter of MAIL":       {hello, "MAIL FROM:<prn@campus.test> COLOUR=RED"},
		"value of a parameter":    {hello, "MAIL FROM:<prn@campus.test> BODY=9BIT"},
		"SIZE that is none":       {hello, "MAIL FROM:<prn@campus.test> SIZE=big"},
		"parameter of RCPT":       {hello, "MAIL FROM:<prn@campus.test>", "RCPT TO:<anna@campus.test> NOTIFY=NEVER"},
		"SMTPUTF8":                {hello, "MAIL FROM:<prn@campus.test> SMTPUTF8"},
		"sender":                  {hello, "MAIL FROM:<prn@@campus.test>"},
		"recipient":               {hello, "MAIL FROM:<prn@campus.test>", "RCPT TO:<@>"},
		"AUTH in clear":           {hello, "AUTH PLAIN AGEAYg=="},
		"EXPN":                    {hello, "EXPN staff"},
		"HELP":                    {hello, "HELP"},
		"BDAT without sender":     {hello, "BDAT 0 LAST"},
		"BDAT without size":       {hello, "MAIL FROM:<prn@campus.test>", "BDAT"},
		"STARTTLS with argument":  {hello, "STARTTLS now"},
		"DATA with argument":      {hello, "MAIL FROM:<prn@campus.test>", "DATA now"},
		"control character":       {"EHLO a\x01b"},
		"long HELO":               {"EHLO " + strings.Repeat("x", 300)},
		"long line":               {hello, "NOOP " + strings.Repeat("x", 3000)},
		"octet that is no ASCII":  {hello, "NOOP \xff"},
		"another protocol":        {"GET / HTTP/1.1"},
		"unknown mechanism":       {login, "AUTH CRAM-MD5"},
		"no mechanism":            {login, "AUTH"},
		"AUTH that is no base64":  {login, "AUTH PLAIN !"},
		"PLAIN with two parts":    {login, "AUTH PLAIN YWI="},
		"acting for another":      {login, "AUTH PLAIN eABhAGI="},
		"LOGIN that is no base64": {login, "AUTH LOGIN", "!"},
		"LOGIN taken back":        {login, "AUTH LOGIN", "*"},
		"STARTTLS twice":          {login, "STARTTLS"},
		"AUTH in a message":       {login, "MAIL FROM:<prn@campus.test>", "AUTH PLAIN AGEAYg=="},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.dial(t, r.SMTP, r.stranger())
			defer s.close()
			if lines[0] == login {
				s.must(hello, "250")
				s.startTLS()
				lines[0] = hello
			}
			var got answer
			for _, line := range lines {
				got = s.ask(line)
			}
			if got.code < 400 {
				t.Errorf("%q: %s", lines[len(lines)-1], got)
			}
		})
	}
}

// A client that only makes mistakes is told so, and gone.
func TestW19_TooManyMistakes(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	for n := range 30 {
		if got := s.ask("FROBNICATE"); got.code == 421 {
			return
		} else if got.code != 500 {
			t.Fatalf("mistake %d: %s", n, got)
		}
	}
	t.Error("thirty mistakes, and no end")
}

// A client of the wrong kind reads why it cannot work.
func TestX15_WrongPortOrEncryption(t *testing.T) {
	r := strict()
	for _, c := range []struct{ name, listener, says, want string }{
		{"plain text where TLS is due", r.submissions, hello + "\r\n", "500 5.5.1 This port expects TLS at once"},
		{"TLS where plain text is due", r.SMTP, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "500 5.5.1 TLS here begins with STARTTLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := r.stranger()
			s := &session{t: t, relay: r, from: from}
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			conn, err := d.DialContext(t.Context(), "tcp", c.listener)
			if err != nil {
				t.Fatal(err)
			}
			s.use(conn)
			defer s.close()
			if c.listener == r.SMTP {
				s.expect("220")
			}
			s.write(c.says)
			if got := s.read(); !strings.HasPrefix(got.String(), c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Content that cannot be passed on as it is.
func TestW19_RefusedContent(t *testing.T) {
	r := open()
	for name, content := range map[string]string{
		"bare LF":       "Subject: a\n\r\nbody\r\n",
		"bare CR":       "Subject: a\r\n\r\nbo\rdy\r\n",
		"NUL":           "Subject: a\r\n\r\nbo\x00dy\r\n",
		"mail loop":     strings.Repeat("Received: from a by b\r\n", 60) + "\r\nbody\r\n",
		"endless field": "Subject: " + strings.Repeat(strings.Repeat("x", 900)+"\r\n ", 320) + "\r\n\r\nbody\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := r.dial(t, r.SMTP, printer)
			defer s.close()
			for _, line := range []string{hello, "MAIL FROM:" + byPrinter, "RCPT TO:" + inet} {
				s.must(line, "250")
			}
			s.must("DATA", "354")
			token := r.token()
			s.write("From: prn@campus.test\r\nX-Token: " + token + "\r\n" + content + ".\r\n")
			if got := s.read(); got.code < 500 {
				t.Error(got)
			}
			s.must("NOOP", "250")
			if len(r.deliveries(token)) > 0 {
				t.Error("it was sent")
			}
		})
	}
}
