package dsn

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func path(local, domain string) smtp.ForwardPath {
	return smtp.ForwardPath{Address: smtp.Address{Local: local, Domain: domain}}
}

// report is one with a single recipient that the destination refused.
func report() Report {
	return Report{
		QueueID: "02ABCDEF00000001", Original: "02ABCDEF00000000", Hostname: "relay.campus.test", HelpURL: "https://relay.campus.test",
		To:         smtp.ReversePath(path("prn", "campus.test")),
		AcceptedAt: time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC), At: time.Date(2026, 11, 21, 21, 0, 0, 0, time.UTC),
		Kind: event.KindFailed,
		Recipients: []event.RecipientRecord{{
			Address: path("x", "example.test"), Reply: smtp.Reply{Code: 550, Enhanced: "1.1", Text: "No such user here\nask your postmaster"},
			RemoteMTA: "mx.example.test [192.0.2.1]",
		}},
		Header: mail.Header("Received: from a by b; now\r\nFrom: <prn@campus.test>\r\nSubject: scan\r\n\tof page one\r\nMessage-ID: <1@prn.campus.test>\r\n"),
	}
}

func several() Report {
	r := report()
	r.Recipients = append(r.Recipients,
		event.RecipientRecord{Address: path("odd one", "example.test"), Original: "Odd One@example.test", Reply: smtp.ReplyNullMX},
		event.RecipientRecord{Address: path("nobody", "silent.test")})
	r.HelpURL = ""
	return r
}

func expired() Report {
	r := report()
	r.Kind = event.KindExpired
	r.Recipients[0].Reply = smtp.Reply{Code: 451, Enhanced: "4.1", Text: "No answer from host"}
	r.Header, r.Unavailable = nil, true
	return r
}

func eightBit() Report {
	r := report()
	r.Header = mail.Header("Subject: gr\xfc\xdfe = hello\r\nX-Long: " + strings.Repeat("x", 1200) + "\r\nMessage-ID: <\xfc@prn>\r\n")
	return r
}

