package acceptance

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/books"
)

// probe is an address trick. What it reaches is empty where it must be refused,
// and otherwise the one recipient that the server of the hosted domains gets to
// see, octet for octet.
type probe struct{ name, rcpt, reaches string }

var probes = []probe{
	{"plain", "<x@inet.test>", ""},
	{"no brackets", "x@inet.test", ""},
	{"percent hack without hosted domain", "<x%inet.test@outside.test>", ""},
	{"percent hack", "<x%inet.test@campus.test>", ""},
	{"percent hack twice", "<x%inet.test%campus.test@campus.test>", ""},
	{"percent hack through the relay's name", "<x%inet.test@relay.campus.test>", ""},
	{"percent hack through the relay's address", "<x%inet.test@[127.0.0.1]>", ""},
	{"percent without domain", "<x%inet.test>", ""},
	{"bang path", "<inet.test!x>", ""},
	{"bang path at a hosted domain", "<inet.test!x@campus.test>", ""},
	{"bang path through the relay's name", "<inet.test!x@relay.campus.test>", ""},
	{"bang path of two", "<campus.test!inet.test!x>", ""},
	{"quoted address at a hosted domain", `<"x@inet.test"@campus.test>`, ""},
	{"quoted address without domain", `<"x@inet.test">`, ""},
	{"quoted percent", `<"x%inet.test"@campus.test>`, ""},
	{"quoted percent without domain", `<"x%inet.test">`, ""},
	{"quoted local part outside", `<"x y"@inet.test>`, ""},
	{"quoted pair", `<"x\@inet.test"@campus.test>`, ""},
	{"quote in the domain", `<x@"inet.test">`, ""},
	{"quote never closed", `<"x@inet.test@campus.test>`, ""},
	{"source route outwards", "<@campus.test:x@inet.test>", ""},
	{"source route through the relay", "<@relay.campus.test:x@inet.test>", ""},
	{"source route through its address", "<@[127.0.0.1]:x@inet.test>", ""},
	{"source route of two", "<@campus.test,@chem.campus.test:x@inet.test>", ""},
	{"source route inwards is ignored", "<@inet.test:anna@campus.test>", "anna@campus.test"},
	{"source route without recipient", "<@campus.test:>", ""},
	{"two at signs, hosted last", "<x@inet.test@campus.test>", ""},
	{"two at signs, hosted first", "<x@campus.test@inet.test>", ""},
	{"address literal", "<x@[127.0.0.67]>", ""},
	{"address literal of a hosted domain's server", "<x@[127.0.0.2]>", ""},
	{"address literal of the relay", "<x@[127.0.0.1]>", ""},
	{"address without brackets", "<x@127.0.0.67>", ""},
	{"address as a number", "<x@#2130706499>", ""},
	{"address as a bare number", "<x@2130706499>", ""},
	{"IPv6 literal", "<x@[IPv6:::1]>", ""},
	{"IPv6 literal that maps IPv4", "<x@[IPv6:::ffff:127.0.0.67]>", ""},
	{"the same in hexadecimal", "<x@[IPv6:::ffff:7f00:43]>", ""},
	{"the same without its tag", "<x@[::ffff:127.0.0.67]>", ""},
	{"literal never closed", "<x@[127.0.0.67>", ""},
	{"literal with zone", "<x@[IPv6:fe80::1%eth0]>", ""},
	{"trailing dot outside", "<x@inet.test.>", ""},
	{"trailing dot of a hosted domain", "<anna@campus.test.>", "anna@campus.test"},
	{"two trailing dots", "<x@campus.test..>", ""},
	{"leading dot", "<x@.campus.test>", ""},
	{"mixed case outside", "<x@InEt.TeSt>", ""},
	{"mixed case of a hosted domain", "<Anna@CamPus.TEST>", "Anna@campus.test"},
	{"NUL before the domain", "<x@inet.test\x00@campus.test>", ""},
	{"NUL in the domain", "<x@campus.test\x00.inet.test>", ""},
	{"NUL behind the domain", "<x@inet.test\x00.campus.test>", ""},
	{"bare CR", "<x@campus.test\r@inet.test>", ""},
	{"tab", "<x@campus.test\t@inet.test>", ""},
	{"UTF-8 local part", "<jörg@campus.test>", ""},
	{"UTF-8 domain", "<x@bücher.test>", ""},
	{"fullwidth full stop", "<x@campus\uff0etest>", ""},
	{"fullwidth at sign", "<x\uff20inet.test@campus.test>", ""},
	{"letters that look alike", "<x@c\u0430mpus.test>", ""},
	{"invalid UTF-8", "<x@inet\xff.test>", ""},
	{"A-label outside", "<x@xn--bcher-kva.test>", ""},
	{"empty", "", ""},
	{"null path", "<>", ""},
	{"empty local part", "<@campus.test>", ""},
	{"quoted space at a hosted domain", `<"x y"@campus.test>`, `"x y"@campus.test`},
	{"route of a registration at a hosted domain", "<x%campus.test@chem.campus.test>", ""},
	{"quoted empty local part", `<""@campus.test>`, ""},
	{"empty domain", "<x@>", ""},
	{"local part alone", "<x>", ""},
	{"trailing dot behind a label of dots", "<x@campus.test.inet.test.>", ""},
	{"underscore in the domain", "<x@_campus.test>", ""},
	{"underscore outside", "<x@a_b.inet.test>", ""},
	{"hyphen before a hosted domain", "<x@-campus.test>", ""},
	{"A-label that looks like a hosted domain", "<x@xn--cmpus-0ve.test>", ""},
	{"hosted domain as a label in upper case", "<x@CAMPUS.TEST.INET.TEST>", ""},
	{"ideographic full stop", "<x@campus\u3002test>", ""},
	{"zero-width space", "<x@campus\u200b.test>", ""},
	{"soft hyphen", "<x@cam\u00adpus.test>", ""},
	{"long s", "<x@campu\u017f.test>", ""},
	{"Kelvin sign in the local part", "<\u212a@campus.test>", ""},
	{"source route that ends in a literal", "<@campus.test:x@[127.0.0.67]>", ""},
	{"source route with quotes", `<@campus.test:"x@inet.test"@inet.test>`, ""},
	{"source route without at sign", "<campus.test:x@inet.test>", ""},
	{"source route of a percent", "<@relay.campus.test:x%inet.test@campus.test>", ""},
	{"source routes one in the other", "<@campus.test:@chem.campus.test:x@inet.test>", ""},
	{"colon without at sign before", "<anna@campus.test:x@inet.test>", ""},
	{"IPv4 literal in octal", "<x@[0177.0.0.103]>", ""},
	{"IPv4 literal in hexadecimal", "<x@[0x7f000043]>", ""},
	{"IPv4 literal of fewer parts", "<x@[127.67]>", ""},
	{"IPv4 literal with a port", "<x@[127.0.0.67:25]>", ""},
	{"IPv4 literal with a network", "<x@[127.0.0.67/8]>", ""},
	{"IPv4 literal with spaces", "<x@[ 127.0.0.67 ]>", ""},
	{"IPv6 literal, compatible", "<x@[IPv6:::127.0.0.67]>", ""},
	{"IPv6 literal, NAT64", "<x@[IPv6:64:ff9b::7f00:43]>", ""},
	{"IPv6 literal in full", "<x@[IPv6:0000:0000:0000:0000:0000:ffff:7f00:0043]>", ""},
	{"tag of a literal in lower case", "<x@[ipv6:::1]>", ""},
	{"literal of another tag", "<x@[X400:c=us]>", ""},
	{"literal of a name", "<x@[campus.test]>", ""},
	{"empty literal", "<x@[]>", ""},
	{"literal behind a hosted domain", "<x@campus.test[127.0.0.67]>", ""},
	{"address in reverse, as a name", "<x@67.0.0.127.in-addr.arpa>", ""},
	{"quoted pair of an at sign outside", `<x\@campus.test@inet.test>`, ""},
	{"quoted, then more", `<"x"@campus.test@inet.test>`, ""},
	{"quoted, with a CR", "<\"x\r\"@campus.test>", ""},
	{"quoted, with a tab", "<\"x\t\"@campus.test>", ""},
	{"quoted bracket", `<"x>"@inet.test>`, ""},
	{"quoted bracket, hosted behind", `<"x@inet.test> "@campus.test>`, ""},
	{"escape", "<x\x1b[2J@campus.test>", ""},
	{"DEL", "<x\x7f@campus.test>", ""},
	{"C1 control", "<x\u0085@campus.test>", ""},
	{"octet 0xFF before the domain", "<x\xff@campus.test>", ""},
	{"no-break space", "<x\u00a0@campus.test>", ""},
	{"equals sign of VERP", "<bounce+x=inet.test@campus.test>", "bounce+x=inet.test@campus.test"},
	{"DECnet", "<host::x@inet.test>", ""},
	{"X.400", "</g=x/c=us/@inet.test>", ""},
	{"mailto", "<mailto:x@inet.test>", ""},
	{"SIZE behind RCPT", "<x@inet.test> SIZE=1", ""},
	{"parameter with an address", "<anna@campus.test> X=<x@inet.test>", ""},
	{"SMTPUTF8 behind RCPT", "<x@inet.test> SMTPUTF8", ""},
	{"very long local part", "<" + strings.Repeat("x", 65) + "@campus.test>", ""},
	{"very long domain", "<x@" + strings.Repeat("inet.", 60) + "campus.test>", ""},
	{"very long label", "<x@" + strings.Repeat("x", 64) + ".campus.test>", ""},
	{"very long line", "<x@inet.test>" + strings.Repeat(" ", 3000), ""},
	{"space in the path", "<x@inet.test @campus.test>", ""},
	{"space before the path", " <x@inet.test>", ""},
	{"spaces inside the brackets", "< x@inet.test >", ""},
	{"comment", "<x@inet.test(@campus.test)>", ""},
	{"comment before the domain", "<x(anna@campus.test)@inet.test>", ""},
	{"two addresses", "<x@inet.test>,<anna@campus.test>", ""},
	{"two addresses, hosted first", "<anna@campus.test>,<x@inet.test>", ""},
	{"two addresses in one path", "<anna@campus.test,x@inet.test>", ""},
	{"two addresses with a space", "<anna@campus.test> <x@inet.test>", ""},
	{"path in a path", "<<x@inet.test>@campus.test>", ""},
	{"name before the path", "Anna <x@inet.test>", ""},
	{"colon in the domain", "<x@inet.test:25>", ""},
	{"semicolon", "<x@inet.test;@campus.test>", ""},
	{"pipe", "<|/bin/sh@inet.test>", ""},
	{"file", "</etc/passwd@inet.test>", ""},
	{"postmaster outside", "<postmaster@inet.test>", ""},
	{"ORCPT for another", "<x@inet.test> ORCPT=rfc822;anna@campus.test", ""},
	{"unlisted subdomain", "<x@unlisted.campus.test>", ""},
	{"domain that ends alike", "<x@evilcampus.test>", ""},
	{"domain below another", "<x@campus.test.inet.test>", ""},
}

