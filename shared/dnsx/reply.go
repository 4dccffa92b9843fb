package dnsx

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// maxChain is how many CNAMEs are followed from one name.
const maxChain = 8

var (
	errLame      = errors.New("lame: the server neither knows the name nor asks for it")
	errUnrelated = errors.New("the answer has no records of the question")
	errLoop      = errors.New("CNAME loop")
	errLongChain = fmt.Errorf("more than %d CNAMEs", maxChain)
)

// answer is what the DNS says to a question: the records, or a definite no.
type answer struct {
	// canonical is the name at the end of the CNAME chain.
	canonical string
	// records belong to canonical and have the type of the question.
	records []dns.RR
	// no is nil, ErrNotExist or ErrNoData.
	no error
	// ttl is the shortest of the chain and the records, or the negative TTL
	// of the SOA; 0 when the reply gives none.
	ttl       time.Duration
	authentic bool
}

// chain follows a question through replies until its answer is complete. A
// recursive server gives all in one reply; an authoritative one may leave the
// rest of the chain to be asked.
type chain struct {
	qtype uint16
	// names are the names passed; the last is asked next.
	names     []string
	ttl       uint32 // seconds; the shortest so far
	authentic bool
}

func newChain(q question) *chain {
	return &chain{qtype: q.qtype, names: []string{q.name}, ttl: 1<<31 - 1, authentic: true}
}

// end is the name to ask for.
func (c *chain) end() string { return c.names[len(c.names)-1] }

// read takes a sound reply to the question for end. It returns done when the
// answer is complete; otherwise end is to be asked.
func (c *chain) read(m *dns.Msg, authentic bool) (a answer, done bool, err error) {
	c.authentic = c.authentic && authentic
	from := len(c.names)
	if err := c.follow(m.Answer); err != nil {
		return answer{}, false, err
	}
	a = answer{canonical: c.end(), authentic: c.authentic}
	for _, rr := range m.Answer {
		if is(rr, c.end(), c.qtype) {
			a.records = append(a.records, rr)
			c.lower(rr.Header().Ttl)
		}
	}
	if len(a.records) > 0 {
		a.ttl = seconds(c.ttl)
		return a, true, nil
	}
	soa := soaOf(m, c.end())
	if len(c.names) > from && soa == nil && m.Rcode == dns.RcodeSuccess {
		return answer{}, false, nil
	}
	a.no = ErrNoData
	if m.Rcode == dns.RcodeNameError {
		a.no = ErrNotExist // of the last name of the chain (RFC 6604 §3)
	}
	if soa != nil {
		c.lower(min(soa.Hdr.Ttl, soa.Minttl)) // RFC 2308 §5
		a.ttl = seconds(c.ttl)
	}
	return a, true, nil
}

// follow walks the CNAMEs of an answer section, in whatever order they stand.
func (c *chain) follow(section []dns.RR) error {
	if c.qtype == dns.TypeCNAME {
		return nil
	}
	for {
		cname := cnameOf(section, c.end())
		if cname == nil {
			return nil
		}
		target := dns.CanonicalName(cname.Target)
		if slices.Contains(c.names, target) {
			return errLoop
		}
		if len(c.names) > maxChain {
			return errLongChain
		}
		c.names = append(c.names, target)
		c.lower(cname.Hdr.Ttl)
	}
}

func cnameOf(section []dns.RR, owner string) *dns.CNAME {
	for _, rr := range section {
		if is(rr, owner, dns.TypeCNAME) {
			return rr.(*dns.CNAME)
		}
	}
	return nil
}

// soaOf is the SOA of the zone that holds name, from the authority section.
func soaOf(m *dns.Msg, name string) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return soa
		}
	}
	return nil
}

func (c *chain) lower(ttl uint32) {
	if ttl > 1<<31-1 {
		ttl = 0 // RFC 2181 §8
	}
	c.ttl = min(c.ttl, ttl)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// sound judges a reply before its records are read: nil means that the server
// answered; otherwise it says how it did not.
func sound(m *dns.Msg, q question) error {
	switch {
	case m.Rcode == dns.RcodeNameError:
		return nil
	case m.Rcode != dns.RcodeSuccess:
		return &rcodeError{m.Rcode, extended(m)}
	case len(m.Answer) == 0 && isReferral(m):
		return errLame
	case len(m.Answer) > 0 && !isAbout(m, q) && soaOf(m, q.name) == nil:
		return errUnrelated
	}
	return nil
}

// isAbout reports that the answer section says something about the question.
func isAbout(m *dns.Msg, q question) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		return is(rr, q.name, q.qtype) || is(rr, q.name, dns.TypeCNAME)
	})
}

// is reports a record of that name and type. The library lets records without
// data pass (RFC 2136 has a use for them): in an answer they are nothing.
func is(rr dns.RR, name string, qtype uint16) bool {
	h := rr.Header()
	return h.Rrtype == qtype && h.Class == dns.ClassINET && h.Rdlength > 0 && dns.CanonicalName(h.Name) == name
}

// isReferral: name servers in place of an answer, or nothing from a server
// that says that it does not look for answers (RFC 2308 §2.2).
func isReferral(m *dns.Msg) bool {
	ns := false
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *dns.SOA:
			return false
		case *dns.NS:
			ns = true
		}
	}
	return !m.Authoritative && (ns || !m.RecursionAvailable)
}

// rcodeError is a code by which a server declines to answer.
type rcodeError struct {
	rcode int
	why   string
}

func (e *rcodeError) Error() string {
	name := dns.RcodeToString[e.rcode]
	if name == "" {
		name = fmt.Sprintf("RCODE %d", e.rcode)
	}
	return name + e.why
}

// extended is the server's reason (RFC 8914), for example " (DNSSEC Bogus)".
// Its free text is not repeated: it is for people, and anybody's.
func extended(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		if ede, ok := o.(*dns.EDNS0_EDE); ok {
			if text := dns.ExtendedErrorCodeToString[ede.InfoCode]; text != "" {
				return " (" + text + ")"
			}
		}
	}
	return ""
}
