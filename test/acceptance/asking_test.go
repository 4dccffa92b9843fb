package acceptance

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// What the owner of a device can find out without asking anybody: through the
// commands, and of what happened over SMTP.

// asked registers a device of which owners ask, at addresses that no other test
// has, with a credential and one sender.
func (r *relay) asked(t *testing.T, name string, addresses ...string) (login string) {
	t.Helper()
	d := *newcomer(name+".campus.test", addresses[0], registry.StateActive)
	d.Addresses = at(addresses...)
	d.Exempt = &registry.Exemption{Reason: "old firmware", By: "postmaster", Until: time.Now().AddDate(1, 0, 0)}
	d.Senders = []string{name + "@campus.test"}
	d.Limits.Size = 5_000_000
	r.put(t, &d)
	c := credential(name+"-1", d.Name)
	r.put(t, c)
	r.awaitFrom(t, name+" is known", r.stranger(), func(s *session) bool { return s.login(c.Name, secretOf(c.Name)).code == 235 })
	return c.Name
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// handshakeFails tries TLS with a configuration that must not do.
func (s *session) handshakeFails(cfg *tls.Config) {
	s.t.Helper()
	s.must(hello, "250")
	s.must("STARTTLS", "220")
	secure := tls.Client(s.conn, cfg)
	if err := secure.HandshakeContext(s.t.Context()); err == nil {
		secure.Read(make([]byte, 1)) // TLS 1.3: the server's alert comes behind
	}
	s.close()
}

func TestS33_OwnersSeeTheirLoginFailures(t *testing.T) {
	r := strict()
	const from, elsewhere = "127.1.9.1", "127.1.9.2"
	user := r.asked(t, "logins", from)
	for _, who := range []struct{ from, user, password string }{{from, user, "guess-1"}, {elsewhere, user, "guess-2"}, {from, "somebody-else", "x"}} {
		s := r.dial(t, r.submission, who.from)
		s.login(who.user, who.password)
		s.close()
	}
	s := r.dial(t, r.SMTP, from)
	s.must(hello, "250")
	s.must("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00a\x00b")), "538")
	s.close()
	s = r.dial(t, r.SMTP, from)
	s.secured(t)
	s.must("AUTH CRAM-MD5", "504")
	s.close()
	got := r.shows(t, []string{
		"logins.campus.test (active", "535 5.7.8", "not a secret of credential " + user, "credentials: ", "somebody-else", elsewhere,
		"TLS1.3 TLS_", "538 5.7.11", "504 5.5.4", port(t, r.submission) + " submission", port(t, r.SMTP) + " devices",
	}, "explain", "logins.campus.test")
	for _, secret := range []string{"guess-", secretOf(user)} {
		if strings.Contains(got, secret) {
			t.Errorf("a password is shown:\n%s", got)
		}
	}
	// By the address alone, too: who cannot tell the name of his device asks so.
	r.shows(t, []string{"127.1.9.2 is not registered", "535 5.7.8", user}, "explain", elsewhere)
}

// secured is STARTTLS and a greeting on it.
func (s *session) secured(t *testing.T) {
	t.Helper()
	s.must(hello, "250")
	s.startTLS()
	s.must(hello, "250")
}

// The port of the last attempts, and that there were none.
func TestS34_PortOfTheLastAttempts(t *testing.T) {
	r := strict()
	const from = "127.1.9.5"
	r.asked(t, "ports", from)
	ports := map[string]string{r.SMTP: " devices", r.submission: " submission", r.submissions: " submissions"}
	for on := range ports {
		s := r.dial(t, on, from)
		s.must(hello, "250")
		s.must("MAIL FROM:<x@inet.test>", map[bool]string{true: "250", false: "530"}[on == r.SMTP])
		if on == r.SMTP {
			s.must("RCPT TO:"+inet, "550")
		}
		s.close()
	}
	var want []string
	for on, name := range ports {
		want = append(want, port(t, on)+name)
	}
	r.shows(t, want, "explain", from)
	never := "127.1.9.250"
	want = []string{"nothing seen from " + never, "relay.campus.test", "firewall"}
	for on, name := range ports {
		want = append(want, port(t, on)+" ("+strings.TrimSpace(name)+")")
	}
	r.shows(t, want, "explain", never)
}

