package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// A refusal begins with its reference, ends with the address of the
// explanation, fits a small display, and shows nothing of ours. What it does
// not say lies in REFUSED.
func TestRefusal(t *testing.T) {
	r := start(t)
	c := r.dial(campus)
	c.say("EHLO host.campus.test", "250")
	c.say("MAIL FROM:<prn@campus.test>", "250")
	got := c.ask("RCPT TO:<x@example.test>")
	words := strings.Fields(got)
	ref, err := mail.ParseRef(words[2])
	if err != nil || words[0] != "550" || words[1] != "5.7.1" || len(got)+2 >= 200 ||
		got != "550 5.7.1 "+string(ref)+" Not registered: 127.0.0.1. https://relay.campus.test/w/"+string(ref) {
		t.Errorf("refusal %q", got)
	}
	c.say("RCPT TO:<anna@campus.test>", "250") // the others are not concerned
	c.queued(c.data(message))
	e := r.refusals()[ref]
	if e == nil {
		t.Fatal("no evidence")
	}
	if e.Stage != "rcpt" || e.Rule != "not-registered" || e.Reason == "" || e.Count != 1 || e.Reply.Code != 550 || e.At.IsZero() ||
		e.Facts.Address != netip.MustParseAddr(campus) || e.Facts.Recipient.String() != "x@example.test" || e.Facts.Helo != "host.campus.test" {
		t.Errorf("evidence %+v", e)
	}
}

// What wire refuses has a reference, too.
func TestWireRefusal(t *testing.T) {
	r := start(t)
	c := r.dial(campus)
	got := c.ask("MAIL FROM:<a@campus.test>")
	words := strings.Fields(got)
	ref, err := mail.ParseRef(words[2])
	if err != nil || words[0] != "503" {
		t.Fatalf("got %q", got)
	}
	if e := r.refusals()[ref]; e == nil || e.Stage != "sequence" || e.Facts.Address != netip.MustParseAddr(campus) {
		t.Errorf("evidence %+v", e)
	}
}

func TestMessagesPerSession(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Limits.MessagesPerSession.Relay = 2 })
	c := r.dial(campus)
	c.say("EHLO host.campus.test", "250")
	for range 2 {
		c.envelope("anna@campus.test")
		c.queued(c.data(message))
	}
	c.say("MAIL FROM:<prn@campus.test>", "421 4.7.0 ")
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the session goes on after 421")
	}
}

// EHLO and RSET in the middle end the transaction and no more.
func TestTransactionAgain(t *testing.T) {
	r := start(t)
	c := r.begin(campus, "bert@campus.test")
	c.say("EHLO again", "250")
	c.say("MAIL FROM:<prn@campus.test>", "250")
	c.say("RSET", "250")
	c.envelope("anna@campus.test")
	c.queued(c.data(message))
	if m := r.only(); len(m.Env.Recipients) != 1 || m.Env.Recipients[0].Address.Local != "anna" || m.Facts.Helo != "again" {
		t.Errorf("envelope %+v, helo %q", m.Env, m.Facts.Helo)
	}
}

