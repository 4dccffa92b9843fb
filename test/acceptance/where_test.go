package acceptance

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/registry"
)

// Where mail may go: hosted domains from the campus, anywhere for who is
// registered.

func TestP1_DevicesThatCannotAuthenticate(t *testing.T) {
	open().play(t,
		attempt{name: "to anywhere", from: printer, want: "250"},
		attempt{name: "to a hosted domain", from: printer, rcpt: inside, want: "250", at: hostedMX},
	)
}

func TestP4_HostedByRouteAndOthersByMX(t *testing.T) {
	r := open()
	r.play(t,
		attempt{name: "hosted", from: printer, rcpt: "<x@journal01.test>", want: "250", at: hostedMX},
		attempt{name: "MX", from: printer, want: "250"},
		attempt{name: "address without MX", from: printer, rcpt: "<x@address.test>", want: "250"},
	)
}

func TestP5_NextMXWhenOneDoesNotAnswer(t *testing.T) {
	open().play(t, attempt{name: "preferred one is down", from: printer, rcpt: "<x@failover.test>", want: "250"})
}

// The 44 domains in one session of one campus address.
func TestP8_HostedDomainsFromTheCampus(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	domains := hostedDomains()
	if len(domains) != 44 {
		t.Fatalf("%d hosted domains", len(domains))
	}
	for _, d := range domains {
		s.must("RCPT TO:<x@"+d+">", "250")
	}
	s.must("RCPT TO:<x@unlisted.test>", "550")
	s.must("RSET", "250")
	r.play(t, attempt{name: "arrives", rcpt: "<x@dept30.campus.test>", want: "250", at: hostedMX})
}

// The list is data: it changes while the relay runs, in a session that is open.
func TestP9_HostedListChangesLive(t *testing.T) {
	r := open()
	const outlying = "RCPT TO:<x@wwbp.example.test>"
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	s.must(outlying, "550")
	domain := &registry.Domain{Name: "wwbp.example.test"}
	asked := func(code int) func(*session) bool {
		return func(s *session) bool {
			s.must(hello, "250")
			s.must("MAIL FROM:"+byPrinter, "250")
			return s.ask(outlying).code == code
		}
	}
	r.put(t, domain)
	from := r.stranger()
	r.awaitFrom(t, "the domain to be hosted", from, asked(250))
	s.must(outlying, "250")
	r.remove(t, domain)
	r.awaitFrom(t, "the domain to be gone", from, asked(550))
	s.must(outlying, "550")
}

func TestP10_SubdomainsAreListedOneByOne(t *testing.T) {
	open().play(t,
		attempt{name: "listed", rcpt: "<x@campus.test>", want: "250", at: hostedMX},
		attempt{name: "listed below one that is listed", rcpt: "<x@net.isc.campus.test>", want: "250", at: hostedMX},
		attempt{name: "unlisted", rcpt: "<x@unlisted.campus.test>", want: "550 5.7.1 Not registered: 127.1."},
		attempt{name: "unlisted below a listed one", rcpt: "<x@a.net.isc.campus.test>", want: "550 5.7.1 "},
		attempt{name: "a name that ends alike", rcpt: "<x@notcampus.test>", want: "550 5.7.1 "},
		attempt{name: "letter case", rcpt: "<x@CAMPUS.TEST>", want: "550", from: outsider},
	)
}

// Who is refused is told the address that was seen and where to register it
// (P15, X13), and nothing else.
func TestP11_AnywhereOnlyForRegisteredDevices(t *testing.T) {
	r := open()
	r.play(t, attempt{name: "registered", from: printer, want: "250"})
	from := r.stranger()
	s := r.dial(t, r.SMTP, from)
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	got := s.must("RCPT TO:"+inet, "550")
	ref, _ := reference(got.text)
	if want := "5.7.1 " + string(ref) + " Not registered: " + from + ". https://relay.campus.test/w/" + string(ref); got.text != want {
		t.Errorf("got %q, want %q", got.text, want)
	}
}

func TestW1_OnlyTheCampus(t *testing.T) {
	open().play(t,
		attempt{name: "outside to outside", from: outsider, want: "550 5.7.1 Not registered: " + outsider},
		attempt{name: "outside to hosted", from: outsider, rcpt: inside, want: "550 5.7.1 Not registered: " + outsider},
		attempt{name: "authenticated from outside", from: outsider, login: loginService, on: open().submission, want: "250"},
	)
}

// No recipient was made known before.
func TestW6_RecipientsNobodyListed(t *testing.T) {
	r := open()
	r.play(t, attempt{name: "new domain", from: printer, rcpt: "<" + r.token() + "@" + r.token() + ".test>", want: "250"})
}

// M5 against P8: one switch, both positions.
func TestM5_ApprovedAddressesOnly(t *testing.T) {
	open().play(t, attempt{name: "campus is served", rcpt: inside, want: "250", at: hostedMX})
	for _, d := range []string{"campus.test", "net.isc.campus.test", "journal01.test", "inet.test"} {
		strict().play(t, attempt{name: "only approved addresses: " + d, rcpt: "<x@" + d + ">", want: "550 5.7.1 Not registered: 127.1."})
	}
	strict().play(t, attempt{name: "an approved one", from: printer, rcpt: inside, want: "250", at: hostedMX})
}

func TestX22_PrinterWithoutLoginOrTLS(t *testing.T) {
	r := open()
	for _, to := range []attempt{{rcpt: inside, at: hostedMX}, {rcpt: inet, at: outsideMX}} {
		to.complete(r)
		token := r.token()
		to.from, to.helo = printer, "HELO prn"
		if got := r.try(t, to, token); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		if d := r.arrived(t, token); exchanger(d) != to.at || !strings.Contains(string(d.Header), "with SMTP ") {
			t.Errorf("at %s:\n%s", exchanger(d), d.Header)
		}
	}
}

// A registration may be for hosted recipients only.
func TestX1_HostedScope(t *testing.T) {
	open().play(t,
		attempt{name: "hosted", from: "127.1.1.8", rcpt: inside, want: "250", at: hostedMX},
		attempt{name: "outside", from: "127.1.1.8", want: "550 5.7.1 May send to our own domains only: 127.1.1.8"},
	)
	strict().play(t,
		attempt{name: "hosted, strict", from: "127.1.1.8", rcpt: inside, want: "250", at: hostedMX},
		attempt{name: "outside, strict", from: "127.1.1.8", want: "550 5.7.1 May send to our own domains only: 127.1.1.8"},
	)
}

// The three ways in which mail reaches a relay: to hosted recipients without
// login, with a login on the submission port, and from a trusted address.
func TestX11_ThreeWays(t *testing.T) {
	r := open()
	r.play(t,
		attempt{name: "direct, hosted only", rcpt: inside, want: "250", at: hostedMX},
		attempt{name: "direct, outside", want: "550"},
		attempt{name: "submission with login", from: outsider, on: r.submission, login: loginService, want: "250"},
		attempt{name: "submission without", from: printer, on: r.submission, want: "530 5.7.0 Log in, or use port 25 from a registered address"},
		attempt{name: "trusted address", from: printer, want: "250"},
	)
}
