package dnsx

import (
	"github.com/miekg/dns"
)

// udpSize is the size of UDP replies that pass without fragments, in octets
// (DNS flag day 2020).
const udpSize = 1232

// question is what is asked, and the key of the cache. The name is in the
// presentation form of the DNS with its last dot, in lower case.
type question struct {
	name  string
	qtype uint16
}

// newQuestion asks for a name of the user's.
func newQuestion(name string, qtype uint16) (question, error) {
	a, err := ToASCII(name)
	if err != nil {
		return question{}, err
	}
	return question{a + ".", qtype}, nil
}

// String is the question for errors and logs: "MX campus.test".
func (q question) String() string { return dns.TypeToString[q.qtype] + " " + trimDot(q.name) }

// message is the query on the wire. AD asks for the verdict of a validating
// server without the signatures (RFC 6840 §5.7).
func (q question) message() *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.AuthenticatedData = true
	m.SetEdns0(udpSize, false)
	return m
}

// matches reports that a reply is to the query (RFC 5452 §9.1). Of a reply
// whose question differs nothing is believed, its code included.
func matches(query, reply *dns.Msg) bool {
	if !reply.Response || reply.Id != query.Id || reply.Opcode != dns.OpcodeQuery || len(reply.Question) != 1 {
		return false
	}
	asked, echo := query.Question[0], reply.Question[0]
	return echo.Qtype == asked.Qtype && echo.Qclass == asked.Qclass &&
		dns.CanonicalName(echo.Name) == dns.CanonicalName(asked.Name)
}

func trimDot(name string) string {
	if len(name) > 1 && name[len(name)-1] == '.' {
		return name[:len(name)-1]
	}
	return name
}