func TestRegistryChangesDuringData(t *testing.T) {
	r := start(t)
	c := r.begin(device, "x@example.test")
	c.say("DATA", "354")
	c.write("Subject: a\r\n")
	r.suspend()
	c.write("\r\nbody\r\n.\r\n")
	c.expect("550 5.7.1 ")
	if n := len(r.stored()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

func TestAuth(t *testing.T) {
	r := start(t)
	b64 := base64.StdEncoding.EncodeToString
	login := func(c *client, user, password, want string) {
		c.t.Helper()
		c.say("AUTH LOGIN", "334 VXNlcm5hbWU6")
		c.say(b64([]byte(user)), "334 UGFzc3dvcmQ6")
		c.say(b64([]byte(password)), want)
	}
	for _, a := range []struct {
		name string
		auth func(*client)
		ok   bool
	}{
		{"PLAIN", func(c *client) { c.say(plainAuth("prn", "secret"), "235 2.7.0") }, true},
		{"PLAIN, challenged", func(c *client) {
			c.say("AUTH PLAIN", "334 ")
			c.say(b64([]byte("prn\x00prn\x00secret")), "235 2.7.0")
		}, true},
		{"PLAIN, wrong", func(c *client) { c.say(plainAuth("prn", "wrong"), "535 5.7.8 ") }, false},
		{"PLAIN, unknown", func(c *client) { c.say(plainAuth("nobody", "secret"), "535 5.7.8 ") }, false},
		{"PLAIN, for another", func(c *client) {
			c.say("AUTH PLAIN "+b64([]byte("boss\x00prn\x00secret")), "535 5.7.8 ")
		}, false},
		{"PLAIN, unreadable", func(c *client) { c.say("AUTH PLAIN "+b64([]byte("no zero octets")), "501 5.5.2 ") }, false},
		{"PLAIN, empty", func(c *client) { c.say("AUTH PLAIN =", "535 5.7.8 ") }, false}, // W21
		{"PLAIN, empty answer", func(c *client) {
			c.say("AUTH PLAIN", "334 ")
			c.say("", "535 5.7.8 ")
		}, false},
		{"PLAIN, empty name and password", func(c *client) { c.say("AUTH PLAIN AAA=", "535 5.7.8 ") }, false},
		{"PLAIN, empty password", func(c *client) { c.say(plainAuth("prn", ""), "535 5.7.8 ") }, false},
		{"PLAIN, the From address", func(c *client) { c.say(plainAuth("prn@campus.test", "secret"), "535 5.7.8 ") }, false}, // S30
		{"LOGIN, empty", func(c *client) {
			c.say("AUTH LOGIN =", "334 UGFzc3dvcmQ6")
			c.say("", "535 5.7.8 ")
		}, false},
		{"LOGIN", func(c *client) { login(c, "prn", "secret", "235 2.7.0") }, true},
		{"LOGIN with the name at once", func(c *client) {
			c.say("AUTH LOGIN "+b64([]byte("prn")), "334 UGFzc3dvcmQ6")
			c.say(b64([]byte("secret")), "235 2.7.0")
		}, true},
		{"LOGIN, wrong", func(c *client) { login(c, "prn", "", "535 5.7.8 ") }, false},
		{"LOGIN, unknown", func(c *client) { login(c, "", "", "535 5.7.8 ") }, false},
		{"a mechanism that is not there", func(c *client) { c.say("AUTH CRAM-MD5", "504 5.5.4") }, false},
	} {
		t.Run(a.name, func(t *testing.T) {
			c := r.connect(campus, r.cfg.Listeners[1].Address)
			c.t = t
			c.expect("220")
			c.say("EHLO host.campus.test", "250")
			c.say(plainAuth("prn", "secret"), "538 5.7.11") // not in clear
			c.startTLS()
			a.auth(c)
			if !a.ok {
				c.say("MAIL FROM:<prn@campus.test>", "530 5.7.0 ")
				return
			}
			c.envelope("x@example.test") // the device may send anywhere
			id := c.queued(c.data(message))
			m := r.stored()[id]
			if m.Facts.Identity != "prn" || !m.Facts.Submission || m.Facts.Listener != "submission" || m.Device != "prn.campus.test" ||
				!strings.Contains(m.content, " with ESMTPSA id ") {
				t.Errorf("facts %+v of device %q", m.Facts, m.Device)
			}
		})
	}
	reasons := map[string]bool{}
	for _, e := range r.refusals() {
		if e.Stage == "auth" && e.Rule == "credentials" {
			reasons[e.Facts.Identity+" "+e.Reason] = true
		}
	}
	for _, want := range []string{
		"prn local: wrong: not a secret of credential prn", "prn local: wrong: acts for another name",
		"nobody local: unknown: no credential has that name", " local: unknown: empty user name",
	} {
		if !reasons[want] {
			t.Errorf("no evidence %q in %q", want, slices.Sorted(maps.Keys(reasons)))
		}
	}
}

func TestImplicitTLS(t *testing.T) {
	r := start(t)
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(t.Context(), "tcp", r.cfg.Listeners[2].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{t, conn, bufio.NewReader(conn)}
	c.expect("220 relay.campus.test")
	c.say("EHLO host.campus.test", "250")
	c.say(plainAuth("prn", "secret"), "235")
	c.envelope("x@example.test")
	c.queued(c.data(message))
	if m := r.only(); m.Facts.Listener != "submissions" || !strings.Contains(m.content, " with ESMTPSA id ") {
		t.Errorf("facts %+v", m.Facts)
	}
}

// The sandbox takes any loopback client with any password to anywhere.
func TestSandbox(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Sandbox = true })
	c := r.connect(campus, r.cfg.Listeners[1].Address)
	c.expect("220")
	c.say("EHLO host", "250")
	c.envelope("x@example.test") // also without AUTH
	c.queued(c.data(message))
	c.startTLS()
	c.say(plainAuth("any", "thing"), "235")
	c.envelope("y@example.test")
	id := c.queued(c.data(message))
	if m := r.stored()[id]; m.Facts.Identity == "" {
		t.Error("no identity")
	}
}

// At the stop an idle client is told so, and a busy one finishes its message.
func TestShutdown(t *testing.T) {
	r := start(t)
	idle := r.dial(campus)
	idle.say("EHLO host.campus.test", "250")
	busy := r.begin(campus, "anna@campus.test")
	busy.say("DATA", "354")
	r.stop()
	idle.expect("421 4.3.2 ")
	busy.write(message + ".\r\n")
	busy.queued(busy.reply())
	busy.expect("421 4.3.2 ")
	err := <-r.ended
	r.ended <- err
	if err != nil || len(r.stored()) != 1 {
		t.Errorf("ended with %v, %d messages", err, len(r.stored()))
	}
}

// Instances that share a bus give no id twice.
func TestInstances(t *testing.T) {
	bus := queuetest.Start(t)
	one, two := startOn(t, bus), startOn(t, bus)
	ids := map[mail.QueueID]bool{}
	for range 5 {
		ids[one.send(campus, message, "anna@campus.test")] = true
		ids[two.send(campus, message, "anna@campus.test")] = true
	}
	if len(ids) != 10 || len(one.stored()) != 10 {
		t.Errorf("%d ids, %d messages", len(ids), len(one.stored()))
	}
}

// named is a session of the device, which is registered under its name, whose
// look-up has not ended.
func named(ctx context.Context, in Ingress) (*session, chan clientName) {
	in.ctx = ctx
	answer := make(chan clientName, 1)
	s := &session{in: &in, name: answer, nameBy: time.Now().Add(nameWait)}
	s.facts = authz.Facts{Address: netip.MustParseAddr(device), NameDoubt: true}
	return s, answer
}

// A decision waits for the client's name where it hangs on it, once for all
// recipients, and nowhere else.
func TestNameIsWaitedFor(t *testing.T) {
	d := &registry.Device{
		Name: "prn.campus.test", Addresses: registry.MustAddresses(device + "/32"),
		Scope: registry.ScopeAnywhere, State: registry.StateActive,
	}
	reg := registry.NewSnapshot(1, registry.Entries{Devices: []*registry.Device{d}, Domains: []*registry.Domain{{Name: "campus.test"}}})
	in := Ingress{rules: &authz.Rules{FCrDNS: authz.Enforce}}
	decide := func(s *session, domain string) authz.Outcome {
		s.facts.Recipient = &smtp.ForwardPath{Address: smtp.Address{Local: "x", Domain: domain}}
		return s.decide(reg).Outcome
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, answer := named(t.Context(), in)
		if got := decide(s, "campus.test"); got != authz.Admit || time.Since(began) != 0 {
			t.Errorf("hosted: %s after %s", got, time.Since(began))
		}
		for range 3 {
			if got := decide(s, "example.test"); got != authz.Later || time.Since(began) != nameWait {
				t.Errorf("no answer: %s after %s", got, time.Since(began))
			}
		}
		answer <- clientName{names: []string{"other.campus.test", "PRN.campus.test."}}
		if got := decide(s, "example.test"); got != authz.Admit || time.Since(began) != nameWait || s.facts.Name != "prn.campus.test" {
			t.Errorf("late answer: %s after %s as %q", got, time.Since(began), s.facts.Name)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, answer := named(t.Context(), in)
		time.AfterFunc(time.Second, func() { answer <- clientName{names: []string{"other.campus.test."}} })
		if got := decide(s, "example.test"); got != authz.Refuse || s.facts.Name != "other.campus.test" || s.facts.NameDoubt {
			t.Errorf("another name: %s, facts %+v", got, s.facts)
		}
	})
}

// While the DNS gives no answer, its last good one counts for 72 hours (P23).
func TestLastGoodName(t *testing.T) {
	in := Ingress{rules: &authz.Rules{FCrDNS: authz.Enforce}}
	synctest.Test(t, func(t *testing.T) {
		for age, want := range map[time.Duration]authz.Outcome{time.Hour: authz.Admit, 71 * time.Hour: authz.Admit, 73 * time.Hour: authz.Later} {
			d := &registry.Device{
				Name: "prn.campus.test", Addresses: registry.MustAddresses(device + "/32"), Scope: registry.ScopeAnywhere, State: registry.StateActive,
			}
			good := time.Now().Add(-age)
			reg := registry.NewSnapshot(1, registry.Entries{Devices: []*registry.Device{d}, Resolutions: []*registry.Resolution{
				{Device: d.Name, Confirmed: map[netip.Addr]time.Time{netip.MustParseAddr(device): good}},
			}})
			s, answer := named(t.Context(), in)
			answer <- clientName{err: &dnsx.TemporaryError{}}
			s.facts.Recipient = &smtp.ForwardPath{Address: smtp.Address{Local: "x", Domain: "example.test"}}
			if got := s.decide(reg).Outcome; got != want {
				t.Errorf("%s old: %s, want %s", age, got, want)
			}
			if want == authz.Admit && !s.facts.NameAsOf.Equal(good) {
				t.Errorf("%s old: the facts say %s", age, s.facts.NameAsOf)
			}
		}
	})
}

// A verdict without a reply must not become one that says nothing.
func TestVerdictWithoutReply(t *testing.T) {
	in := &Ingress{cfg: &config.Config{}, metrics: newMetrics(prometheus.NewRegistry())}
	in.evidence = newEvidence(nil, queuetest.Log(t), in.metrics.dropped)
	s := &session{in: in}
	var answered *gosmtp.SMTPError
	err := s.refuse("rcpt", authz.Verdict{Outcome: authz.Hold, Rule: "x"})
	if !errors.As(err, &answered) || answered.Code != 451 || answered.EnhancedCode != (gosmtp.EnhancedCode{4, 3, 0}) {
		t.Errorf("got %v", err)
	}
}

// Whoever may send is not known until the registry was read after a reconnect:
// a device is told to try again, and nothing is decided by an old snapshot.
func TestRegistryBehindIsTransient(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	in := &Ingress{
		ctx: t.Context(), bus: queuetest.Start(t), cfg: config.Defaults(), rules: &authz.Rules{Sandbox: true}, metrics: m,
		registry: func() *registry.Snapshot { return registry.NewSnapshot(0, registry.Entries{}) },
		evidence: newEvidence(func(context.Context, event.Refusal) error { return nil }, queuetest.Log(t), prometheus.NewCounter(prometheus.CounterOpts{})),
	}
	in.current = func() bool { return false }
	s := &session{in: in, listener: &listener{}, facts: authz.Facts{Listener: "devices", Address: netip.MustParseAddr("127.0.0.1")}}
	err := s.Mail("prn@campus.test", nil)
	var said *gosmtp.SMTPError
	if !errors.As(err, &said) || said.Code != 451 {
		t.Errorf("got %v, want 451", err)
	}
}