// Whatever is tried from an address that is not registered, nothing leaves for
// outside. At the sink, which is every mail exchanger there is, only what is
// for hosted domains arrives, at their own server and unchanged.
func TestX10_AddressTricks(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		for who, from := range map[string]func() string{"campus": r.stranger, "outside": func() string { return outsider }} {
			hosted := r == open() && who == "campus"
			t.Run(who+" of "+position(r), func(t *testing.T) { r.tricks(t, from, hosted) })
		}
	}
}

func position(r *relay) string {
	if r == open() {
		return "an open campus"
	}
	return "a strict one"
}

// tricks tries every probe, each in a session of its own. hosted says that the
// client may send to hosted domains.
func (r *relay) tricks(t *testing.T, from func() string, hosted bool) {
	r.play(t, attempt{name: "a registered device is served meanwhile", from: printer, want: "250"})
	before := len(r.sink.Deliveries())
	tokens := map[string]probe{}
	for _, p := range probes {
		token := r.token()
		switch got := r.knock(t, from(), p.rcpt, token); {
		case got.code >= 500 && (p.reaches == "" || !hosted):
		case got.code == 250 && p.reaches != "" && hosted:
			tokens[token] = p
		default:
			t.Errorf("%s: RCPT TO:%.100q: %s", p.name, p.rcpt, got)
		}
	}
	for token, p := range tokens {
		d := r.arrived(t, token)
		if got := recipients(d); exchanger(d) != hostedMX || len(got) != 1 || got[0] != "<"+p.reaches+">" {
			t.Errorf("%s: %s arrived at %s for %v", p.name, p.rcpt, exchanger(d), got)
		}
	}
	for _, d := range r.sink.Deliveries()[before:] {
		if _, ours := tokens[d.Field("X-Token")]; ours != (exchanger(d) == hostedMX) {
			t.Errorf("%s got mail for %v", exchanger(d), recipients(d))
		}
	}
	if want := len(r.sink.Deliveries()) - before; want != len(tokens) {
		t.Errorf("%d messages arrived, %d were accepted", want, len(tokens))
	}
	r.onlyHosted(t)
}