// Version and cipher where TLS was agreed on, and in words what was wrong where
// it was not; that somebody came and left, too.
func TestS35_TLSOfTheLastAttempts(t *testing.T) {
	r := strict()
	const old, distrustful, silent, leaving, plain = "127.1.9.10", "127.1.9.11", "127.1.9.12", "127.1.9.13", "127.1.9.14"
	r.asked(t, "tls", old, distrustful, silent, leaving, plain)

	r.dial(t, r.SMTP, old).handshakeFails(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	r.shows(t, []string{"handshake", "failed", "unsupported versions: [TLS 1.1 TLS 1.0]", "closed"}, "explain", old)

	r.dial(t, r.SMTP, distrustful).handshakeFails(&tls.Config{ServerName: "relay.campus.test"})
	got := r.shows(t, []string{"handshake", "remote error: tls: bad certificate", port(t, r.SMTP) + " devices"}, "explain", distrustful)
	if ref := refIn(got); ref == "" {
		t.Errorf("no reference to ask with:\n%s", got)
	} else if said := r.ok(t, "explain", ref); !strings.Contains(said, "let it trust the issuer of the relay's certificate") {
		t.Errorf("no fix:\n%s", said)
	}

	r.dial(t, r.SMTP, silent).close()
	r.shows(t, []string{"no-mail", "the client closed the connection without a command", "in clear"}, "explain", silent)
	s := r.dial(t, r.SMTP, leaving)
	s.must(hello, "250")
	s.startTLS()
	s.close()
	r.shows(t, []string{"the client closed the connection without a command, once TLS was agreed on", "TLS1.3 TLS_"}, "explain", leaving)

	s = r.dial(t, r.SMTP, plain)
	s.secured(t)
	if got := s.send("<tls@campus.test>", "From: tls@campus.test", r.token(), inet); got.code != 250 {
		t.Fatal(got)
	}
	s.close()
	r.shows(t, []string{"accepted", "registered: device tls.campus.test", "TLS1.3 TLS_"}, "explain", plain)
	// And all of them by the device.
	r.shows(t, []string{old, distrustful, silent, leaving, plain}, "explain", "tls.campus.test")
}

// refIn is the last reference in what a command shows.
func refIn(text string) (ref string) {
	for _, word := range strings.Fields(text) {
		if _, ok := reference(word); ok {
			ref = word
		}
	}
	return ref
}

// Each fault that a registration can be about has a code or text of its own, is
// in the list of the device, and its explanation has a fix of its own.
func TestS36_EachFaultIsInTheOwnersLog(t *testing.T) {
	r := strict()
	const from, foreign = "127.1.9.20", "127.1.9.21"
	user := r.asked(t, "faults", from)
	const own, header = "<faults@campus.test>", "From: faults@campus.test"
	fixes := map[string]string{}
	for _, f := range []struct {
		attempt
		rule string
	}{
		{attempt{name: "reverse-path", mail: "<other@campus.test>", header: header, want: "550 5.7.1 Sender not allowed"}, "sender-allowed"},
		{attempt{name: "From field", mail: own, header: "From: other@campus.test", want: "550 5.7.0 From: not allowed"}, "header-from"},
		{attempt{name: "size", mail: own + " SIZE=5000001", header: header, want: "552 5.3.4 "}, "size"},
		{attempt{name: "port", on: r.submission, mail: own, want: "530 5.7.0 "}, "authentication"},
		{attempt{name: "address", from: foreign, login: user, mail: own, want: "550 5.7.1 This login is not for use from"}, "address-lock"},
		{attempt{name: "login", login: user, password: "wrong", want: "535 5.7.8 "}, "credentials"},
	} {
		f.from = map[bool]string{true: f.from, false: from}[f.from != ""]
		r.play(t, f.attempt)
		var row string
		timetest.Await(t, f.name+" is in the list", func() bool {
			got := r.ok(t, "explain", "faults.campus.test")
			for line := range strings.Lines(got) {
				if strings.Contains(line, "  "+f.rule+": ") && strings.Contains(line, strings.Join(strings.Fields(f.want)[:2], " ")) {
					row = line
				}
			}
			return row != ""
		})
		said := r.ok(t, "explain", refIn(row))
		fix := ""
		for line := range strings.Lines(said) {
			if strings.HasPrefix(line, "fix") {
				fix = line
			}
		}
		if other, known := fixes[fix]; known || fix == "" {
			t.Errorf("%s has fix %q, as %q has:\n%s", f.name, fix, other, said)
		}
		fixes[fix] = f.name
	}
}

// Who need not log in is a list with reasons and ends, and with what each sends
// by its address and by a login.
func TestX19_WhoNeedNotLogIn(t *testing.T) {
	r := strict()
	const from = "127.1.9.30"
	user := r.asked(t, "habits", from)
	for range 2 {
		r.play(t, attempt{name: "by address", from: from, mail: "<habits@campus.test>", want: "250"})
	}
	r.play(t, attempt{name: "by login", from: from, login: user, mail: "<habits@campus.test>", want: "250"})
	year := time.Now().AddDate(1, 0, 0).Format("2006-01-")
	r.shows(t, []string{"habits.campus.test,", ",yes," + year, ",old firmware,1,2,1,0,0\n"}, "device", "logins", "device:habits.*", "-o", "csv")
	all := r.ok(t, "device", "logins")
	for name, listed := range map[string]bool{"habits.campus.test": true, "prn.campus.test": true, "svc.campus.test": false, "retired.campus.test": false, "ended.campus.test": false} {
		if strings.Contains(all, "\n"+name+" ") != listed {
			t.Errorf("%s is listed: %t\n%s", name, !listed, all)
		}
	}
	if got := r.ok(t, "device", "ls", "exempt:ended"); !strings.Contains(got, "ended.campus.test") || strings.Contains(got, "habits") {
		t.Errorf("exemptions that have ended:\n%s", got)
	}
	_, trend, _ := r.command(t, "device", "logins", "device:habits.*")
	if want := "1 devices, 1 of them exempt; 0 have a credential that they do not use. In 30 days 2 messages by address and 1 by login; in the 30 days before 0 and 0."; !strings.Contains(trend, want) {
		t.Errorf("%q", trend)
	}
}

// No command shows an "&" of HELO as it came, be it in a trace, a refusal, or
// advice that has the name in it.
func TestW24_CommandsDoNotShowIt(t *testing.T) {
	r := open()
	from := r.stranger()
	s := r.dial(t, r.SMTP, from)
	s.must("EHLO prn.cam&us.test", "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	refused := s.must("RCPT TO:"+inet, "550")
	s.close()
	a := attempt{from: printer, helo: "EHLO a&b"}
	a.complete(r)
	id := strings.TrimPrefix(r.try(t, a, r.token()), "250 2.0.0 queued as ")
	r.settled(t, id)

	ref, _ := reference(refused.text)
	shown := map[string]string{
		"trace":          r.shows(t, []string{"HELO a?b"}, "trace", id),
		"trace, JSON":    r.ok(t, "trace", id, "-o", "json"),
		"explain":        r.shows(t, []string{string(ref), "prn.cam?us.test"}, "explain", string(ref)),
		"explain, JSON":  r.ok(t, "explain", string(ref), "-o", "json"),
		"explain, again": r.ok(t, "explain", from),
		"trace of it":    r.ok(t, "trace", string(ref)),
		"queue ls":       r.ok(t, "queue", "ls", id),
	}
	r = strict()
	s = r.dial(t, r.SMTP, r.stranger())
	ref, _ = reference(s.must("EHLO prn.cam&us.test", "501").text)
	s.close()
	shown["explain of the refusal"] = r.shows(t, []string{"rule helo", "prn.cam?us.test"}, "explain", string(ref))
	stdout, _, _ := r.command(t, "check", "accept", "--from-ip", printer, "--helo", "a&b", "--mail-from", "prn@campus.test", "--rcpt", "x@inet.test")
	shown["check accept"] = stdout
	for name, text := range shown {
		for _, word := range []string{"a&b", "cam&us"} {
			if strings.Contains(text, word) {
				t.Errorf("%s shows %s:\n%s", name, word, text)
			}
		}
	}
	if !strings.Contains(stdout, "501 5.5.2") || !strings.Contains(stdout, "a?b") {
		t.Errorf("check accept:\n%s", stdout)
	}
}

// The postmaster can be written to, with or without a domain, by whom nothing
// else is admitted of (RFC 5321 §4.5.1); refusals and explanations name whom to ask.
func TestM27_PostmasterAndHelpDesk(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		for _, from := range []string{r.stranger(), outsider, printer} {
			for _, rcpt := range []string{"<postmaster>", "<PostMaster>", "<postmaster@relay.campus.test>", "<desk@campus.test>"} {
				s := r.dial(t, r.SMTP, from)
				s.must(hello, "250")
				token := r.token()
				if got := s.send(byPrinter, "From: prn@campus.test", token, rcpt); got.code != 250 {
					t.Errorf("%s from %s: %s", rcpt, from, got)
				} else if d := r.arrived(t, token); exchanger(d) != hostedMX || recipients(d)[0] != "<desk@campus.test>" {
					t.Errorf("%s arrived at %s for %v", rcpt, exchanger(d), recipients(d))
				}
				s.close()
			}
		}
		s := r.dial(t, r.SMTP, outsider)
		s.must(hello, "250")
		s.must("MAIL FROM:"+byPrinter, "250")
		for _, rcpt := range []string{"<postmaster@inet.test>", "<desk@inet.test>", "<postmaster%inet.test@relay.campus.test>", "<Desk@campus.test>"} {
			s.must("RCPT TO:"+rcpt, "550")
		}
		refused := s.must("RCPT TO:"+inet, "550")
		s.close()
		ref, _ := reference(refused.text)
		if !strings.HasSuffix(refused.text, " https://relay.campus.test/w/"+string(ref)) {
			t.Errorf("no link: %s", refused)
		}
		r.shows(t, []string{"https://relay.campus.test\n", "desk@campus.test\n"}, "explain", string(ref))
	}
}

// Who must log in is told so, with the other way out where there is one, and
// where to read on.
func TestX14_BothWaysOut(t *testing.T) {
	r := strict()
	for want, a := range map[string]attempt{
		"530 5.7.0 Log in, or use port 25 from a registered address: ": {on: r.submission},
		"550 5.7.1 Log in, or get an exemption: ":                      {from: "127.1.1.9"},
	} {
		a.complete(r)
		s := r.dial(t, a.on, a.from)
		s.must(hello, "250")
		got := s.ask("MAIL FROM:" + a.mail)
		if got.code == 250 {
			got = s.ask("RCPT TO:" + a.rcpt)
		}
		s.close()
		ref, _ := reference(got.text)
		if !strings.HasPrefix(got.String(), want+a.from) || !strings.HasSuffix(got.text, " https://relay.campus.test/w/"+string(ref)) {
			t.Errorf("%d %s, want %s", got.code, got.text, want)
		}
		r.shows(t, []string{"fix", "uthenticat"}, "explain", string(ref))
	}
}
