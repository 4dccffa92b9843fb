// Package wire stands between the socket and go-smtp. It owns TLS, framing and
// line discipline, so that go-smtp sees one complete, well-formed command at a
// time and bodies that are complete and well formed, and so that a client sees
// replies that say what is true.
//
// # Shape
//
// A [Listener] wraps a net.Listener and is handed to go-smtp's Server.Serve. It
// yields [Conn] values. A Conn is pulled: go-smtp reads only after it has
// answered the previous command, so in Conn.Read the reply to that command is
// complete; it is checked, edited and queued, the next command line is taken
// from the socket, checked and repaired, and exactly that line is handed on.
// Everything happens on go-smtp's own goroutine of the connection: no locks, no
// second goroutine. Queued replies are written when, and only when, the client
// has to be waited for; a pipelined group is therefore answered in one segment
// (RFC 2920 §3.2). The reply to a message is written at once.
//
// # Guarantees
//
//   - TLS is terminated here. Octets pipelined behind STARTTLS end the session
//     (RFC 3207 §4.2, §6); so does a failed handshake; after a good one a fresh
//     go-smtp conversation begins on the same socket. AUTH is neither offered
//     nor accepted without TLS (RFC 4954 §4).
//   - A body ends at CRLF.CRLF and nowhere else (RFC 5321 §4.1.1.4). Bare CR,
//     bare LF and NUL make the body a fault: the session reads an error, the
//     rest is drained, and the session's refusal is the one reply. Where
//     [Conn.RepairNewlines] was called they are repaired instead, before
//     anything reads them.
//   - BDAT (RFC 3030) is translated to DATA. A chunk cut short, a timeout or a
//     lost connection is a read error of the session, never the end of a
//     message, and nothing that follows is read as a command.
//   - Paths reach go-smtp in canonical form. go-smtp removes the quotes of a
//     local part, so that a session must rebuild the address with
//     smtp.Unquoted and never by cutting the string.
//   - The EHLO reply lists what works on this connection and nothing else.
//   - Lines, bodies, mistakes, idle time, slowness and connections are bounded
//     by [Config]; whoever passes a bound is told in a reply before the close.
//   - [Listener.Shutdown] answers 421 to idle clients at once and to busy ones
//     after the message they are sending (RFC 5321 §3.8).
//
// # Leniency
//
// Devices are sloppy. Accepted and repaired: spaces around a command, around
// the colon of FROM: and TO: and inside the brackets; missing brackets; a
// missing HELO argument; "<postmaster>"; a local part alone where the session
// named a domain with [Conn.CompleteDomain]. A command that ends in a bare LF
// is accepted when nothing is buffered behind it, otherwise it ends the
// session: a device that types line by line works, a smuggler's text does not.
//
// # Departures and limits
//
//   - Commands and data sent before the reply to DATA end the session (RFC 2920
//     §3.1 makes DATA the last command of a group).
//   - MAIL's AUTH= parameter is checked and dropped: no client is trusted to
//     vouch for another (RFC 4954 §5 allows it).
//   - Lines of content longer than 998 octets (RFC 5321 §4.5.3.1.6) are
//     accepted; [Conn.LongestLine] tells.
//   - BINARYMIME, SMTPUTF8 and REQUIRETLS are not offered.
//   - A device that ends every line of its body, the final dot included, with a
//     bare LF never ends its message; it is answered 421 after
//     Config.DataTimeout.
package wire