func TestGolden(t *testing.T) {
	for name, r := range map[string]Report{"failed": report(), "several": several(), "expired": expired(), "8bit": eightBit()} {
		got := Compose(r)
		if !bytes.Equal(got, Compose(r)) {
			t.Errorf("%s: not the same twice", name)
		}
		file := filepath.Join("testdata", name+".eml")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from %s (-update writes it):\n%s", name, file, got)
		}
		if err := sound(r, got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// parts is what a reader of MIME finds in a report.
type parts struct {
	text    string
	message textproto.MIMEHeader
	rcpts   []textproto.MIMEHeader
	header  []byte // of the original
}

func read(report []byte) (*parts, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		return nil, err
	}
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || parameters["report-type"] != "delivery-status" {
		return nil, fmt.Errorf("Content-Type %s %v: %v", kind, parameters, err)
	}
	var p parts
	reader := multipart.NewReader(m.Body, parameters["boundary"])
	var kinds []string
	for {
		part, err := reader.NextPart() // decodes quoted-printable
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil {
			return nil, err
		}
		switch kinds = append(kinds, kind); kind {
		case "text/plain":
			p.text = string(body)
		case "message/delivery-status":
			if err := p.status(body); err != nil {
				return nil, err
			}
		case "text/rfc822-headers":
			p.header = body
		}
	}
	if got := strings.Join(kinds, " "); got != "text/plain message/delivery-status" && got != "text/plain message/delivery-status text/rfc822-headers" {
		return nil, fmt.Errorf("parts %s", got)
	}
	return &p, nil
}

// status reads the groups of fields of RFC 3464 §2.1.
func (p *parts) status(body []byte) error {
	r := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(body), strings.NewReader("\r\n"))))
	for {
		group, err := r.ReadMIMEHeader()
		if len(group) > 0 && p.message == nil {
			p.message = group
		} else if len(group) > 0 {
			p.rcpts = append(p.rcpts, group)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func names(h map[string][]string) string {
	var out []string
	for name, values := range h {
		for range values {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// sound reports what is wrong with a report in form: it has exactly the fields
// that we wrote, once each, in lines that everyone takes.
func sound(r Report, report []byte) error {
	for line := range bytes.Lines(report) {
		text, complete := bytes.CutSuffix(line, []byte("\r\n"))
		if !complete || len(text) > 998 || bytes.ContainsAny(text, "\r\n\x00") {
			return fmt.Errorf("line %q", line)
		}
		for _, c := range text {
			if c >= 0x7f || c < ' ' && c != '\t' {
				return fmt.Errorf("octet %#x in %q", c, line)
			}
		}
	}
	m, err := netmail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		return err
	}
	want := "Auto-Submitted Content-Type Date From Message-Id Mime-Version Received "
	if m.Header.Get("References") != "" {
		want += "References "
	}
	if got := names(m.Header); got != want+"Subject To" {
		return fmt.Errorf("fields %s", got)
	}
	p, err := read(report)
	if err != nil {
		return err
	}
	if got := names(p.message); got != "Arrival-Date Reporting-Mta X-Postrider-Queue-Id" {
		return fmt.Errorf("fields of the message %s", got)
	}
	if len(p.rcpts) != len(r.Recipients) {
		return fmt.Errorf("%d groups for %d recipients", len(p.rcpts), len(r.Recipients))
	}
	for i, group := range p.rcpts {
		got := " " + names(group) + " "
		for _, optional := range []string{" Diagnostic-Code", " Original-Recipient", " Remote-Mta"} {
			got = strings.Replace(got, optional, "", 1)
		}
		if got != " Action Final-Log-Id Final-Recipient Last-Attempt-Date Status " {
			return fmt.Errorf("fields of recipient %d: %s", i, names(group))
		}
		if group.Get("Action") != "failed" || !wellFormed.MatchString(group.Get("Status")) {
			return fmt.Errorf("action %q, status %q", group.Get("Action"), group.Get("Status"))
		}
	}
	return nil
}

// The fields of RFC 3464, for programs.
func TestStatus(t *testing.T) {
	p, err := read(Compose(several()))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]string{
		{
			"Final-Recipient": "rfc822; x@example.test", "Status": "5.1.1", "Remote-Mta": "dns; mx.example.test",
			"Diagnostic-Code": "smtp; 550 5.1.1 No such user here / ask your postmaster", "Original-Recipient": "",
		},
		{
			"Final-Recipient": `rfc822; "odd one"@example.test`, "Status": "5.1.10", "Remote-Mta": "",
			"Original-Recipient": "rfc822; Odd One@example.test",
		},
		{"Final-Recipient": "rfc822; nobody@silent.test", "Status": "5.0.0", "Diagnostic-Code": ""},
	} {
		for name, value := range want {
			if got := p.rcpts[i].Get(name); got != value {
				t.Errorf("recipient %d: %s is %q, want %q", i, name, got, value)
			}
		}
	}
	p, err = read(Compose(expired()))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.rcpts[0]; got.Get("Status") != "5.4.7" || got.Get("Diagnostic-Code") != "smtp; 451 4.4.1 No answer from host" || p.header != nil {
		t.Errorf("expired: %v, header %q", got, p.header)
	}
}

// What waited for encryption until its end says so (W13).
func TestExpiredForLackOfEncryption(t *testing.T) {
	r := expired()
	r.Recipients[0].Reply = smtp.ReplyTLSUnavailable
	p, err := read(Compose(r))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.rcpts[0].Get("Status"); got != "5.7.10" {
		t.Errorf("status %s", got)
	}
}

// The original header comes back octet for octet, also where it must be
// encoded, and is cut between fields.
func TestReturnedHeader(t *testing.T) {
	for _, r := range []Report{report(), eightBit()} {
		p, err := read(Compose(r))
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.TrimRight(p.header, "\r\n"); !bytes.Equal(got, bytes.TrimRight(r.Header, "\r\n")) {
			t.Errorf("returned %q, want %q", got, r.Header)
		}
	}
	r := report()
	r.Header = mail.Header(strings.Repeat("X-Filler: "+strings.Repeat("x", 80)+"\r\n", 2000))
	p, err := read(Compose(r))
	if err != nil || len(p.header) > maxReturned+100 || !bytes.HasSuffix(bytes.TrimSpace(p.header), []byte("xxx\r\nX-Postrider-Truncated: yes")) {
		t.Errorf("%d octets returned, %v", len(p.header), err)
	}
}

// What others wrote cannot become a field, a part, a line or a megabyte.
func TestHostileText(t *testing.T) {
	boundary := string(bytes.SplitN(bytes.SplitN(Compose(report()), []byte(`boundary="`), 2)[1], []byte(`"`), 2)[0])
	for _, text := range []string{
		"no\r\nBcc: victim@example.test\r\n\r\nBuy this",
		"no\n\nX-Evil: 1\n\nFinal-Recipient: rfc822; other@example.test",
		"no\rX-Evil: 1",
		"nul\x00 and 8 bit \xff\xfe \u202e \u2028",
		"--" + boundary + "--",
		"\n--" + boundary + "\nContent-Type: text/html\n\n<script>",
		strings.Repeat("x", 1<<20),
		strings.Repeat("\xff", 1<<20),
		strings.Repeat("y ", 1<<19),
		"",
	} {
		r := report()
		r.Recipients[0].Reply.Text, r.Recipients[0].RemoteMTA = text, "mx\r\n.test"+text+" [192.0.2.1]"
		r.Recipients[0].Original = text
		r.Header = mail.Header("--" + boundary + ": x\r\nSubject: " + strings.ReplaceAll(text, "\n", "\n ") + "\r\nMessage-ID: <" + text + ">\r\n")
		got := Compose(r)
		if err := sound(r, got); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
		if len(got) > 100<<10 {
			t.Errorf("%.40q makes a report of %d octets", text, len(got))
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb": "a b", "a\r\nb": "a? b", "\x00\x7f\t": "???", "\xff": "?", "é": "?", "0123456789012": "0123456789...",
	} {
		if got := clean(in, 10); got != want {
			t.Errorf("clean %q is %q, want %q", in, got, want)
		}
	}
}

func FuzzCompose(f *testing.F) {
	f.Add(550, "1.1", "No such user", "mx.test [192.0.2.1]", "x", "orig", "From: a@b\r\nMessage-ID: <1>\r\n", true)
	f.Add(550, "1.1\r\nX: y", "t", "mx.test", "x", "", "", true)
	f.Add(451, "1.1\r\nX: y", "a\r\nB: c", "m\r\nx", "a\"b", "\r\n", "Subject: \xff\r\n\n \r x: y", false)
	f.Add(0, "", "", "", "", "", "", false)
	f.Add(559, "", "\n\n--report", " ", "\u00fc", "\u2028", "--report-0: x\r\n\r\n", true)
	f.Fuzz(func(t *testing.T, code int, enhanced, text, remote, local, original, header string, failed bool) {
		r := report()
		rcpt := &r.Recipients[0]
		rcpt.Reply = smtp.Reply{Code: code, Enhanced: smtp.Enhanced(enhanced), Text: text}
		rcpt.RemoteMTA, rcpt.Original = remote, original
		if a, err := smtp.ParseAddress(local + "@example.test"); err == nil && utf8.ValidString(local) {
			rcpt.Address.Address, r.To.Address = a, a
		}
		r.Header = mail.Header(header)
		if !failed {
			r.Kind = event.KindExpired
		}
		r.Recipients = append(r.Recipients, report().Recipients[0])
		if err := sound(r, Compose(r)); err != nil {
			t.Error(err)
		}
	})
}
