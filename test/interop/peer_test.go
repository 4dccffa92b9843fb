//go:build interop

package interop

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/test/world"
)

// Peers is a world with Postfix in it.
type Peers struct {
	*world.World
	Postfix   *Postfix
	Verifiers *Verifiers
}

// sender has its mailbox at Postfix, where the reports go.
const sender = "prn@post.test"

func TestPostfixInOneProcess(t *testing.T) { withPostfix(t, world.InProcess) }

func TestPostfixAsSeparateProcesses(t *testing.T) { withPostfix(t, world.Processes) }

// withPostfix plays the scenarios on one relay and one Postfix.
func withPostfix(t *testing.T, drive world.Driver) {
	w := world.New(t, drive, func(c *config.Config) {
		c.Delivery.RequireTLS = append(c.Delivery.RequireTLS, config.RequireTLS{Domain: "forced.test", Level: config.TLSEncrypt})
	})
	if err := w.DNS.Set(postZones); err != nil {
		t.Fatal(err)
	}
	p := &Peers{w, StartPostfix(t, w.Config.Delivery.MXPort), NewVerifiers(t, w.Config.Relay.Data)}
	for _, s := range []struct {
		name string
		play func(*testing.T, *Peers)
	}{
		{"delivered with TLS", overTLS},
		{"the first MX is dead", secondMX},
		{"a null MX is reported to Postfix", reported},
		{"TLS where it is offered, clear where it is not", whereOffered},
		{"forced TLS sends nothing in clear", forcedTLS},
		{"five megabytes", large},
		{"fifty recipients in one transaction", manyRecipients},
		{"one recipient of three is refused", oneRefused},
		{"Postfix can be smuggled to", vulnerable},
		{"the ends of other servers are refused", foreignEnds},
		{"dots and chunks stay one message", transparent},
		{"signatures hold for every shape of message", signed},
		{"a signed message that is changed is refused", tampered},
	} {
		t.Run(s.name, func(t *testing.T) {
			was := w.T
			w.T = t
			defer func() { w.T = was }()
			s.play(t, p)
		})
	}
	w.Balances()
}

// send submits a message from the printer.
func (p *Peers) send(content string, to ...string) mail.QueueID {
	p.T.Helper()
	return p.Submit(world.Submission{From: world.Printer, Sender: sender, To: to, Content: content})
}

// message is a message with a header that needs no help.
func message(subject, body string) string {
	return "From: Printer <prn@post.test>\r\nTo: someone@post.test\r\nSubject: " + subject +
		"\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@prn.campus.test>\r\n\r\n" + body
}

func overTLS(t *testing.T, p *Peers) {
	id := p.send(message("over TLS", "Scanned page.\r\n"), "anna@post.test")
	trace := p.Settled(id)
	expectState(t, trace, "anna@post.test", event.Delivered)
	letter := p.Postfix.Wait(t, "over TLS", 1)[0]
	received := letter.Header.All("Received")
	if len(received) != 2 || !strings.Contains(received[0], "(using TLSv1.3 with cipher") || !strings.Contains(received[0], "(Postfix) with ESMTPS id") {
		t.Errorf("Received fields %q", received)
	}
	if got := letter.Header.Get("Return-Path"); got != "<"+sender+">" {
		t.Errorf("Return-Path %s", got)
	}
	last := trace.Records[len(trace.Records)-1].Record.Recipients[0]
	if !strings.HasPrefix(last.TLS, "TLS1.3 ") || last.RemoteMTA != "mx.post.test ["+postIP+"]" || !strings.HasPrefix(last.Reply.String(), "250 2.0.0 Ok: ") {
		t.Errorf("the trace says %+v", last)
	}
	p.Verifiers.Accept(t, "over TLS", letter.Raw())
}

func secondMX(t *testing.T, p *Peers) {
	trace := p.Settled(p.send(message("second MX", "Scanned page.\r\n"), "anna@second.test"))
	expectState(t, trace, "anna@second.test", event.Delivered)
	r := trace.Recipients[0]
	if r.RemoteMTA != "mx.post.test ["+postIP+"]" || r.Attempts != 1 {
		t.Errorf("delivered to %s in attempt %d, want the second MX in the first", r.RemoteMTA, r.Attempts)
	}
	p.Postfix.Wait(t, "second MX", 1)
}

func reported(t *testing.T, p *Peers) {
	expectState(t, p.Settled(p.send(message("to a null MX", "Scanned page.\r\n"), "x@null.test")), "x@null.test", event.Bounced)
	status := expectReport(t, p, "x@null.test", "to a null MX")
	if status.Get("Action") != "failed" || status.Get("Status") != "5.1.10" {
		t.Errorf("delivery status %v", status)
	}
}

