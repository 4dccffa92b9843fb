package ingress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// change alters the registered device; the caller finds out when ingress knows.
func (r *rig) change(alter func(*registry.Device)) {
	r.t.Helper()
	snapshot, err := r.store.Load(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	known, _ := snapshot.Device("prn.campus.test")
	d, err := registry.Clone(known)
	if err != nil {
		r.t.Fatal(err)
	}
	alter(d)
	d.By = "tester"
	if err := r.store.Put(r.t.Context(), d); err != nil {
		r.t.Fatal(err)
	}
}

// adapted is a rig whose device has the quirks, and says so in EHLO.
func adapted(t *testing.T, quirks registry.Quirks, adjust ...func(*config.Config)) *rig {
	t.Helper()
	r := start(t, adjust...)
	quirks.HideEHLO = append(quirks.HideEHLO, "CHUNKING")
	r.change(func(d *registry.Device) { d.Quirks = quirks })
	c := r.dial(device)
	timetest.Await(t, "the quirks hold", func() bool { return !strings.Contains(c.ask("EHLO probe"), "CHUNKING") })
	return r
}

// kept sends a content and is what was stored of it.
func (r *rig) kept(c *client, content string) stored {
	r.t.Helper()
	id := c.queued(c.data(content))
	return r.stored()[id]
}

func quirks(m stored) (out []string) {
	for _, q := range m.Quirks {
		out = append(out, q.String())
	}
	return out
}

const hidden = "hide-ehlo: CHUNKING"

// A device that cannot be told its sender has it replaced, in the envelope and
// in the From field; what was there is kept, and in the books.
func TestQuirkFrom(t *testing.T) {
	r := adapted(t, registry.Quirks{From: "Scanner@Campus.test"}, func(c *config.Config) {
		c.Policy.SenderMustBeHosted, c.Policy.FromField = "enforce", "enforce"
	})
	for _, tt := range []struct{ name, path, header, kept, was string }{
		{"foreign", "root@localhost", "From: root <root@localhost>\r\nSubject: a\r\n", "From: <Scanner@campus.test>\r\nX-Original-From: root <root@localhost>\r\nSubject: a\r\n", "root <root@localhost>"},
		{"none", "root@localhost", "Subject: a\r\n", "Subject: a\r\nFrom: <Scanner@campus.test>\r\n", ""},
		{"two, unreadable", "root@localhost", "from : a\r\n b\r\nSubject: a\r\nFROM: x@y.test\r\n", "From: <Scanner@campus.test>\r\nX-Original-From: a\r\n b\r\nSubject: a\r\nX-Original-From: x@y.test\r\n", "a b | x@y.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial(device)
			c.t = t
			c.say("EHLO prn", "250")
			c.say("MAIL FROM:<"+tt.path+">", "250")
			c.say("RCPT TO:<x@example.test>", "250")
			m := r.kept(c, "Date: x\r\nMessage-ID: <1@x>\r\n"+tt.header+"\r\nbody\r\n")
			if !strings.HasSuffix(m.content, "Message-ID: <1@x>\r\n"+tt.kept+"\r\nbody\r\n") {
				t.Errorf("stored %q", m.content)
			}
			from := strings.TrimSuffix("from was "+tt.was, " was ")
			if got := quirks(m); !slices.Equal(got, []string{"reverse-path was " + tt.path, from, hidden}) {
				t.Errorf("quirks %q", got)
			}
			if m.Env.ReversePath.String() != "Scanner@campus.test" || m.Facts.ReversePath != m.Env.ReversePath || m.Facts.GivenPath != tt.path ||
				!slices.Equal(m.Facts.HeaderFrom, []string{"Scanner@campus.test"}) || m.Facts.FromFault != "" {
				t.Errorf("envelope %+v, facts %+v", m.Env, m.Facts)
			}
		})
	}
	c := r.dial(device)
	c.say("EHLO prn", "250")
	c.say("MAIL FROM:<>", "250") // the device's own reports stay reports
	c.say("RCPT TO:<anna@campus.test>", "250")
	if m := r.kept(c, "From: <scanner@campus.test>\r\n\r\n"); !m.Env.ReversePath.IsNull() || m.Facts.GivenPath != "" {
		t.Errorf("null path became %v, given %q", m.Env.ReversePath, m.Facts.GivenPath)
	}
	other := r.begin(campus, "anna@campus.test") // others have no such thing
	if m := r.kept(other, message); len(m.Quirks) > 0 || !strings.HasSuffix(m.content, message) {
		t.Errorf("quirks %v of another host", m.Quirks)
	}
}

