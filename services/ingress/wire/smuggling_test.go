package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/services/ingress/wire"
)

// foreignEnds are octets that some server somewhere takes for the end of a
// message, and that are none.
var foreignEnds = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r", "\r.\r\n", "\n.\r", "\r.\n",
	"\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\n\n.\n\n", "\r\r.\r\r",
	"\n.\n\r\n", "\r\n.\x00\n", "\r\n\r.\r\n", "\n\x00.\r\n",
}

const smuggled = "MAIL FROM:<admin@campus.test>\r\nRCPT TO:<victim@campus.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\nQUIT\r\n"

// Every sequence is one submission, refused whole: one reply for the body, and
// none for the commands inside it.
func TestSmugglingRefused(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, end := range foreignEnds {
			t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
				b := &backend{direct: direct}
				c := wired(t, b, wire.Config{}).greeted(t)
				c.envelope()
				c.do("DATA", "354")
				c.send("Subject: one\r\n\r\nbody" + end + smuggled)
				c.expect("550 5.6.0", "221", "")
				if got := b.submissions(); len(got) != 0 {
					t.Errorf("published %q", got)
				}
			})
		}
	})
}

// With repair every sequence is one submission that contains all of it, in
// lines that no next hop can misread.
func TestSmugglingRepaired(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, end := range foreignEnds {
			t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
				b := &backend{direct: direct, prepare: func(c *wire.Conn) { c.RepairNewlines(true) }}
				c := wired(t, b, wire.Config{}).greeted(t)
				c.envelope()
				c.do("DATA", "354")
				c.send("Subject: one\r\n\r\nbody" + end + smuggled)
				c.expect("250", "221", "")
				got := b.submissions()
				if len(got) != 1 || !strings.Contains(got[0].content, "evil\r\n") || !strings.Contains(got[0].content, "\r\nDATA\r\n") {
					t.Fatalf("published %q", got)
				}
				if rest := strings.NewReplacer("\r\n", "").Replace(got[0].content); strings.ContainsAny(rest, "\r\n\x00") {
					t.Errorf("content %q is not in lines", got[0].content)
				}
			})
		}
	})
}

// The genuine end is honoured: what follows is commands, answered one by one.
func TestGenuineEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, end := range []string{"\r\n.\r\n", "\n\r\n.\r\n", "\r\r\n.\r\n", "\x00\r\n.\r\n"} {
			t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
				b := &backend{direct: direct}
				c := wired(t, b, wire.Config{}).greeted(t)
				c.envelope()
				c.do("DATA", "354")
				c.send("Subject: one\r\n\r\nbody" + end + "MAIL FROM:<a@campus.test>\r\nRCPT TO:<b@campus.test>\r\nRSET\r\nQUIT\r\n")
				first, want := c.reply(), "550 5.6.0"
				if end == "\r\n.\r\n" {
					want = "250"
				}
				if !strings.HasPrefix(first, want) {
					t.Errorf("reply to the body: %q, want %q", first, want)
				}
				c.expect("250 2.1.0", "250 2.1.5", "250", "221", "")
			})
		}
	})
}

// Data sent before the reply to DATA ends the session, whatever DATA would have
// been answered.
func TestEarlyData(t *testing.T) {
	for _, before := range []string{"", "MAIL FROM:<a@campus.test>\r\n", "MAIL FROM:<a@campus.test>\r\nRCPT TO:<b@campus.test>\r\n"} {
		b := &backend{}
		c := wired(t, b, wire.Config{}).greeted(t)
		c.send(before + "DATA\r\n" + smuggled)
		for range strings.Count(before, "\r\n") {
			c.expect("250")
		}
		c.expect("503 5.5.1 Wait", "")
		if got := b.submissions(); len(got) != 0 {
			t.Errorf("published %q", got)
		}
	}
}

// A fault that turns up after the session refused the body already must not
// leave go-smtp behind in the body.
func TestFaultAfterEarlyRefusal(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		big := strings.Repeat("line\r\n", 5000)
		c := wired(t, &backend{direct: direct}, wire.Config{}).greeted(t)
		for range 2 {
			c.do("MAIL FROM:<early@campus.test>", "250")
			c.do("RCPT TO:<b@campus.test>", "250")
			c.do("DATA", "354")
			c.send(big + "bare\nlf\r\n" + big + ".\r\n")
			c.expect("554 5.6.0 Refused early")
			c.do("NOOP", "250")
		}
		c.do("MAIL FROM:<early@campus.test>", "250")
		c.do("RCPT TO:<b@campus.test>", "250")
		c.do("BDAT 9\r\nbare\nlf", "250")
		c.do("BDAT 6\r\nmore", "250")
		c.do("BDAT 6 LAST\r\nmore", "554 5.6.0 Refused early")
		c.do("MAIL FROM:<early@campus.test>", "250")
		c.do("RCPT TO:<b@campus.test>", "250")
		c.do("BDAT 9\r\nbare\nlf", "250")
		c.do("RSET", "250 2.0.0")
		c.envelope()
		c.do("DATA", "354")
		c.do("fine\r\n.", "250")
	})
}

// The content of a good body arrives octet for octet, without its stuffing.
func TestTransparency(t *testing.T) {
	eachWay(t, func(t *testing.T, direct bool) {
		for _, tt := range []struct{ sent, want string }{
			{"", ""},
			{"a\r\n", "a\r\n"},
			{"..\r\n", ".\r\n"},
			{"..a\r\n...\r\n", ".a\r\n..\r\n"},
			{".a\r\n", "a\r\n"},
			{"\r\n\r\n", "\r\n\r\n"},
			{"j\xfcrgen\r\n", "j\xfcrgen\r\n"},
			{strings.Repeat("x", 10_000) + "\r\n", strings.Repeat("x", 10_000) + "\r\n"},
		} {
			b := &backend{direct: direct}
			c := wired(t, b, wire.Config{}).greeted(t)
			c.envelope()
			c.do("DATA", "354")
			c.send(tt.sent + ".\r\n")
			c.expect("250")
			if got := b.submissions()[0].content; got != tt.want {
				t.Errorf("%.40q arrived as %.40q", tt.sent, got)
			}
		}
	})
}
