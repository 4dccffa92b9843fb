package ingress

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/smtp"
)

var (
	ourReceived  = regexp.MustCompile(`^Received: from host\.campus\.test \(\[127\.0\.0\.1\]\)\r\n\tby relay\.campus\.test \(Postrider\) with ESMTP id ([0-9A-Z]{16})\r\n\tfor <anna@campus\.test>;\r\n\t[^\r\n]+\r\n`)
	ourDate      = regexp.MustCompile(`^Date: [^\r\n]+ \+0000\r\n`)
	ourMessageID = regexp.MustCompile(`^Message-ID: <([0-9A-Z]{16})@relay\.campus\.test>\r\n`)
)

// What a client sends, and what is stored after our Received field. D and M
// stand for our Date and Message-ID.
func TestContent(t *testing.T) {
	r := start(t)
	signed := "DKIM-Signature:  v=1; a=rsa-sha256;\r\n\t b=ab c;  \r\n \t h = From\r\n" + message
	random := make([]byte, 3*queue.MaxInline+17)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(random)
	for i, b := range random { // text in lines of any octet but CR, LF and NUL
		switch {
		case i%500 == 498:
			random[i] = '\r'
		case i%500 == 499:
			random[i] = '\n'
		case b == '\r' || b == '\n' || b == 0:
			random[i] = '.'
		}
	}
	large := message + string(random) + "\r\n"
	for _, c := range []struct{ name, sent, kept string }{
		{"complete", message, message},
		{"Date is missing", strings.Replace(message, "Date:", "X-Date:", 1), "D" + strings.Replace(message, "Date:", "X-Date:", 1)},
		{"Message-ID is missing", strings.Replace(message, "Message-ID:", "X-ID:", 1), "M" + strings.Replace(message, "Message-ID:", "X-ID:", 1)},
		{"empty Message-ID", "Date: x\r\nmessage-id :\r\n\r\n", "Date: x\r\nmessage-id :\r\n\r\n"},
		{"no empty line", "Subject: a\r\nText without it.\r\n", "DMSubject: a\r\n\r\nText without it.\r\n"},
		{"header only", "Subject: a\r\n", "DMSubject: a\r\n\r\n"},
		{"no header", "Toner is low.\r\nCall us.\r\n", "DM\r\nToner is low.\r\nCall us.\r\n"},
		{"nothing", "", "DM\r\n"},
		{"leading dots", "Subject: a\r\n\r\n.\r\n..\r\n.a\r\n", "DMSubject: a\r\n\r\n.\r\n..\r\n.a\r\n"},
		{"signed before", signed, signed},
		{"in chunks", large, large},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := r.send(campus, c.sent, "anna@campus.test")
			got := r.stored()[id]
			rest := got.content
			if m := ourReceived.FindStringSubmatch(rest); m == nil || m[1] != string(id) {
				t.Fatalf("no Received field of %s: %.300q", id, rest)
			}
			rest = rest[len(ourReceived.FindString(rest)):]
			want := c.kept
			for mark, field := range map[string]*regexp.Regexp{"D": ourDate} {
				if strings.HasPrefix(want, mark) && !strings.HasPrefix(want, "Date") && !strings.HasPrefix(want, "DKIM") {
					want = want[1:]
					if rest = rest[len(field.FindString(rest)):]; field.FindString(got.content) == "" && len(rest) == len(got.content) {
						t.Errorf("no %s added", field)
					}
				}
			}
			if strings.HasPrefix(want, "M") && !strings.HasPrefix(want, "Me") {
				want = want[1:]
				if m := ourMessageID.FindStringSubmatch(rest); m == nil || m[1] != string(id) || got.MessageID != "<"+string(id)+"@relay.campus.test>" {
					t.Errorf("no Message-ID added, recorded %q", got.MessageID)
				}
				rest = rest[len(ourMessageID.FindString(rest)):]
			}
			if rest != want {
				t.Errorf("stored %.300q, want %.300q (%d and %d octets)", rest, want, len(rest), len(want))
			}
			if got.Size != int64(len(got.content)) || (len(got.Chunks) > 0) != (len(c.sent) > queue.MaxInline) {
				t.Errorf("size %d of %d, %d chunks", got.Size, len(got.content), len(got.Chunks))
			}
		})
	}
}

// By BDAT a content may end within a line, also within its header (RFC 3030).
func TestContentWithoutLineEnd(t *testing.T) {
	r := start(t)
	for sent, kept := range map[string]string{
		"Message-ID: <1@x>\r\nDate: now":            "Message-ID: <1@x>\r\nDate: now\r\n\r\n",
		"Date: now\r\nMessage-ID: <1@x>\r\n\r\nend": "Date: now\r\nMessage-ID: <1@x>\r\n\r\nend\r\n",
	} {
		c := r.begin(campus, "anna@campus.test")
		c.write(fmt.Sprintf("BDAT %d LAST\r\n%s", len(sent), sent))
		id := c.queued(c.reply())
		if content := r.stored()[id].content; !strings.HasSuffix(content, kept) {
			t.Errorf("sent %q, stored %q", sent, content)
		}
	}
}

