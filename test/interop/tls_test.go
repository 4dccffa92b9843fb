//go:build interop

package interop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/test/world"
)

// secret stands in the subject and the body of what must not be read.
const secret = "7c1f-Befund"

// Without a policy, encryption is used where it is offered: the wire tells.
// The message in clear also shows that the capture sees what is in clear.
func whereOffered(t *testing.T, p *Peers) {
	for _, tt := range []struct {
		domain, ip string
		readable   bool
	}{
		{"post.test", postIP, false},
		{"clear.test", clearIP, true},
	} {
		wire := StartCapture(t, p.at(tt.ip))
		subject := secret + " for " + tt.domain
		expectState(t, p.Settled(p.send(message(subject, secret+"\r\n"), "anna@"+tt.domain)), "anna@"+tt.domain, event.Delivered)
		letter := p.Postfix.Wait(t, subject, 1)[0]
		if got := strings.Contains(letter.Header.Get("Received"), "ESMTPS"); got == tt.readable {
			t.Errorf("%s: Received: %s", tt.domain, letter.Header.Get("Received"))
		}
		octets := wire.Bytes(t)
		for _, word := range []string{"MAIL FROM:<" + sender, "Subject: " + subject, "\r\n\r\n" + secret} {
			if got := bytes.Contains(octets, []byte(word)); got != tt.readable {
				t.Errorf("%s: %q can be read on the wire: %t, want %t", tt.domain, word, got, tt.readable)
			}
		}
	}
}

// A destination that must have TLS and offers none gets nothing but EHLO; the
// message waits, and is reported when its time is over.
func forcedTLS(t *testing.T, p *Peers) {
	wire := StartCapture(t, p.at(clearIP))
	before := p.Postfix.Taken(t)
	subject := secret + " forced"
	id := p.Submit(world.Submission{From: world.Alarm, Sender: sender, To: []string{"anna@forced.test"}, Content: message(subject, secret+"\r\n")})
	trace := p.Settled(id)
	expectState(t, trace, "anna@forced.test", event.Expired)
	delayed := 0
	for _, r := range trace.Records {
		if r.Record.Outcome != event.Delayed {
			continue
		}
		delayed++
		if got := r.Record.Recipients[0].Reply.String(); !strings.Contains(got, "Encryption needed") {
			t.Errorf("delayed with %q", got)
		}
	}
	if delayed == 0 {
		t.Error("the trace shows no delay")
	}
	octets := wire.Bytes(t)
	if n := bytes.Count(octets, []byte("EHLO relay.campus.test\r\n")); n < delayed {
		t.Errorf("%d sessions on the wire for %d attempts: nothing was proved", n, delayed)
	}
	for _, word := range []string{"MAIL FROM", "RCPT TO", "DATA", "BDAT", secret} {
		if bytes.Contains(bytes.ToUpper(octets), []byte(strings.ToUpper(word))) {
			t.Errorf("%q was sent in clear", word)
		}
	}
	status := expectReport(t, p, "anna@forced.test", subject)
	if status.Get("Action") != "failed" || !strings.HasPrefix(status.Get("Status"), "4.") && !strings.HasPrefix(status.Get("Status"), "5.") {
		t.Errorf("delivery status %v", status)
	}
	t.Logf("%d attempts, report: %s %s", delayed+1, status.Get("Status"), status.Get("Diagnostic-Code"))
	if n := p.Postfix.Taken(t) - before; n != 1 {
		t.Errorf("Postfix took %d messages, want the report", n)
	}
}