// knock tries one recipient, and finishes the message whatever the answer was:
// what was refused must not go either.
func (r *relay) knock(t *testing.T, from, rcpt, token string) answer {
	s := r.dial(t, r.SMTP, from)
	defer s.close()
	s.must(hello, "250")
	sender := byPrinter
	if got := s.ask("MAIL FROM:" + sender); got.code != 250 {
		return got
	}
	got := s.ask("RCPT TO:" + rcpt)
	if got.code == 421 {
		return got
	}
	if data := s.ask("DATA"); data.code != 354 {
		return got
	}
	s.write("From: prn@campus.test\r\nX-Token: " + token + "\r\n\r\nprobe\r\n.\r\n")
	if end := s.read(); end.code != got.code {
		t.Errorf("%.100q: %s at RCPT, %s at the end", rcpt, got, end)
	}
	return got
}

// onlyHosted reads in the books whom mail of nobody's was accepted for.
func (r *relay) onlyHosted(t *testing.T) {
	hosted := map[string]bool{}
	for _, d := range hostedDomains() {
		hosted[d] = true
	}
	reg, err := r.registry.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	notices := map[string]bool{} // of the relay's own, to contacts anywhere
	for _, n := range reg.Entries().Notices {
		notices[n.ID] = true
	}
	rows := 0
	err = books.Client(r.Bus).Export(t.Context(), books.Filter{}, func(row books.Row) error {
		rows++
		domain := row.Recipient[strings.LastIndexByte(row.Recipient, '@')+1:]
		if row.Device == "" && !hosted[domain] && !(row.Sender == "" && notices[row.SubmissionID]) {
			t.Errorf("accepted of nobody's: %s", row.Recipient)
		}
		return nil
	})
	if err != nil || rows == 0 {
		t.Fatalf("%d rows, %v", rows, err)
	}
}

