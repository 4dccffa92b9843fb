//go:build interop

package interop

import (
	"fmt"
	"strings"
	"testing"
)

// Both signatures hold in the mailbox, whatever the message looks like.
func signed(t *testing.T, p *Peers) {
	long := strings.Repeat("a long line ", 80) + "\r\n"
	shapes := []struct{ name, header, body string }{
		{"no body", "", ""},
		{"one empty line", "", "\r\n"},
		{"empty lines at the end", "", "text\r\n\r\n\r\n\r\n"},
		{"space at the ends of lines", "", "text \r\n\t\r\n  \r\nmore\t \r\n"},
		{"runs of space", "X-Spaces:   a \t b  \r\n", "a  b\t\tc \t d\r\n   indented\r\n"},
		{"dots", "", ".\r\n..\r\n. \r\n"},
		{"octets above 127", "Comments: B\xfcro\r\n", "B\xfcro \xe2\x82\xac\r\n"},
		{"long lines", "", long + long},
		{"a folded field", "Reply-To: One <one@post.test>,\r\n\tTwo <two@post.test>,\r\n   Three <three@post.test>\r\n", "text\r\n"},
		{"an empty field", "Cc:\r\nReferences: \r\n", "text\r\n"},
		{"repeated fields", "X-Scan: 1\r\nX-Scan: 2\r\nComments: a\r\nComments: b\r\n", "text\r\n"},
		{"a signature of the device", "DKIM-Signature: v=1; a=rsa-sha1; d=prn.campus.test; s=old; c=simple/simple;\r\n h=From; bh=AAAA; b=AAAA\r\n", "text\r\n"},
		{"a scan", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_x\"\r\n",
			"--=_x\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjcK\r\n--=_x--\r\n"},
		{"noise", "", noise(64 << 10)},
	}
	for _, s := range shapes {
		p.send(s.header+message("shape "+s.name, s.body), "anna@post.test", "anna@dots.test")
	}
	for _, s := range shapes {
		letters := p.Postfix.Wait(t, "shape "+s.name, 2)
		expectBody(t, letters[0], s.body)
		p.Verifiers.Accept(t, s.name, letters[0].Raw())
		if chunks, lines := letters[0].Sent(t), letters[1].Sent(t); chunks != lines {
			t.Errorf("%s: sent in chunks and in lines it is not the same:\n%q\n%q", s.name, head(chunks), head(lines))
		}
	}
}

// One octet, one field more: each makes both signatures worthless. What the
// signature does not cover may change.
func tampered(t *testing.T, p *Peers) {
	p.send(message("to be changed", "Pay 100 to Anna.\r\n"), "anna@post.test")
	original := p.Postfix.Wait(t, "to be changed", 1)[0].Raw()
	p.Verifiers.Accept(t, "unchanged", original)
	p.Verifiers.Accept(t, "a field that nobody signs", "X-Spam: no\r\n"+original)
	p.Verifiers.Refuse(t, "an octet of the body", change(t, original, "Pay 100", "Pay 900"))
	p.Verifiers.Refuse(t, "an octet of the subject", change(t, original, "to be changed", "to be charged"))
	for _, field := range []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type"} {
		p.Verifiers.Refuse(t, fmt.Sprintf("another %s before", field), field+": admin@post.test\r\n"+original)
	}
	p.Verifiers.Refuse(t, "another From after", change(t, original, "\r\n\r\nPay", "\r\nFrom: admin@post.test\r\n\r\nPay"))
}

// change replaces the one occurrence of old.
func change(t *testing.T, message, old, now string) string {
	t.Helper()
	if n := strings.Count(message, old); n != 1 {
		t.Fatalf("%q occurs %d times", old, n)
	}
	return strings.Replace(message, old, now, 1)
}
