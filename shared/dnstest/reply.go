package dnstest

import (
	"github.com/miekg/dns"
)

// reply answers one request; nil means silence. It blocks while the name is
// held or delayed, at most until closed.
func (s *Server) reply(network string, request *dns.Msg, closed <-chan struct{}) *dns.Msg {
	if request.Response || len(request.Question) != 1 {
		return nil
	}
	q := request.Question[0]
	name, qtype := canonical(q.Name), dns.Type(q.Qtype).String()

	s.mu.Lock()
	s.queries[query{network, name, qtype}]++
	g, delay := s.gates[name], s.delays[name]
	s.mu.Unlock()
	if !pass(g, delay, closed) {
		return nil
	}

	// What was set while the query waited holds for it.
	s.mu.Lock()
	fault, z := s.faultOf(name, qtype), s.zones
	s.mu.Unlock()

	m := new(dns.Msg).SetReply(request)
	m.Authoritative = true
	m.RecursionAvailable = true
	m.AuthenticatedData = s.authentic.Load() && understandsAD(request)
	if m = fault.apply(network, m, z, q); m == nil {
		return nil
	}
	size := dns.MinMsgSize
	if opt := request.IsEdns0(); opt != nil {
		m.SetEdns0(dns.DefaultMsgSize, opt.Do())
		size = max(size, int(opt.UDPSize()))
	}
	if network == "udp" {
		truncated := m.Truncated
		m.Truncate(size)
		m.Truncated = m.Truncated || truncated
	} else {
		m.Compress = true
	}
	return m
}

// understandsAD: RFC 6840 §5.8.
func understandsAD(request *dns.Msg) bool {
	opt := request.IsEdns0()
	return request.AuthenticatedData || opt != nil && opt.Do()
}

// apply fills the answer into m, rightly or as the fault wants it.
func (f Fault) apply(network string, m *dns.Msg, z *zones, q dns.Question) *dns.Msg {
	switch f {
	case ServFail:
		m.Rcode = dns.RcodeServerFailure
		return m
	case Refused:
		m.Rcode = dns.RcodeRefused
		return m
	case NotImplemented:
		m.Rcode = dns.RcodeNotImplemented
		return m
	case Silent:
		return nil
	case Truncated, TruncatedSilent:
		if network == "udp" {
			m.Truncated = true
			return m
		}
		if f == TruncatedSilent {
			return nil
		}
	case Lame:
		m.Authoritative, m.RecursionAvailable = false, false
		m.Ns = []dns.RR{&dns.NS{Hdr: header(".", dns.TypeNS), Ns: "a.root-servers.net."}}
		return m
	case WrongQuestion:
		m.Question = []dns.Question{{Name: "wrong." + q.Name, Qtype: q.Qtype, Qclass: q.Qclass}}
	case WrongID:
		m.Id++
	case Garbage:
		m.Answer = []dns.RR{&dns.RFC3597{Hdr: header(q.Name, q.Qtype), Rdata: "ff"}}
		return m
	}
	z.answer(m, q)
	switch f {
	case OneLink:
		m.Answer, m.Ns, m.Rcode = m.Answer[:min(len(m.Answer), 1)], nil, dns.RcodeSuccess
	case Extra:
		m.Answer = append([]dns.RR{
			&dns.CNAME{Hdr: header("poison.test.", dns.TypeCNAME), Target: q.Name},
			&dns.MX{Hdr: header("poison.test.", dns.TypeMX), Mx: "mx.poison.test."},
			&dns.A{Hdr: header("poison.test.", dns.TypeA), A: []byte{192, 0, 2, 66}},
		}, m.Answer...)
	}
	return m
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: defaultTTL}
}
