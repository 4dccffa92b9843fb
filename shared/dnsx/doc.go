// Package dnsx is the resolver of Postrider: what mail asks of the DNS, with
// every answer checked, and the two conclusions mail draws from it: the hosts
// that take the mail of a domain, and the confirmed name of a client.
//
// It consumes one or more recursive resolvers. A [Resolver] guarantees:
//
//   - Every answer is one of three things: records, a definite no
//     ([ErrNotExist], [ErrNoData]), or a [*TemporaryError]. A broken, lame or
//     silent server is never taken for a no, because a no returns mail to its
//     sender.
//   - A reply counts only with the ID and the question of its query (RFC 5452
//     §9.1), and a record only if it belongs to the name that was asked or to
//     the end of its CNAME chain, which has at most 8 links. Other records are
//     ignored.
//   - A truncated reply is asked again over TCP (RFC 7766 §5). Queries announce
//     1232 octets (RFC 6891), leave from a fresh port, and fail over from
//     server to server.
//   - The end of a caller's context ends its wait at once. The query itself
//     goes on, bounded, for others who wait for the same answer and for the
//     cache.
//   - Memory is bounded: the cache by octets, queries under way by number. An
//     answer is kept for its TTL, not under 5 seconds nor over 1 hour; a
//     definite no for the TTL of its SOA, at most 5 minutes (RFC 2308 §5); a
//     failure for 5 seconds (RFC 9520). When the servers fail, MX records are
//     served up to 1 hour past their end, marked Stale (RFC 8767).
//   - Names of internationalised domains are asked as A-labels (RFC 5890). What
//     is no host name, in a question or in the data of an MX or PTR record,
//     does not pass.
//
// Authentic says that a validating resolver vouched for an answer (AD, RFC 6840
// §5.8). It is believed only of a server that Config names by a loopback
// address: nobody can speak in its place. The system's own resolvers are never
// believed. SERVFAIL of a believed server may be its verdict on forged data:
// no other server is asked to overrule it. Believed servers are asked before
// the others; one that is silent is replaced by the next, so whoever depends on
// Authentic lists believed servers only.
//
// Standards: RFC 1034, 1035, 2181, 2308, 5321 §5, 5452, 5890, 6761 §6.3, 6840,
// 6891, 7505, 7766, 8767, 8914, 9520.
//
// Limits: no DNSSEC validation of its own, no search domains, no /etc/hosts,
// no DNS over TLS. A server that rejects EDNS is no server for it.
package dnsx
