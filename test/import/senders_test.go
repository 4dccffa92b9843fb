//go:build estate

package estate

import (
	"fmt"
	"strings"
)

// sender is one of the estate.
type sender struct {
	kind    string
	address string
	from    string
	to      []string
	// wild: what makes a difference may concern everybody, so that the list need
	// not name this sender.
	wild bool
	// unnamed: nothing that is imported speaks about its address.
	unnamed bool
}

// The recipients that every sender asks for.
var recipients = []string{"someone@campus.test", "someone@inet.test"}

const regular = "device@campus.test"

// estate is what is known of the senders, as the files of a Postfix have it.
type estate struct {
	senders []sender
	files   map[string]*strings.Builder
	// anywhere and hosted are the ranges of the Exchange connectors that say the
	// same, where they can.
	anywhere, hosted []string
}

// shapes are the kinds of senders. Each makes the n-th of its kind.
var shapes = []func(e *estate, n int){
	func(e *estate, n int) { // one address among mynetworks, with its name
		s := e.add("single", at(16, n), regular)
		e.line("networks.cidr", "# prn-%d.chem.campus.test\n%s/32 x", n, s.address)
		e.anywhere = append(e.anywhere, s.address)
	},
	func(e *estate, n int) { // in the range of mynetworks
		e.anywhere = append(e.anywhere, e.add("range", at(20, n), regular).address)
	},
	func(e *estate, n int) { // taken out of the range
		e.hosted = append(e.hosted, e.add("excluded", at(21, n), regular).address)
	},
	func(e *estate, n int) { // admitted by an access table
		s := e.add("relay access", at(24, n), regular)
		e.line("relay_access", "%s OK", s.address)
		e.anywhere = append(e.anywhere, s.address)
	},
	func(e *estate, n int) { // refused, though within mynetworks
		e.line("client_access", "%s REJECT it prints spam", e.add("refused", at(25, n), regular).address)
	},
	func(e *estate, n int) { // in a range refused by its first octets
		e.add("refused range", at(26, n), regular)
	},
	func(e *estate, n int) { // excepted from that
		s := e.add("excepted", at(26, 5000+n), regular)
		e.line("client_access", "%s DUNNO", s.address)
		e.anywhere = append(e.anywhere, s.address)
	},
	func(e *estate, n int) { // the first line of a CIDR table decides, not the most specific
		s := e.add("first of two", at(28, n), regular)
		answer := []string{"OK", "REJECT", "DUNNO", "550 5.7.1 no"}[n%4]
		e.line("client.cidr", "%s %s", s.address, answer)
		if n%3 == 0 { // a wider line behind it
			e.line("client.cidr", "%s/31 %s", even(s.address), []string{"REJECT", "OK"}[n%2])
		}
	},
	func(e *estate, n int) { // nobody knows it
		e.add("unknown", at(32, n), regular).unnamed = true
	},
	func(e *estate, n int) { // a refused sender at a good address
		e.add("refused sender", at(20, 10000+n), fmt.Sprintf("spammer-%d@evil.test", n%50))
	},
	func(e *estate, n int) { // a refused domain, and its subdomains
		e.add("refused domain", at(20, 20000+n), []string{"x@bad.example", "x@sub.bad.example", "x@excepted.bad.test", "x@bad.test"}[n%4])
	},
	func(e *estate, n int) { // an address that anybody can write admits a stranger
		e.add("admitted sender", at(33, n), "boss@partner.test").unnamed = true
	},
	func(e *estate, n int) { // a restriction class, and a plain regular expression
		e.add("class", at(34, n), regular)
	},
	func(e *estate, n int) { // a pattern that is no range
		e.add("pattern", fmt.Sprintf("127.36.%d.%d", n/200, n%200+1), regular).wild = true
	},
	func(e *estate, n int) { // a recipient that is refused to all
		e.add("recipient", at(20, 30000+n), regular).to = []string{"closed@campus.test", "someone@sub.campus.test", "someone@inet.test"}
	},
}

// at is the n-th address of 127.second.0.0/16 and what follows.
func at(second, n int) string {
	return fmt.Sprintf("127.%d.%d.%d", second, n/250, n%250+1)
}

func even(address string) string {
	var a, b, c, d int
	fmt.Sscanf(address, "%d.%d.%d.%d", &a, &b, &c, &d)
	return fmt.Sprintf("%d.%d.%d.%d", a, b, c, d&^1)
}

func (e *estate) add(kind, address, from string) *sender {
	e.senders = append(e.senders, sender{kind: kind, address: address, from: from, to: recipients})
	return &e.senders[len(e.senders)-1]
}

func (e *estate) line(file, format string, args ...any) {
	if e.files[file] == nil {
		e.files[file] = &strings.Builder{}
	}
	fmt.Fprintf(e.files[file], format+"\n", args...)
}

// newEstate makes one of n senders.
func newEstate(n int) *estate {
	e := &estate{files: map[string]*strings.Builder{}}
	e.line("client_access", "127.26 REJECT a range of strangers\n127.34.0 labs\n127.34.1 labs\nnamed.campus.test OK")
	for i := range 50 {
		e.line("sender_access", "spammer-%d@evil.test REJECT", i)
	}
	e.line("sender_access", "bad.example REJECT\nbad.test REJECT\nx@excepted.bad.test DUNNO\nboss@partner.test OK")
	e.line("recipient_access", "closed@campus.test REJECT closed")
	e.line("client.regexp", `/^127\.34\.0\.7$/ REJECT`)
	e.line("client.regexp", `/^127\.36\..*5$/ REJECT`)
	e.line("relay_domains", "campus.test x\npartner.test x")
	e.line("transport", "partner.test smtp:[127.0.0.1]:9\n* smtp:[127.0.0.1]:9")
	e.line("tls_policy", "health.test encrypt")
	for i := range n {
		shapes[i%len(shapes)](e, i/len(shapes))
	}
	e.line("client.cidr", "127.28.0.0/16 DUNNO\n127.29.0.0/16 REJECT")
	return e
}