func manyRecipients(t *testing.T, p *Peers) {
	var to []string
	for i := range 50 {
		to = append(to, fmt.Sprintf("r%02d@post.test", i))
	}
	trace := p.Settled(p.send(message("fifty", "Scanned page.\r\n"), to...))
	var got, ids []string
	for _, l := range p.Postfix.Wait(t, "fifty", 50) {
		got = append(got, l.Header.Get("Delivered-To"))
		ids = append(ids, postfixID.FindStringSubmatch(l.Header.Get("Received"))[1])
	}
	slices.Sort(got)
	if !slices.Equal(got, to) {
		t.Errorf("delivered to %v", got)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 || !strings.Contains(p.Postfix.Log(t), ids[0]+": from=<"+sender+">, size=") ||
		!regexp.MustCompile(ids[0]+`: from=.*, nrcpt=50 `).MatchString(p.Postfix.Log(t)) {
		t.Errorf("Postfix calls it %v, want one transaction of 50 recipients", slices.Compact(ids))
	}
	for _, address := range to {
		expectState(t, trace, address, event.Delivered)
	}
}

var postfixID = regexp.MustCompile(`\(Postfix\) with ESMTPS? id ([0-9A-F]+)`)

func oneRefused(t *testing.T, p *Peers) {
	trace := p.Settled(p.send(message("one of three", "Scanned page.\r\n"), "anna@post.test", "nobody@post.test", "otto@post.test"))
	expectState(t, trace, "anna@post.test", event.Delivered)
	expectState(t, trace, "otto@post.test", event.Delivered)
	expectState(t, trace, "nobody@post.test", event.Bounced)
	if n := len(p.Postfix.Wait(t, "one of three", 2)); n != 2 {
		t.Errorf("delivered %d times, want 2", n)
	}
	status := expectReport(t, p, "nobody@post.test", "one of three")
	if status.Get("Status") != "5.1.1" || !strings.HasPrefix(status.Get("Diagnostic-Code"), "smtp; 550 5.1.1 <nobody@post.test>: Recipient address rejected") ||
		status.Get("Remote-MTA") != "dns; mx.post.test" {
		t.Errorf("delivery status %v", status)
	}
}

func large(t *testing.T, p *Peers) {
	body := noise(5 << 20)
	p.send(message("large", body), "anna@post.test", "anna@dots.test")
	for _, l := range p.Postfix.Wait(t, "large", 2) {
		expectBody(t, l, body)
	}
}

func expectState(t *testing.T, trace *books.Trace, recipient string, state event.Outcome) {
	t.Helper()
	for _, r := range trace.Recipients {
		if r.Recipient == recipient {
			if r.State != string(state) {
				t.Errorf("%s is %s (%s), want %s", recipient, r.State, r.Diagnostic, state)
			}
			return
		}
	}
	t.Errorf("%s is not in the books", recipient)
}

func expectBody(t *testing.T, l Letter, want string) {
	t.Helper()
	if l.Body == want {
		return
	}
	at := 0
	for at < min(len(l.Body), len(want)) && l.Body[at] == want[at] {
		at++
	}
	t.Errorf("%s to %s: body of %d octets arrived as %d, different at %d: %.40q, want %.40q", l.Header.Get("Subject"), l.Header.Get("Delivered-To"),
		len(want), len(l.Body), at, l.Body[at:], want[at:])
}

// expectReport waits for the report at the sender's mailbox, takes it apart as
// RFC 6522 and RFC 3464 say, and returns the fields about the recipient.
func expectReport(t *testing.T, p *Peers, recipient, subject string) textproto.MIMEHeader {
	t.Helper()
	letter := p.Postfix.Wait(t, "Undelivered mail: "+recipient, 1)[0]
	p.Verifiers.Accept(t, "report", letter.Raw())
	m, err := netmail.ReadMessage(strings.NewReader(letter.Raw()))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("Return-Path") != "<>" || m.Header.Get("Delivered-To") != sender || m.Header.Get("Auto-Submitted") != "auto-replied" {
		t.Errorf("header of the report:\n%s", letter.Header)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	var kinds, bodies []string
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		kinds, bodies = append(kinds, kind), append(bodies, string(body))
	}
	if !slices.Equal(kinds, []string{"text/plain", "message/delivery-status", "text/rfc822-headers"}) {
		t.Fatalf("parts %q", kinds)
	}
	if !strings.Contains(bodies[2], "Subject: "+subject+"\r\n") {
		t.Errorf("the header that is returned:\n%s", bodies[2])
	}
	perMessage, rest, _ := strings.Cut(bodies[1], "\r\n\r\n")
	if fields := fieldsOf(t, perMessage); fields.Get("Reporting-MTA") != "dns; relay.campus.test" {
		t.Errorf("Reporting-MTA %q", fields.Get("Reporting-MTA"))
	}
	fields := fieldsOf(t, strings.TrimRight(rest, "\r\n"))
	if fields.Get("Final-Recipient") != "rfc822; "+recipient {
		t.Errorf("Final-Recipient %q", fields.Get("Final-Recipient"))
	}
	return fields
}

func fieldsOf(t *testing.T, text string) textproto.MIMEHeader {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(text + "\r\n\r\n"))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return textproto.MIMEHeader(m.Header)
}

// at is an address of Postfix with the port of this world.
func (p *Peers) at(ip string) string {
	return net.JoinHostPort(ip, strconv.Itoa(p.Config.Delivery.MXPort))
}
