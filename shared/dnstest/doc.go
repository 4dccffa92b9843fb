// Package dnstest is an authoritative DNS server for tests: a zone as a
// literal, answers over UDP and TCP on one port of 127.0.0.1, faults by name,
// and a count of what was asked.
//
//	dns := dnstest.Start(t, `
//		campus.test     MX  10 mx.campus.test
//		mx.campus.test  A   127.0.0.1
//		off.test        MX  0 .
//	`)
//	dns.Fail("broken.test", dnstest.ServFail)
//	resolver, err := dnsx.New(dnsx.Config{Servers: []string{dns.Addr()}})
//
// Zones are master-file text (RFC 1035 §5). Names are relative to the root, so
// the last dot may be left out; the default TTL is 300 seconds; $INCLUDE is
// refused. The server is authoritative for the whole tree: without SOA records it
// answers for the root zone, and every SOA record in the text begins a zone of
// its own, whose SOA then stands in the negative answers below it.
//
// An answer follows CNAMEs as far as the text goes, expands wildcards (RFC
// 4592), tells a name that does not exist (NXDOMAIN) from one without such
// records (no data, RFC 2308 §2, empty non-terminals included), and is cut to
// the size the client announced (RFC 6891 §6.2.3) with TC set. AA and RA are
// set, so that a stub resolver takes the server for its recursive one. AD is
// set after [Server.SetAuthentic] for clients that understand it (RFC 6840
// §5.8); there are no signatures. There are no delegations: NS records are
// data.
//
// [Start] is for tests. [New] and [Listen] serve programs of several
// processes; they need no testing package. [Server.Dial] gives connections in
// memory, for code that runs inside a testing/synctest bubble: start the
// server outside of the bubble.
package dnstest
