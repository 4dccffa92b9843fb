package acceptance

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/smtp"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/registry"
)

// Who may send: names in the DNS, networks, credentials.

// The matrix of names is decided for mail beyond the hosted domains. Each row
// names the device by what is wrong with it.
func TestP22_ForwardConfirmedName(t *testing.T) {
	r := open()
	r.play(t,
		attempt{name: "both directions match", from: printer, want: "250"},
		attempt{name: "no PTR", from: "127.1.1.3", want: "550 5.7.25 DNS name is not as registered: 127.1.1.3"},
		attempt{name: "PTR is another", from: "127.1.1.4", want: "550 5.7.25 DNS name is not as registered: 127.1.1.4"},
		attempt{name: "no address behind the PTR", from: "127.1.1.5", want: "550 5.7.25 DNS name is not as registered: 127.1.1.5"},
		attempt{name: "one of several PTRs", from: "127.1.1.6", want: "250"},
		attempt{name: "the DNS does not answer", from: "127.1.1.7", want: "451 4.7.25 Name of 127.1.1.7 cannot be checked now"},
	)
}

func TestP23_WrongNameReachesHostedDomainsOnly(t *testing.T) {
	r := open()
	for _, from := range []string{"127.1.1.3", "127.1.1.4", "127.1.1.5", "127.1.1.7"} {
		r.play(t, attempt{name: "hosted from " + from, from: from, rcpt: inside, want: "250", at: hostedMX})
	}
	r.play(t,
		attempt{name: "a registered range has no one name", from: "127.1.2.5", want: "250"},
		attempt{name: "who authenticates is known by that", from: "127.1.1.3", login: loginService, want: "250"},
	)
	for _, from := range []string{"127.1.1.3", "127.1.1.4", "127.1.1.5", "127.1.1.7"} {
		strict().play(t, attempt{name: "no FCrDNS wanted: " + from, from: from, want: "250"})
	}
}

// An address that had the right name within 72 hours keeps it while the DNS does
// not answer; one that never had it is told to come again.
func TestP23_TheLastGoodAnswerHolds(t *testing.T) {
	r := open()
	r.DNS.Fail("60.1.1.127.in-addr.arpa", dnstest.ServFail)
	t.Cleanup(func() { r.DNS.Fail("60.1.1.127.in-addr.arpa", dnstest.NoFault) })
	r.play(t,
		attempt{name: "known", from: remembered, want: "250"},
		attempt{name: "never known", from: "127.1.1.7", want: "451 4.7.25 Name of 127.1.1.7 cannot be checked now"},
	)
}

func TestP24_NATProvesNothing(t *testing.T) {
	open().play(t,
		attempt{name: "registered, not authenticated", from: nat, want: "550 5.7.1 Log in to send from " + nat},
		attempt{name: "hosted", from: nat, rcpt: inside, want: "250", at: hostedMX},
	)
	strict().play(t, attempt{name: "switched off, with an exemption", from: nat, want: "250"})
}

func TestP25_NATWithAuthentication(t *testing.T) {
	open().play(t,
		attempt{name: "unregistered", from: "127.1.30.77", want: "550 5.7.1 Log in to send from 127.1.30.77"},
		attempt{name: "authenticated", from: nat, login: loginNAT, want: "250"},
		attempt{name: "unregistered address, authenticated", from: "127.1.30.77", login: loginService, want: "250"},
	)
}

func TestP26_CloudNeedsAuthentication(t *testing.T) {
	open().play(t,
		attempt{name: "registered, not authenticated", from: cloud, want: "550 5.7.1 Log in to send from " + cloud},
		attempt{name: "authenticated", from: cloud, login: loginCloud, want: "250"},
		attempt{name: "authenticated from anywhere", from: outsider, login: loginRoaming, mail: "<roaming@campus.test>", want: "250"},
	)
	strict().play(t, attempt{name: "switched off, with an exemption", from: cloud, want: "250"})
}

// The service outside the campus is the authenticated one, and the refusal
// leads there.
func TestW36_OutsideGoesToTheAuthenticatedService(t *testing.T) {
	r := open()
	for _, from := range []string{outsider, "127.4.0.200"} {
		s := r.dial(t, r.SMTP, from)
		s.must(hello, "250")
		s.must("MAIL FROM:"+byPrinter, "250")
		if got := s.must("RCPT TO:"+inet, "550"); !strings.Contains(got.text, "Not registered: "+from+". Log in on port 587. https://relay.campus.test/w/") &&
			!strings.Contains(got.text, "Log in to send from "+from) {
			t.Errorf("%s", got.text)
		}
		s.close()
	}
	r.play(t, attempt{name: "and is served there", from: outsider, on: r.submission, login: loginService, want: "250"})
}

