package wire_test

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/services/ingress/wire"
	"github.com/postrider/postrider/shared/smtp"
)

// What devices write, and what becomes of it.
func TestSloppyCommands(t *testing.T) {
	const yes = "250"
	for _, tt := range []struct{ command, reply, from string }{
		{"MAIL FROM:<a@b.test>", yes, "a@b.test"},
		{"MAIL FROM: <a@b.test>", yes, "a@b.test"},
		{"mail from:<a@b.test>", yes, "a@b.test"},
		{"  MAIL  FROM:<a@b.test> \t", yes, "a@b.test"},
		{"MAIL FROM:a@b.test", yes, "a@b.test"},
		{"MAIL FROM : <a@b.test>", yes, "a@b.test"},
		{"MAIL FROM:< a@b.test >", yes, "a@b.test"},
		{"MAIL FROM:<a@b.test", yes, "a@b.test"},
		{"MAIL FROM:<a@b.test SIZE=10", yes, "a@b.test"},
		{"MAIL FROM:a@b.test SIZE=10", yes, "a@b.test"},
		{"MAIL FROM:<a@b.test>SIZE=10", yes, "a@b.test"},
		{"MAIL FROM:<@x.test,@y.test:a@B.TEST.>", yes, "a@b.test"},
		{`MAIL FROM:<"a > b"@b.test> SIZE=10`, yes, "a > b@b.test"},
		{`MAIL FROM:<"a\" > b"@b.test>`, yes, `a" > b@b.test`},
		{"MAIL FROM:<a@[127.0.0.1]>", yes, "a@[127.0.0.1]"},
		{"MAIL FROM:<scanner>", yes, "scanner@devices.test"},
		{"MAIL FROM:scanner", yes, "scanner@devices.test"},
		{"MAIL FROM:<>", yes, ""},
		{"MAIL FROM:<> BODY=8bitmime SIZE=4294967296", "552 5.3.4", "-"},
		{"MAIL FROM:<a@b.test> BODY=8bitmime AUTH=<>", yes, "a@b.test"},
		{"MAIL FROM:<a@b.test> AUTH=x+0Ay@b.test", yes, "a@b.test"},

		{"MAIL FROM <a@b.test>", "501 5.1.7", "-"},
		{"MAIL FROM:", "501 5.1.7", "-"},
		{"MAIL", "501 5.1.7", "-"},
		{"MAIL <a@b.test>", "501 5.1.7", "-"},
		{`MAIL FROM:"Printer" <a@b.test>`, "555 5.5.4", "-"},
		{"MAIL FROM:<a@b.test>>", "501 5.1.7", "-"},
		{"MAIL FROM:<<a@b.test>>", "501 5.1.7", "-"},
		{"MAIL FROM:<a@b.test>,<c@d.test>", "501 5.1.7", "-"},
		{"MAIL FROM:<a@b.test> HELLO", "555 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SMTPUTF8", "555 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> BODY=BINARYMIME", "555 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> RET=FULL", "555 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=", "501 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=-1", "501 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=1 SIZE=2", "501 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=1=2", "501 5.5.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=5000000000", "552 5.3.4", "-"},
		{"MAIL FROM:<a@b.test> SIZE=99999999999999999999999", "552 5.3.4", "-"},
		{"MAIL FROM:<j\xfcrgen@b.test>", "553 5.6.7", "-"},
		{"MAIL FROM:<a\tb@b.test>", "501 5.5.2", "-"},
		{"MAIL FROM:<" + strings.Repeat("a", 2100) + ">", "500 5.5.2", "-"},
		{"MAIL FROM:<" + strings.Repeat("a", 100_000) + ">", "500 5.5.2", "-"},

		{"", "500 5.5.1", "-"},
		{"NOOP\x00", "501 5.5.2", "-"},
		{"NOOP \x1b[2J", "501 5.5.2", "-"},
		{"NOOP \xff", "501 5.5.2", "-"},
		{"XCLIENT ADDR=10.0.0.5", "500 5.5.1", "-"},
		{"MAILFROM:<a@b.test>", "500 5.5.1", "-"},
		{"NO", "500 5.5.1", "-"},
		{"noop", yes, "-"},
		{"NOOP with words", yes, "-"},
		{"RSET", yes, "-"},
		{"VRFY root", "252", "-"},
		{"EXPN staff", "502", "-"},
		{"HELP", "502", "-"},
		{"DATA x", "501 5.5.4", "-"},
		{"DATA", "503 5.5.1", "-"},
		{"RCPT TO:<a@b.test>", "503 5.5.1", "-"},
	} {
		t.Run(tt.command[:min(len(tt.command), 60)], func(t *testing.T) {
			b := &backend{prepare: func(c *wire.Conn) { c.CompleteDomain("devices.test") }}
			c := wired(t, b, wire.Config{}).greeted(t)
			c.do(tt.command, tt.reply)
			if tt.from == "-" {
				c.do("NOOP", "250") // in step
				return
			}
			c.do("RCPT TO:<PostMaster>", "250")
			c.do("DATA", "354")
			c.do(".", "250")
			got := b.submissions()[0]
			if got.from != tt.from || got.to[0] != "PostMaster@relay.campus.test" {
				t.Errorf("from %q to %q, want %q", got.from, got.to, tt.from)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	for _, tt := range []struct{ command, reply string }{
		{"RCPT TO:<a@b.test>", "250 2.1.5"},
		{"RCPT TO: a@b.test", "250 2.1.5"},
		{"RCPT TO:<>", "501 5.1.3"},
		{"RCPT TO:<scanner>", "501 5.1.3"},
		{"RCPT FROM:<a@b.test>", "501 5.1.3"},
		{"RCPT TO:<a@b.test> NOTIFY=NEVER", "555 5.5.4"},
		{"RCPT TO:<a@b:25>", "501 5.1.3"},
		{"RCPT TO:<j\xc3\xbcrgen@b.test>", "553 5.6.7"},
		{"RCPT TO:<later@b.test>", "451 4.3.0 Later"},
		// The enhanced status code stands on each line, and only ASCII leaves.
		{"RCPT TO:<refused@b.test>", "550-5.7.1 R7K2-9QF3 Not registered\n550 5.7.1 see help? ?"},
	} {
		c := wired(t, &backend{}, wire.Config{}).greeted(t)
		c.do("MAIL FROM:<a@b.test>", "250 2.1.0")
		c.do(tt.command, tt.reply)
	}
	c := wired(t, &backend{}, wire.Config{MaxRecipients: 2, DSN: true}).greeted(t)
	c.do("MAIL FROM:<a@b.test> RET=HDRS ENVID=x+2B1", "250")
	c.do("RCPT TO:<a@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@b.test", "250")
	c.do("RCPT TO:<b@b.test>", "250")
	c.do("RCPT TO:<c@b.test>", "452 4.5.3")
	c.do("DATA", "354")
}

func TestHelo(t *testing.T) {
	for _, tt := range []struct {
		command, reply, helo string
		strict               bool
	}{
		{"EHLO Device.campus.test", "250-relay.campus.test Hello [127.0.0.1]\n", "Device.campus.test", true},
		{"HELO device", "250 relay.campus.test", "device", true},
		{"EHLO [127.0.0.1]", "250", "[127.0.0.1]", true},
		{"EHLO", "250", "[127.0.0.1]", true},
		{"helo two words", "250", "two", true},
		{"EHLO a&b", "250-relay.campus.test Hello [127.0.0.1]\n", "a&b", false},
		{"EHLO a&b", `501 5.5.2 HELO argument must not contain "&"`, "", true},
		{"EHLO <script>", "250-relay.campus.test Hello [127.0.0.1]\n", "<script>", false},
		{"EHLO a\xffb", "250", "a?b", false},
		{"EHLO a\xffb", "501 5.5.2 HELO argument must not contain a non-ASCII character", "", true},
		{"EHLO a\rb", "501 5.5.2", "", false},
		{"EHLO " + strings.Repeat("a", 256), "501 5.5.2", "", false},
		{"LHLO a", "500", "", false},
	} {
		var helo string
		var extended bool
		b := &backend{prepare: func(c *wire.Conn) { helo, extended = c.Helo(), c.Extended() }}
		c := wired(t, b, wire.Config{StrictHelo: tt.strict}).dial(t)
		c.expect("220")
		got := c.do(tt.command, tt.reply)
		if helo != tt.helo {
			t.Errorf("%q: Helo is %q, want %q", tt.command, helo, tt.helo)
		}
		if extended != (tt.helo != "" && strings.HasPrefix(tt.command, "EHLO")) {
			t.Errorf("%q: Extended is %v", tt.command, extended)
		}
		if strings.ContainsAny(got, "&<\xff\r") && !tt.strict {
			t.Errorf("%q is echoed in %q", tt.command, got)
		}
	}
}

// The EHLO reply says what works, and the device may be spared some of it.
func TestKeywords(t *testing.T) {
	b := &backend{prepare: func(c *wire.Conn) {
		c.HideKeywords("chunking")
		c.LimitSize(5000)
	}}
	c := wired(t, b, wire.Config{TLS: serverTLS(), Hidden: []string{"8BITMIME"}, MaxRecipients: 10}).dial(t)
	c.expect("220")
	want := "250-relay.campus.test Hello [127.0.0.1]\n250-PIPELINING\n250-ENHANCEDSTATUSCODES\n250-LIMITS RCPTMAX=10\n250-SIZE 5000\n250 STARTTLS"
	if got := c.do("EHLO device", "250"); got != want {
		t.Errorf("EHLO:\n%s\nwant:\n%s", got, want)
	}
}

// What holds for a client may change during its session: at the next EHLO and
// the next MAIL it does.
func TestPrepare(t *testing.T) {
	limit, domain := int64(1000), ""
	var conn *wire.Conn
	b := &backend{prepare: func(c *wire.Conn) {
		conn = c
		c.Prepare(func() {
			c.LimitSize(limit)
			c.LimitRecipients(int(limit) / 100)
			c.CompleteDomain(domain)
			c.HideKeywords("CHUNKING")
		})
	}}
	c := wired(t, b, wire.Config{MaxSize: 5000, MaxRecipients: 50}).dial(t)
	c.expect("220")
	ehlo := func(want string) {
		t.Helper()
		if got := c.do("EHLO device", "250"); !strings.HasSuffix(got, want) {
			t.Errorf("EHLO is answered %q, want %q", got, want)
		}
	}
	ehlo("\n250-CHUNKING\n250-LIMITS RCPTMAX=50\n250 SIZE 5000") // the session did not say
	ehlo("\n250-ENHANCEDSTATUSCODES\n250-LIMITS RCPTMAX=10\n250 SIZE 1000")
	c.do("MAIL FROM:<scanner>", "501 5.1.7")
	c.do("MAIL FROM:<a@b.test> SIZE=1001", "552 5.3.4")
	limit, domain = 6000, "devices.test" // above that of the listener
	c.do("MAIL FROM:<scanner> SIZE=5999", "250")
	if given, ok := conn.Completed(); given != "scanner" || !ok {
		t.Errorf("completed %q, %v", given, ok)
	}
	c.do("RCPT TO:<a@b.test>", "250")
	if given, ok := conn.Completed(); ok {
		t.Errorf("completed %q", given)
	}
	c.do("RCPT TO:<root>", "250")
	if given, ok := conn.Completed(); given != "root" || !ok {
		t.Errorf("completed %q, %v", given, ok)
	}
	c.do("DATA", "354")
	c.send(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 59) + ".\r\n")
	c.expect("250")
	if got := b.submissions()[0]; got.from != "scanner@devices.test" || got.to[1] != "root@devices.test" || len(got.content) != 5900 {
		t.Errorf("from %q to %q, %d octets", got.from, got.to, len(got.content))
	}
	limit, domain = 0, ""
	ehlo("\n250-LIMITS RCPTMAX=50\n250 SIZE 5000")
	c.do("MAIL FROM:<scanner>", "501 5.1.7")
}

// A character that is not wanted is refused by name, others are not.
func TestNoHelo(t *testing.T) {
	var refused []wire.Refusal
	c := wired(t, &backend{}, wire.Config{NoHelo: "&", Refused: func(r wire.Refusal) smtp.Reply {
		refused = append(refused, r)
		return r.Reply
	}}).dial(t)
	c.expect("220")
	c.do("EHLO a&b<c&", `501 5.5.2 HELO argument must not contain "&"`)
	c.do("HELO &", "501 5.5.2")
	c.do("MAIL FROM:<a@b.test>", "503 5.5.1")
	c.do("EHLO a<b", "250")
	c.do("MAIL FROM:<a@b.test>", "250")
	if len(refused) != 3 || refused[0].Kind != wire.KindHelo || !strings.HasSuffix(refused[0].Err.Error(), ": a?b<c?") {
		t.Errorf("refusals %+v", refused)
	}
}

// A line that ends in LF alone is a command when it comes alone.
func TestBareLFCommand(t *testing.T) {
	c := wired(t, &backend{}, wire.Config{}).greeted(t)
	c.send("NOOP\n")
	c.expect("250")
	c.send("NOOP\nNOOP\r\n")
	c.expect("500 5.5.2", "")
}

func TestForeignProtocol(t *testing.T) {
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", "POST /x HTTP/1.1\r\n", "CONNECT relay:25 HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"} {
		var told refusals
		c := wired(t, &backend{}, wire.Config{Refused: told.take}).dial(t)
		c.send(request)
		c.expect("220", "421 4.7.0", "")
		if told.kinds() != wire.KindForeign {
			t.Errorf("reported %q", told.kinds())
		}
	}
}

func TestOrder(t *testing.T) {
	c := wired(t, &backend{}, wire.Config{}).dial(t)
	c.expect("220")
	c.do("MAIL FROM:<a@b.test>", "503 5.5.1 Say EHLO")
	c.do("HELO device", "250")
	c.envelope()
	c.do("HELO device", "250") // ends the transaction (RFC 5321 §4.1.4)
	c.do("DATA", "503 5.5.1 Need MAIL")
	c.do("MAIL FROM:<a@b.test>", "250")
	c.do("RCPT TO:<refused@b.test>", "550")
	c.do("DATA", "503 5.5.1 No valid")
	c.do("MAIL FROM:<closing@b.test>", "503")
	c.do("RSET", "250")
	c.do("MAIL FROM:<closing@b.test>", "421 4.7.0 Enough", "")
}

// A panic of the session ends the connection with a reply, also inside a body.
func TestPanic(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		s := wired(t, &backend{direct: direct}, wire.Config{})
		for body, replies := range map[string][]string{"DATA\r\n": {"354", "421", ""}, "BDAT 100\r\nabc": {"421", ""}} {
			c := s.greeted(t)
			c.do("MAIL FROM:<panic@b.test>", "250")
			c.do("RCPT TO:<a@b.test>", "250")
			c.send(body)
			c.expect(replies...)
		}
	})
}