// The same tricks in the reverse-path gain nothing either.
func TestX10_SenderTricks(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		for _, from := range []string{
			"<>", "<postmaster@campus.test>", "<prn@relay.campus.test>", "<x@[127.0.0.1]>", "<x@localhost>", "<@campus.test:prn@campus.test>",
			"<someone@inet.test>", `<"prn@campus.test"@campus.test>`, "<x%inet.test@campus.test>", "prn@campus.test",
		} {
			for _, client := range []string{r.stranger(), outsider} {
				a := attempt{from: client, mail: from, header: "From: prn@campus.test", want: "5"}
				a.complete(r)
				token := r.token()
				if got := r.try(t, a, token); !strings.HasPrefix(got, "5") {
					t.Errorf("MAIL FROM:%s from %s: %s", from, client, got)
				}
			}
		}
	}
}

// What a registered device may, nobody may in its name: not by HELO, not by the
// sender, not by the From field.
func TestX18_TrustedAddressesOnly(t *testing.T) {
	for _, r := range []*relay{open(), strict()} {
		r.play(t,
			attempt{name: "HELO of a device", helo: "EHLO prn.campus.test", want: "550 5.7.1 Not registered"},
			attempt{name: "HELO of its address", helo: "EHLO [" + printer + "]", want: "550 5.7.1 Not registered"},
			attempt{name: "HELO of the relay", helo: "EHLO relay.campus.test", from: outsider, want: "550 5.7.1 Not registered"},
			attempt{name: "its sender", mail: "<app@campus.test>", from: outsider, want: "550 5.7.1 Not registered"},
		)
	}
}