func TestW2_NoWorkstations(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		for _, from := range []string{workstation, "127.1.20.10", "127.1.22.1"} {
			r.play(t,
				attempt{name: "outside from " + from, from: from, want: "550 5.7.1 Log in to send from " + from},
				attempt{name: "hosted from " + from, from: from, rcpt: inside, want: "550 5.7.1 Log in to send from " + from},
			)
		}
		r.play(t, attempt{name: "who logs in is no workstation", from: workstation, login: loginService, want: "250"})
	}
}

func TestM11_NoAddressPools(t *testing.T) {
	open().play(t,
		attempt{name: "registered all the same", from: pool, want: "550 5.7.1 Log in to send from " + pool},
		attempt{name: "unregistered", from: "127.1.21.77", rcpt: inside, want: "550 5.7.1 Log in to send from 127.1.21.77"},
	)
}

func TestP32_NoHomes(t *testing.T) {
	open().play(t,
		attempt{name: "registered all the same", from: home, want: "550 5.7.1 Log in to send from " + home},
		attempt{name: "unregistered", from: "127.3.0.77", want: "550 5.7.1 Log in to send from 127.3.0.77"},
		attempt{name: "outside", from: outsider, want: "550 5.7.1 Not registered: " + outsider},
	)
}

func TestP20_ExemptionFromAuthentication(t *testing.T) {
	strict().play(t,
		attempt{name: "exempt", from: printer, want: "250"},
		attempt{name: "not exempt", from: "127.1.1.9", want: "550 5.7.1 Log in, or get an exemption: 127.1.1.9"},
		attempt{name: "exempt until the day before", from: "127.1.1.14", want: "550 5.7.1 Log in, or get an exemption: 127.1.1.14"},
		attempt{name: "hosted needs none", from: "127.1.1.9", rcpt: inside, want: "250", at: hostedMX},
	)
	open().play(t,
		attempt{name: "anonymous first", from: "127.1.1.9", want: "250"},
		attempt{name: "anonymous first, also after an exemption", from: "127.1.1.14", want: "250"},
	)
}

func TestP21_AuthenticationOnTLSOnly(t *testing.T) {
	for _, listener := range []string{open().SMTP, open().submission} {
		s := open().dial(t, listener, open().stranger())
		if got := s.must(hello, "250"); strings.Contains(got.text, "AUTH") || !strings.Contains(got.text, "STARTTLS") {
			t.Errorf("in clear: %q", got.text)
		}
		plain := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00prn-1\x00"+secretOf("prn-1")))
		if got := s.must(plain, "538"); !strings.HasPrefix(got.text, "5.7.11 ") {
			t.Errorf("in clear: %q", got.text)
		}
		s.startTLS()
		if got := s.must(hello, "250"); !strings.Contains(got.text, "AUTH PLAIN LOGIN") {
			t.Errorf("on TLS: %q", got.text)
		}
		s.must(plain, "235")
		s.close()
	}
}

// The user name is no address; it has a slash, and stays as it is.
func TestP17_UserNamesWithASlash(t *testing.T) {
	r := open()
	token := r.token()
	a := attempt{from: outsider, login: loginService}
	a.complete(r)
	got := r.try(t, a, token)
	id, queued := strings.CutPrefix(got, "250 2.0.0 queued as ")
	if !queued {
		t.Fatal(got)
	}
	r.arrived(t, token)
	if facts := r.settled(t, id).Records[0].Record.Message.Facts; facts.Identity != loginService {
		t.Errorf("the books know it as %q", facts.Identity)
	}
}

func TestS1_LoginOnThreePorts(t *testing.T) {
	r := strict()
	for name, on := range map[string]string{"relay": r.SMTP, "submission": r.submission, "submissions": r.submissions} {
		r.play(t, attempt{name: name, on: on, from: outsider, login: loginService, want: "250"})
		r.play(t, attempt{name: name + ", wrong password", on: on, from: r.stranger(), login: loginService, password: "wrong", want: "535 5.7.8 "})
	}
}

// A deployment has implicit TLS or not: without such a listener nobody answers.
func TestX12_ImplicitTLSIsAChoice(t *testing.T) {
	r := strict()
	r.play(t, attempt{name: "offered", on: r.submissions, from: outsider, login: loginService, want: "250"})
	conn, err := net.Dial("tcp", open().submissions)
	if err == nil {
		conn.Close()
		t.Error("not offered, and somebody answers")
	}
}