// A device that knows no domain has it added to whatever it addresses.
func TestQuirkDomain(t *testing.T) {
	r := adapted(t, registry.Quirks{Domain: "campus.test"})
	c := r.dial(device)
	c.say("EHLO prn", "250")
	c.say("MAIL FROM:<scanner>", "250")
	c.say("RCPT TO:<anna>", "250")
	c.say("RCPT TO:<anna@campus.test>", "250") // the same
	c.say("RCPT TO:<x@example.test>", "250")
	m := r.kept(c, "From: \"Floor 3\" <scanner>\r\n\r\nbody\r\n")
	if got, want := quirks(m), []string{"reverse-path was scanner", "recipient was anna", `from was "Floor 3" <scanner>`, hidden}; !slices.Equal(got, want) {
		t.Errorf("quirks %q, want %q", got, want)
	}
	if m.Env.ReversePath.String() != "scanner@campus.test" || len(m.Env.Recipients) != 2 || m.Env.Recipients[0].Original != "anna" || m.Env.Recipients[1].Original != "" {
		t.Errorf("envelope %+v", m.Env)
	}
	if !strings.Contains(m.content, "\r\nFrom: <scanner@campus.test>\r\nX-Original-From: \"Floor 3\" <scanner>\r\n") || m.Facts.FromFault != "" {
		t.Errorf("content %q, fault %q", m.content, m.Facts.FromFault)
	}
	other := r.dial(campus)
	other.say("EHLO x", "250")
	other.say("MAIL FROM:<scanner>", "501 5.1.7 ") // nobody else
}

func TestQuirkRepairNewlines(t *testing.T) {
	r := adapted(t, registry.Quirks{RepairNewlines: true})
	c := r.begin(device, "x@example.test")
	m := r.kept(c, "From: <prn@campus.test>\nSubject: a\r\n\r\none\rtwo\x00\r\n")
	if !strings.HasSuffix(m.content, "From: <prn@campus.test>\r\nSubject: a\r\n\r\none\r\ntwo\r\n") {
		t.Errorf("stored %q", m.content)
	}
	if got, want := quirks(m), []string{"repair-newlines: 3", hidden}; !slices.Equal(got, want) {
		t.Errorf("quirks %q, want %q", got, want)
	}
	r.change(func(d *registry.Device) { d.Quirks.RepairNewlines = false })
	timetest.Await(t, "newlines are no longer repaired", func() bool { // on the open session
		c.envelope("x@example.test")
		return strings.HasPrefix(c.data("From: <prn@campus.test>\n\r\n"), "550 5.6.0 ")
	})
}

// S8: the device's own limit holds, and counts what comes over the wire but the
// dots of transparency (RFC 1870 §5). Above the limit of all as well.
func TestDeviceSize(t *testing.T) {
	const limit = 5_000_000
	for _, all := range []config.Size{1_000_000, 20_000_000} {
		t.Run(fmt.Sprint(all), func(t *testing.T) {
			r := start(t, func(c *config.Config) { c.Limits.MessageSize = all })
			r.change(func(d *registry.Device) { d.Limits.Size = limit })
			probe := r.dial(device)
			timetest.Await(t, "EHLO shows the limit", func() bool {
				return strings.Contains(probe.ask("EHLO probe"), fmt.Sprintf("SIZE %d\n", limit))
			})
			probe.say("MAIL FROM:<prn@campus.test> SIZE=5000001", "552 5.3.4 ")
			probe.say("MAIL FROM:<prn@campus.test> SIZE=5000000", "250")
			probe.say("RSET", "250")
			other := r.dial(campus)
			if got := other.say("EHLO x", "250"); !strings.Contains(got, fmt.Sprintf("SIZE %d\n", all)) {
				t.Errorf("another host is told %q", got)
			}
			for _, n := range []int{limit - 1, limit, limit + 1} {
				content := sized(n)
				c := r.begin(device, "x@example.test")
				got := c.data(content)
				if n > limit {
					if !strings.HasPrefix(got, "552 5.3.4 ") {
						t.Errorf("%d octets: %q", n, got)
					}
					continue
				}
				id := c.queued(got)
				if m := r.stored()[id]; m.Facts.Size != int64(n) || !strings.HasSuffix(m.content, content) {
					t.Errorf("size %d of %d in the facts", m.Facts.Size, n)
				}
			}
			for _, e := range r.refusals() {
				if e.Rule != "size" {
					t.Errorf("refusal by rule %s at %s: %s", e.Rule, e.Stage, e.Reply)
				}
			}
		})
	}
}

