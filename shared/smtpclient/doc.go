// Package smtpclient is one SMTP or LMTP session with one server, as the
// client. It takes a connection that somebody else dialled, and sends messages
// over it whose next hop somebody else chose; it knows neither the DNS nor
// retries.
//
// # What it guarantees
//
//   - Content is sent octet for octet, apart from dot-stuffing (RFC 5321
//     §4.5.2) and a CRLF in front of the final dot where the content has none:
//     a DKIM signature survives. Content with a bare CR, a bare LF or a NUL is
//     never completed: the connection is broken off before the final dot, so
//     that no server can read a second message out of it.
//   - Content shorter or longer than Message.Size is never completed either:
//     a truncated copy does not become a delivered one.
//   - Every recipient gets exactly one outcome, see [RecipientResult]. A lost
//     reply after the final dot is [Result.Unknown], and only that.
//   - Every read and every write has a deadline (RFC 5321 §4.5.3.2), and the
//     end of the context interrupts both at once.
//   - Replies are bounded: what a hostile server sends costs at most 64 KiB.
//   - Under [Encrypt] and [Verify] nothing but EHLO (or HELO), STARTTLS and QUIT
//     is sent in clear.
//   - A session that could be out of step with its server is closed, never
//     used again: after 421, a network error, a timeout, a malformed or
//     unexpected reply, or content that was broken off. See [Session.Healthy].
//
// # Round trips
//
// With PIPELINING the envelope is one group of commands (RFC 2920) and the
// content another: two round trips for each message, whatever the number of
// recipients (groups are cut at 16 KiB, so that neither side can block the
// other). With CHUNKING beside it the content goes as one BDAT LAST (RFC 3030)
// after at least one recipient was accepted, without stuffing. RSET is sent
// only where a transaction was left open, and travels in the next group.
//
// # Errors
//
// A *smtp.Error is a verdict on mail: a reply of the server, with RemoteMTA
// set, or a refusal by this package, without: 5.3.4 (larger than the SIZE
// limit, RFC 1870), 5.6.0 (bare CR, LF or NUL), 5.6.7 and 5.6.9 (SMTPUTF8
// needed but not offered, RFC 6531), 5.1.3 and 5.1.7 (a path that cannot be
// written in a command). From [Start] it is a refusal of the session: the host
// will not talk, and says nothing about any message.
//
// A *[TLSError] says that the TLS policy could not be met, an *[AuthError]
// that the server did not take our credentials. Both carry the reply, but
// neither is a verdict on mail. Every other error is trouble of the network,
// of the server's conduct ([ErrProtocol]) or of the caller: it wraps the cause
// (context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, io.EOF,
// the error of Content or of BeforeDot) and never a *smtp.Error.
//
// # Standards
//
// RFC 5321, RFC 2033 (LMTP), RFC 1870 (SIZE), RFC 2034 (enhanced codes),
// RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 3207 (STARTTLS), RFC 8314
// (implicit TLS), RFC 3461 (DSN), RFC 4954 (AUTH, PLAIN and LOGIN), RFC 6152
// (8BITMIME), RFC 6531 (SMTPUTF8), RFC 9422 (LIMITS).
//
// # Limits
//
// 8-bit content goes unchanged to a server without 8BITMIME, because a
// conversion would break its signature (a departure from RFC 6152 §3); a caller
// who minds asks Extensions first. Lines longer than 1000 octets are not
// folded, for the same reason. Domains are not converted to A-labels. LIMITS
// are reported, not enforced. BINARYMIME is not used.
package smtpclient