// Faults of the content are the mail's, and permanent; each is refused with a
// reference and nothing is stored.
func TestContentRefused(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Limits.MessageSize = 1_000_000 })
	for _, c := range []struct{ name, content, want string }{
		{"header of 256 KiB", strings.Repeat("X-Filler: "+strings.Repeat("x", 988)+"\r\n", 300) + "\r\nbody\r\n", "552 5.3.4 "},
		{"header line without end", "Subject: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", "552 5.3.4 "},
		{"field of 32 KiB", "Subject: " + strings.Repeat(strings.Repeat("x", 900)+"\r\n ", 40) + "x\r\n\r\n", "552 5.3.4 "},
		{"50 hops", strings.Repeat("Received: from a by b; now\r\n", mail.MaxHops) + "\r\n", "554 5.4.6 "},
		{"larger than SIZE", message + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 10_000), "552 5.3.4 "},
		{"bare LF", "Subject: a\r\n\r\none\ntwo\r\n", "550 5.6.0 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := r.begin(campus, "anna@campus.test")
			got := client.data(c.content)
			if !strings.HasPrefix(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if _, err := mail.ParseRef(strings.Fields(got)[2]); err != nil {
				t.Errorf("no reference in %q", got)
			}
			client.envelope("anna@campus.test") // the session goes on
			client.queued(client.data(strings.Repeat("Received: from a by b; now\r\n", mail.MaxHops-1) + "\r\n"))
		})
	}
	if n := len(r.stored()); n != 6 {
		t.Errorf("%d messages stored, want the 6 good ones", n)
	}
	c := r.dial(campus)
	c.say("EHLO x", "250")
	c.say("MAIL FROM:<a@campus.test> SIZE=1000001", "552 5.3.4")
}

func TestSizeIsAnnounced(t *testing.T) {
	r := start(t)
	if got := r.dial(campus).ask("EHLO x"); !strings.Contains(got, "\n250-SIZE 50000000\n") {
		t.Errorf("EHLO reply %q", got)
	}
}

// A store that has no room, for the message or for its chunks.
func TestStoreFull(t *testing.T) {
	r := start(t)
	for n := range queue.Shards {
		limit(t, r.bus, queue.MailStream(n), 100)
	}
	c := r.begin(campus, "anna@campus.test")
	if got := c.data(message); !strings.HasPrefix(got, "452 4.3.1 ") {
		t.Errorf("MAIL full: %q", got)
	}
	for n := range queue.Shards {
		limit(t, r.bus, queue.MailStream(n), -1)
		limit(t, r.bus, queue.BodyStream(n), 100)
	}
	c.envelope("anna@campus.test")
	if got := c.data(message + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 3000)); !strings.HasPrefix(got, "452 4.3.1 ") {
		t.Errorf("BODY full: %q", got)
	}
	if n := len(r.stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
	c.envelope("anna@campus.test")
	c.queued(c.data(message))
}

func limit(t *testing.T, bus *queue.Bus, stream string, octets int64) {
	t.Helper()
	s, err := bus.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = octets
	if _, err := bus.JS.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// A bus that goes away in the middle of a transaction: 451, never 250 and never
// 5xx; and at once when it is known to be away.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := queuetest.Server(t, dir)
	bus := queuetest.Connect(t, server)
	if err := queue.Ensure(t.Context(), bus.JS, 1, 0); err != nil {
		t.Fatal(err)
	}
	r := startOn(t, bus)
	c := r.begin(campus, "anna@campus.test")
	large := r.begin(campus, "anna@campus.test")
	server.Stop()
	c.say("DATA", "354")
	large.say("DATA", "354")
	c.write(stuffed(message) + ".\r\n")
	large.write(message + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 3000) + ".\r\n")
	c.expect("451 4.3.0 ")
	large.expect("451 4.3.0 ")
	c.say("MAIL FROM:<prn@campus.test>", "451 4.3.0 ")
}

