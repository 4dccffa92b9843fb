package sink

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/loadtest/journal"
)

const report = `From: Mail Delivery System <mailer-daemon@relay.test>
To: scan@device.test
Message-ID: <ndr-1@relay.test>
Subject: Undelivered mail
Content-Type: multipart/report; report-type=delivery-status;
 boundary="=_b"

--=_b
Content-Type: text/plain

Your message could not be delivered.

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.test
Arrival-Date: Sat, 21 Nov 2026 19:13:00 +0000

Original-Recipient: rfc822;550+k7-1@load.test
Final-Recipient: rfc822;elsewhere@load.test
Action: Failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 As the
 recipient address asks

Final-Recipient: RFC822; u2+k7-1@load.test
Action: delayed
Status: 4.4.1

--=_b
Content-Type: text/rfc822-headers

X-Ledger: k7-1

--=_b--
`

func wire(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func TestParseReport(t *testing.T) {
	got, err := ParseReport(wire(report))
	want := []RecipientStatus{
		{"550+k7-1@load.test", "failed", "5.1.1"},
		{"u2+k7-1@load.test", "delayed", "4.4.1"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestParseReportRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"plain":            "Subject: x\n\nhello\n",
		"mixed":            strings.Replace(report, "multipart/report", "multipart/mixed", 1),
		"no status part":   strings.Replace(report, "message/delivery-status", "text/plain", 1),
		"no recipients":    strings.ReplaceAll(report, "Action:", "X-Action:"),
		"cut in status":    report[:strings.Index(report, "Action: delayed")],
		"no end of fields": strings.Replace(report, "Status: 5.1.1", "no colon", 1),
	} {
		if got, err := ParseReport(wire(text)); !errors.Is(err, ErrNoReport) {
			t.Errorf("%s: got %+v, %v; want ErrNoReport", name, got, err)
		}
	}
}

func TestReportBecomesLines(t *testing.T) {
	s, m := newSink(t, Config{})
	talk(t, s, "S: 220 sink.test ESMTP\nC: MAIL FROM:<>\nS: 250 2.1.0 OK\nC: RCPT TO:<scan@device.test>\nS: 250 2.1.5 OK\nC: DATA\nS: 354 Go ahead\n"+
		"C: "+strings.ReplaceAll(report, "\n", `\r\n`)+"\nC: .\nS: 250 2.0.0 Taken\n")
	if len(m.lines) != 2 || s.Counts().Reports != 1 {
		t.Fatalf("%d lines, counts %+v", len(m.lines), s.Counts())
	}
	line := m.lines[0]
	if line.Kind != journal.DSN || line.Token != "k7-1" || line.Recipient != "550+k7-1@load.test" || line.Action != "failed" ||
		line.Status != "5.1.1" || line.MessageID != "<ndr-1@relay.test>" || line.Recipients[0] != "scan@device.test" || !line.Acknowledged {
		t.Errorf("got %+v", line)
	}
}

func TestToken(t *testing.T) {
	for in, want := range map[string]string{
		"u1+k7-1@load.test": "k7-1", "550+u2+k7-1@load.test": "k7-1", "plain@load.test": "", "a@b+c": "", "": "",
	} {
		if got := Token(in); got != want {
			t.Errorf("Token(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(wire(report))
	f.Add(wire(strings.ReplaceAll(report, "=_b", "")))
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := ParseReport(message)
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%d recipients with error %v", len(got), err)
		}
	})
}

func FuzzCutPath(f *testing.F) {
	for _, s := range []string{"FROM:<a@b>", "FROM:<>", `FROM:<"a>b"@c> SIZE=1`, "FROM:", "FROM:<@", "FROM:>@<"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if path, ok := cutPath(s, "FROM:"); ok && !strings.Contains(s, "<"+path+">") {
			t.Fatalf("%q gave %q", s, path)
		}
	})
}