// The oldest version is the listener's to say: 1.2, or 1.3.
func TestS2_TLS12AndLater(t *testing.T) {
	for _, version := range []struct {
		of              uint16
		relaxed, modern bool
	}{{tls.VersionTLS10, false, false}, {tls.VersionTLS11, false, false}, {tls.VersionTLS12, true, false}, {tls.VersionTLS13, true, true}} {
		only := &tls.Config{InsecureSkipVerify: true, MinVersion: version.of, MaxVersion: version.of}
		s := open().dial(t, open().submission, open().stranger())
		s.must(hello, "250")
		s.must("STARTTLS", "220")
		if err := tls.Client(s.conn, only).HandshakeContext(t.Context()); (err == nil) != version.relaxed {
			t.Errorf("%s where 1.2 is the oldest: %v", tls.VersionName(version.of), err)
		}
		s.close()
		conn, err := net.Dial("tcp", strict().submissions)
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(conn, only).HandshakeContext(t.Context()); (err == nil) != version.modern {
			t.Errorf("%s where 1.3 is the oldest: %v", tls.VersionName(version.of), err)
		}
		conn.Close()
	}
}

// Old TLS is spoken to the networks that are named, and to no other.
func TestW25_OldTLSWhereItIsNamed(t *testing.T) {
	r := open()
	for _, from := range []string{"127.1.40.1", r.stranger()} {
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
			s := r.dial(t, r.SMTP, from)
			s.must(hello, "250")
			s.must("STARTTLS", "220")
			old := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
			if err := old.HandshakeContext(t.Context()); (err == nil) != (from == "127.1.40.1") {
				t.Errorf("%s from %s: %v", tls.VersionName(version), from, err)
			} else if err == nil {
				s.use(old)
				s.must(hello, "250")
				if a := s.send("<old@campus.test>", "From: old@campus.test", "", "<staff@campus.test>"); a.code != 250 {
					t.Errorf("%s: %d %s", tls.VersionName(version), a.code, a.text)
				}
			}
			s.close()
		}
	}
}

// A login with the address one sends as fails: that is no credential.
func TestS30_UserNameIsNotTheSender(t *testing.T) {
	open().play(t,
		attempt{name: "its sender", login: "roaming@campus.test", password: secretOf(loginRoaming), want: "535 5.7.8 "},
		attempt{name: "its device", login: "roaming.campus.test", password: secretOf(loginRoaming), want: "535 5.7.8 "},
		attempt{name: "its name", login: loginRoaming, mail: "<roaming@campus.test>", want: "250"},
	)
}

// Nobody acts for another, however good the own password is.
func TestS30_NobodyActsForAnother(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	s.must(hello, "250")
	s.startTLS()
	s.must(hello, "250")
	plain := func(authorization string) string {
		return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte(authorization+"\x00"+loginCloud+"\x00"+secretOf(loginCloud)))
	}
	s.must(plain("prn-1"), "535")
	s.must(plain(loginCloud), "235")
}

func TestS29_TwoSecretsDuringRotation(t *testing.T) {
	open().play(t,
		attempt{name: "old", from: outsider, login: loginTurned, want: "250"},
		attempt{name: "new", from: outsider, login: loginTurned, password: "the new one", want: "250"},
		attempt{name: "ended", from: open().stranger(), login: loginTurned, password: "the ended one", want: "535 5.7.8 "},
	)
}

func TestS39_OneCredentialIsStopped(t *testing.T) {
	r := open()
	r.play(t,
		attempt{name: "stopped", from: outsider, login: loginStopped, want: "535 5.7.8 Wrong user name or password"},
		attempt{name: "stopped, from the device's address", from: printer, login: loginStopped, want: "535 5.7.8 Wrong user name or password"},
		attempt{name: "another of the device", from: outsider, login: "prn-1", want: "250"},
		attempt{name: "the device by its address", from: printer, want: "250"},
	)
}

// S7 against P26: one switch, both positions.
func TestS7_AddressAndLogin(t *testing.T) {
	elsewhere := attempt{name: "login from elsewhere", from: outsider, login: loginRoaming, mail: "<roaming@campus.test>", want: "250"}
	open().play(t, elsewhere)
	elsewhere.name, elsewhere.want = "login is held to its addresses", "550 5.7.1 This login is not for use from "+outsider
	strict().play(t, elsewhere,
		attempt{name: "from its address", from: "127.1.1.23", login: loginRoaming, mail: "<roaming@campus.test>", want: "250"},
		attempt{name: "from its address without login", from: "127.1.1.23", mail: "<roaming@campus.test>", want: "550 5.7.1 Log in, or get an exemption: 127.1.1.23"},
		attempt{name: "no address is registered", from: outsider, login: loginService, want: "250"},
	)
}

func TestX21_AddressAndLoginBoth(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		r.play(t,
			attempt{name: "both", from: "127.1.1.10", login: loginBoth, want: "250"},
			attempt{name: "address alone", from: "127.1.1.10", want: "550 5.7.1 Log in to send from 127.1.1.10"},
			attempt{name: "login alone", from: outsider, login: loginBoth, want: "550 5.7.1 This login is not for use from " + outsider},
		)
	}
}