// Anything that is nobody's fault but ours is answered 4xx.
func TestEveryTroubleIsTransient(t *testing.T) {
	t.Parallel()
	r := start(t)
	for n := range queue.Shards {
		if err := r.bus.JS.DeleteStream(t.Context(), queue.MailStream(n)); err != nil {
			t.Fatal(err)
		}
	}
	c := r.begin(campus, "anna@campus.test")
	if got := c.data(message); !strings.HasPrefix(got, "451 4.3.0 ") {
		t.Errorf("stream is missing: %q", got)
	}
	for n := range queue.Shards { // too small for the message: no repetition mends it
		cfg := jetstream.StreamConfig{Name: queue.MailStream(n), Subjects: []string{queue.MailSubject("*", n)}, MaxMsgSize: 10}
		if _, err := r.bus.JS.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	c.envelope("anna@campus.test")
	if got := c.data(message); !strings.HasPrefix(got, "451 4.3.0 ") {
		t.Errorf("message too large for the stream: %q", got)
	}
}

// A client that goes away in the middle of its content has sent nothing.
func TestClientLost(t *testing.T) {
	r := start(t)
	c := r.begin(campus, "anna@campus.test")
	c.say("DATA", "354")
	c.write(message)
	c.conn.Close()
	found := false
	for _, e := range r.refusals() {
		found = found || e.Rule == "client-lost" && e.Facts.Address == netip.MustParseAddr(campus)
	}
	if n := len(r.stored()); n != 0 || !found {
		t.Errorf("%d messages stored, evidence kept: %v", n, found)
	}
}

func TestRecipientsOnce(t *testing.T) {
	r := start(t)
	r.send(campus, message, "anna@campus.test", "bert@campus.test", "anna@CAMPUS.test", "Anna@campus.test")
	var got []string
	for _, rcpt := range r.only().Env.Recipients {
		got = append(got, rcpt.Address.String())
	}
	if want := "anna@campus.test bert@campus.test Anna@campus.test"; strings.Join(got, " ") != want {
		t.Errorf("recipients %v, want %s", got, want)
	}
	if strings.Contains(r.only().content, "for <") {
		t.Error("Received names one of several recipients")
	}
}

func TestEventHasTheFacts(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Ledger.TokenHeader = "X-Token" })
	c := r.dial(device)
	c.say("EHLO host.campus.test", "250")
	c.startTLS()
	c.say("MAIL FROM:<prn@campus.test> BODY=8BITMIME", "250")
	c.say("RCPT TO:<x@example.test>", "250")
	id := c.queued(c.data("X-Token: t-1\r\nFrom: A <a@campus.test>, b@campus.test\r\nMessage-ID: <m@x>\r\n\r\n"))
	m := r.only()
	f := m.Facts
	if m.QueueID != id || m.Device != "prn.campus.test" || m.Owner != "chem" || m.Class != mail.ClassAlert || !m.Env.Body8Bit ||
		m.MessageID != "<m@x>" || m.SubmissionID != "t-1" || m.Revision == 0 || m.subject != queue.MailSubject(mail.LaneAlert, queue.ShardOf(id)) {
		t.Errorf("event %+v on %s", m.Accepted, m.subject)
	}
	if f.Listener != "relay" || f.Submission || f.Address != netip.MustParseAddr(device) || f.Helo != "host.campus.test" ||
		!strings.HasPrefix(f.TLS, "TLS1.3 TLS_") || f.Identity != "" || f.ReversePath.String() != "prn@campus.test" || f.Recipient != nil ||
		strings.Join(f.HeaderFrom, " ") != "a@campus.test b@campus.test" || f.At.IsZero() || !f.NameDoubt {
		t.Errorf("facts %+v", f)
	}
	if !strings.Contains(m.content, "\t(using "+f.TLS+")\r\n\tby relay.campus.test (Postrider) with ESMTPS id "+string(id)+"\r\n") {
		t.Errorf("Received field:\n%s", m.content)
	}
}

// A header field of any size is not copied into every event.
func TestRecordedFieldsAreBounded(t *testing.T) {
	r := start(t)
	r.send(campus, "Message-ID: <"+strings.Repeat(strings.Repeat("x", 900)+"\r\n ", 20)+">\r\n\r\n", "anna@campus.test")
	if n := len(r.only().MessageID); n != maxRecorded {
		t.Errorf("%d octets of Message-ID recorded", n)
	}
}

func TestNullReversePath(t *testing.T) {
	r := start(t)
	c := r.dial(campus)
	c.say("HELO host", "250")
	c.say("MAIL FROM:<>", "250")
	c.say("RCPT TO:<\"odd one\"@campus.test>", "250")
	c.queued(c.data(message))
	m := r.only()
	if !m.Env.ReversePath.IsNull() || m.Env.Recipients[0].Address != (smtp.ForwardPath{Address: smtp.Address{Local: "odd one", Domain: "campus.test"}}) {
		t.Errorf("envelope %+v", m.Env)
	}
	if !strings.Contains(m.content, " with SMTP id ") || !strings.Contains(m.content, "for <\"odd one\"@campus.test>") {
		t.Errorf("Received field:\n%s", m.content)
	}
}