// sized is a content of n octets with lines that begin with dots.
func sized(n int) string {
	line := "." + strings.Repeat("x", 97) + "\r\n"
	header := "From: <prn@campus.test>\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n"
	rest := n - len(header)
	return header + strings.Repeat(line, rest/len(line)-1) + strings.Repeat("y", rest%len(line)+len(line)-2) + "\r\n"
}

// A device's own number of recipients holds above that of all, too.
func TestDeviceRecipients(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Limits.Recipients = 2 })
	r.change(func(d *registry.Device) { d.Limits.Recipients = 3 })
	c := r.dial(device)
	timetest.Await(t, "EHLO shows the limit", func() bool { return strings.Contains(c.ask("EHLO probe"), "LIMITS RCPTMAX=3\n") })
	c.envelope("a@example.test", "b@example.test", "c@example.test")
	c.say("RCPT TO:<d@example.test>", "452 4.5.3 ")
	other := r.begin(campus, "a@campus.test", "b@campus.test")
	other.say("RCPT TO:<c@campus.test>", "452 4.5.3 ")
}

// S9: the 100th message of a session is accepted, the 101st is told to come
// again in another one, and nothing is lost.
func TestS9_MessagesPerSession(t *testing.T) {
	r := start(t)
	r.change(func(d *registry.Device) { d.Limits.Session = 100; d.Quirks.HideEHLO = []string{"CHUNKING"} })
	c := r.dial(device)
	timetest.Await(t, "the limit holds", func() bool { return !strings.Contains(c.ask("EHLO probe"), "CHUNKING") })
	for range 100 {
		c.envelope("x@example.test")
		c.queued(c.data(message))
	}
	c.say("MAIL FROM:<prn@campus.test>", "421 4.7.0 ")
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the session goes on after 421")
	}
	c = r.begin(device, "x@example.test")
	c.queued(c.data(message))
	if n := len(r.stored()); n != 101 {
		t.Errorf("%d messages stored, want 101", n)
	}
}

// W24: "&" is accepted and shown nowhere, or refused by name; both are counted.
func TestW24_Ampersand(t *testing.T) {
	r := start(t)
	c := r.dial(campus)
	if got := c.say("EHLO a&b<c", "250"); strings.ContainsAny(got, "&<") {
		t.Errorf("EHLO is answered %q", got)
	}
	c.envelope("anna@campus.test")
	m := r.kept(c, message)
	if !strings.HasPrefix(m.content, "Received: from a?b?c ([127.0.0.1])") || m.Facts.Helo != "a&b<c" {
		t.Errorf("content %.60q, facts %+v", m.content, m.Facts)
	}
	if n := r.counted("postrider_ingress_helo_ampersands_total"); n != 1 {
		t.Errorf("%v of them counted, want 1", n)
	}

	r = start(t, func(c *config.Config) { c.Policy.HeloAmpersand = "enforce" })
	c = r.dial(campus)
	got := c.say("EHLO a&b", "501 5.5.2 ")
	if !strings.Contains(got, `"&"`) {
		t.Errorf("reply %q does not name the character", got)
	}
	ref, err := mail.ParseRef(strings.Fields(got)[2])
	if err != nil {
		t.Fatal(err)
	}
	c.say("HELO a&b", "501 5.5.2 ")
	c.say("EHLO a_b", "250")
	c.envelope("anna@campus.test")
	c.queued(c.data(message))
	if n := r.counted("postrider_ingress_helo_ampersands_total"); n != 2 {
		t.Errorf("%v of them counted, want 2", n)
	}
	if e := r.refusals()[ref]; e == nil || e.Rule != "helo" || strings.Contains(e.Reason, "a&b") || !strings.Contains(e.Reason, "a?b") {
		t.Errorf("evidence %+v", e)
	}
}
