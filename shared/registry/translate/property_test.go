package translate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// rule is one line of an access list of the test: a range in order.
type rule struct {
	r      netip.Prefix
	not    bool
	answer string // OK, REJECT, DUNNO
}

// server is a Postfix of the test, answered line by line for one address.
type server struct {
	networks  []rule // mynetworks
	client    []rule // a CIDR table
	keys      []rule // a table by key: octets
	relay     []rule // a CIDR table of smtpd_relay_restrictions
	closed    bool   // strangers get nothing
	clientEnd string // what ends smtpd_client_restrictions
}

func first(list []rule, a netip.Addr) string {
	for _, l := range list {
		if l.r.Contains(a) != l.not {
			return l.answer
		}
	}
	return ""
}

func (s *server) mine(a netip.Addr) bool {
	for _, l := range s.networks {
		if l.r.Contains(a) {
			return !l.not
		}
	}
	return false
}

// key is the answer of the longest key.
func (s *server) key(a netip.Addr) string {
	answer, bits := "", -1
	for _, l := range s.keys {
		if l.r.Contains(a) && l.r.Bits() > bits {
			answer, bits = l.answer, l.r.Bits()
		}
	}
	return answer
}

// takes is the answer to one address.
func (s *server) takes(a netip.Addr, hosted bool) bool {
	client := s.key(a)
	if client == "" || client == "DUNNO" {
		client = first(s.client, a)
	}
	if client == "REJECT" || client != "OK" && s.clientEnd == "reject" && !s.mine(a) {
		return false
	}
	if s.mine(a) {
		return true
	}
	switch first(s.relay, a) {
	case "OK":
		return true
	case "REJECT":
		return false
	}
	return hosted && !s.closed
}

func (s *server) files() map[string]string {
	table := func(list []rule) string {
		w := &strings.Builder{}
		for _, l := range list {
			fmt.Fprintf(w, "%s%s %s\n", map[bool]string{true: "!"}[l.not], l.r, l.answer)
		}
		return w.String()
	}
	keys := &strings.Builder{}
	for _, l := range s.keys {
		fmt.Fprintf(keys, "%s %s\n", keyOf(l.r), l.answer)
	}
	networks := &strings.Builder{}
	for _, l := range s.networks {
		fmt.Fprintf(networks, "%s%s ", map[bool]string{true: "!"}[l.not], l.r)
	}
	end := "reject_unauth_destination"
	if s.closed {
		end = "reject"
	}
	client := "hash:keys cidr:client"
	if s.clientEnd == "reject" {
		client += " permit_mynetworks reject"
	}
	return map[string]string{
		"main.cf": "relay_domains = campus.test\nmydomain = campus.test\nmynetworks = " + networks.String() + "\nsmtpd_client_restrictions = " + client +
			"\nsmtpd_relay_restrictions = permit_mynetworks check_client_access cidr:relay " + end + "\n",
		"master.cf": "smtp inet n - y - - smtpd\n", "client": table(s.client), "relay": table(s.relay), "keys": keys.String(),
	}
}

// random is a server whose ranges lie in 10.0.0.0/27 and around, so that they meet.
func random(r *rand.Rand) *server {
	list := func(n int, answers ...string) (out []rule) {
		for range r.IntN(n) {
			p, _ := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(32))}).Prefix([]int{8, 24, 27, 28, 29, 30, 31, 32, 32, 32}[r.IntN(10)])
			out = append(out, rule{p, r.IntN(8) == 0, answers[r.IntN(len(answers))]})
		}
		return out
	}
	s := &server{networks: list(6, "x"), client: list(6, "OK", "REJECT", "DUNNO"), relay: list(6, "OK", "REJECT", "DUNNO"), closed: r.IntN(2) == 0}
	if r.IntN(3) == 0 {
		s.clientEnd = "reject"
	}
	seen := map[netip.Prefix]bool{}
	for _, l := range list(5, "OK", "REJECT", "DUNNO") {
		p, _ := l.r.Addr().Prefix([]int{8, 16, 24, 32, 32, 32}[r.IntN(6)])
		if !seen[p] {
			seen[p] = true
			s.keys = append(s.keys, rule{p, false, l.answer})
		}
	}
	return s
}

// TestSameAnswers: for any lists, every address gets here what it gets there, or a
// row says that it does not.
func TestSameAnswers(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2026))
	answers, listed := 0, 0
	for n := range 3000 {
		s := random(r)
		result, err := Postfix(directory(s.files()), Options{})
		if err != nil {
			t.Fatal(err)
		}
		snapshot := registry.NewSnapshot(1, result.Entries)
		for i := range 40 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if i >= 34 {
				a = netip.AddrFrom4([4]byte{byte(5 + i - 34), 1, 2, 3})
			}
			for _, hosted := range []bool{true, false} {
				want, got := s.takes(a, hosted), admits(snapshot, a, hosted)
				answers++
				if want == got {
					continue
				}
				if !concerned(result, a) {
					t.Fatalf("%d: %s, hosted %v: %v there, %v here, and no row says so\n%v\n%s", n, a, hosted, want, got, s.files(), printed(result))
				}
				listed++
				if got && !want {
					t.Fatalf("%d: %s, hosted %v: admitted here only\n%v\n%s", n, a, hosted, s.files(), printed(result))
				}
			}
		}
	}
	t.Logf("%d answers, %d of them different and in the list", answers, listed)
	if listed*4 > answers {
		t.Errorf("%d of %d answers differ", listed, answers)
	}
}

func admits(snapshot *registry.Snapshot, a netip.Addr, hosted bool) bool {
	domain := map[bool]string{true: "campus.test", false: "inet.test"}[hosted]
	address, err := smtp.ParseAddress("someone@" + domain)
	if err != nil {
		panic(err)
	}
	path := smtp.ForwardPath{Address: address}
	return authz.Decide(&authz.Rules{HostedFromCampus: authz.Enforce}, snapshot, &authz.Facts{
		Address: a, ReversePath: smtp.ReversePath{Address: address}, Recipient: &path, At: time.Unix(1, 0),
	}).Admitted()
}

func concerned(r *Result, a netip.Addr) bool {
	_, registered := registry.NewSnapshot(1, r.Entries).ByAddress(a)
	for _, l := range r.Untranslated() {
		p, err := netip.ParsePrefix(l.Concerns)
		if err == nil && p.Contains(a) || l.Concerns == Unnamed && !registered {
			return true
		}
	}
	return false
}