// One recipient of ours takes no stranger along.
func TestX10_HostedAndOutsideInOneMessage(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, r.stranger())
	defer s.close()
	s.must(hello, "250")
	s.must("MAIL FROM:"+byPrinter, "250")
	s.must("RCPT TO:"+inet, "550")
	s.must("RCPT TO:"+inside, "250")
	s.must("RCPT TO:<x@[127.0.0.67]>", "550")
	token := r.token()
	s.must("DATA", "354")
	s.write("From: prn@campus.test\r\nTo: someone@inet.test\r\nX-Token: " + token + "\r\n\r\nto one\r\n.\r\n")
	id := strings.TrimPrefix(s.expect("250").String(), "250 2.0.0 queued as ")
	if d := r.arrived(t, token); exchanger(d) != hostedMX || len(d.Recipients) != 1 {
		t.Errorf("at %s for %v", exchanger(d), recipients(d))
	}
	if trace := r.settled(t, id); len(trace.Recipients) != 1 || len(r.deliveries(token)) != 1 {
		t.Errorf("%d recipients in the books, %d copies", len(trace.Recipients), len(r.deliveries(token)))
	}
}

// The ports for submission serve nobody without a login, nor with a wrong one.
func TestX10_SubmissionPorts(t *testing.T) {
	r := strict()
	for _, on := range []string{r.submission, r.submissions} {
		for _, from := range []string{r.stranger(), outsider, printer} {
			for _, rcpt := range []string{inside, inet, "<x%inet.test@campus.test>"} {
				a := attempt{on: on, from: from, rcpt: rcpt}
				a.complete(r)
				if got := r.try(t, a, r.token()); !strings.HasPrefix(got, "530 5.7.0 Log in, or use port 25 from a registered address") {
					t.Errorf("from %s to %s: %s", from, rcpt, got)
				}
			}
		}
		r.play(t, attempt{name: "wrong password", on: on, login: loginService, password: "x", want: "535 5.7.8 "})
	}
}

// The server of a hosted domain trusts the relay, and may follow a route in a
// local part: only who may send anywhere has it passed on.
func TestX10_RoutesBeyondTheHostedServer(t *testing.T) {
	const onlyInside = "127.1.1.8"
	for _, rcpt := range []string{"<x%inet.test@campus.test>", "<inet.test!x@campus.test>", `<"x@inet.test"@campus.test>`} {
		open().play(t,
			attempt{name: "unregistered", rcpt: rcpt, want: "550 5.7.1 Recipient must be plain name@domain"},
			attempt{name: "scope hosted", from: onlyInside, rcpt: rcpt, want: "550 5.7.1 Recipient must be plain name@domain"},
			attempt{name: "anywhere", from: printer, rcpt: rcpt, want: "250", at: hostedMX},
		)
	}
	open().play(t, attempt{name: "other marks", rcpt: "<bounce+x=inet.test@campus.test>", want: "250", at: hostedMX})
}