// A device that insists on logging in with nothing gets an answer and goes on.
func TestW21_UserAndPasswordLeftBlank(t *testing.T) {
	r := open()
	r.play(t, attempt{name: "no login", from: printer, want: "250"})
	s := r.dial(t, r.SMTP, printer)
	defer s.close()
	if got := s.login("", ""); got.code != 535 || !strings.HasPrefix(told(got.text), "5.7.8 Wrong user name or password") {
		t.Errorf("PLAIN: %s", got)
	}
	s.must("AUTH LOGIN", "334")
	s.must("", "334")
	if got := s.ask(""); got.code != 535 {
		t.Errorf("LOGIN: %s", got)
	}
	token := r.token()
	if got := s.send(byPrinter, "From: prn@campus.test", token, inet); got.code != 250 {
		t.Fatal(got)
	}
	r.arrived(t, token)
}

func TestW22_WithAndWithoutTLS(t *testing.T) {
	open().play(t,
		attempt{name: "in clear", from: printer, want: "250"},
		attempt{name: "TLS", from: printer, tls: true, want: "250"},
	)
}

// What any library of a programming language does is enough.
func TestW5_AnSMTPLibraryIsEnough(t *testing.T) {
	r := open()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(printer)}}
	conn, err := d.DialContext(t.Context(), "tcp", r.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "relay.campus.test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token := r.token()
	for _, step := range []error{c.StartTLS(&tls.Config{InsecureSkipVerify: true}), c.Mail("prn@campus.test"), c.Rcpt("someone@inet.test")} {
		if step != nil {
			t.Fatal(step)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("From: prn@campus.test\r\nX-Token: " + token + "\r\n\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.arrived(t, token)
}

// Devices that speak little SMTP, or a little wrong.
func TestP6_IncompleteClients(t *testing.T) {
	r := open()
	for name, lines := range map[string][]string{
		"HELO only":            {"HELO prn", "MAIL FROM:<prn@campus.test>", "RCPT TO:<x@inet.test>", "DATA"},
		"lower case":           {"helo prn", "mail from:<prn@campus.test>", "rcpt to:<x@inet.test>", "data"},
		"stray spaces":         {"HELO prn", "MAIL FROM: <prn@campus.test>", "RCPT TO: <x@inet.test> ", "DATA "},
		"no brackets":          {"EHLO prn", "MAIL FROM:prn@campus.test", "RCPT TO:x@inet.test", "DATA"},
		"HELO with no name":    {"HELO", "MAIL FROM:<prn@campus.test>", "RCPT TO:<x@inet.test>", "DATA"},
		"HELO with underscore": {"HELO scan_to_mail", "MAIL FROM:<prn@campus.test>", "RCPT TO:<x@inet.test>", "DATA"},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.dial(t, r.SMTP, printer)
			defer s.close()
			token := r.token()
			for _, line := range lines[:3] {
				s.must(line, "250")
			}
			s.must(lines[3], "354")
			s.write("From: prn@campus.test\r\nX-Token: " + token + "\r\n\r\nscan\r\n.\r\n")
			s.expect("250")
			if d := r.arrived(t, token); d.Field("Date") == "" || d.Field("Message-ID") == "" {
				t.Errorf("Date and Message-ID are missing:\n%s", d.Header)
			}
		})
	}
}

// The name is the key: nobody else can have it, and every change of the entry
// says who made it.
func TestP12_TheNameIsRegistered(t *testing.T) {
	r := open()
	d := &registry.Device{
		Name: "moved.campus.test", Owner: "chemistry-department", Addresses: at("127.1.6.1"), Scope: registry.ScopeAnywhere,
		Class: "default", State: registry.StateActive,
	}
	if err := r.DNS.Set(names(d.Name, at("127.1.6.1")[0].Range.Addr()) + names(d.Name, at("127.1.6.2")[0].Range.Addr())); err != nil {
		t.Fatal(err)
	}
	r.put(t, d)
	r.awaitSends(t, "127.1.6.1", 250)
	again := *d
	again.Revision = 0
	again.By = "someone"
	if err := r.registry.Put(t.Context(), &again); err == nil {
		t.Error("a name was registered twice")
	}
	anonymous := *d
	anonymous.By = ""
	if err := r.registry.Put(t.Context(), &anonymous); err == nil {
		t.Error("a change by nobody")
	}
	d.Addresses = at("127.1.6.2")
	r.put(t, d)
	r.awaitSends(t, "127.1.6.2", 250)
	r.awaitSends(t, "127.1.6.1", 550)
	r.remove(t, d)
	r.awaitSends(t, "127.1.6.2", 550)
}
