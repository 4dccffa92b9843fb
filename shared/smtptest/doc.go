// Package smtptest is the far end of a delivery: an MX that does what the
// recipient address tells it, the stores it keeps mail in, a certificate
// authority for it, and transcripts that play one side of a conversation.
//
// It serves three masters: the tests of the delivery service, the load sink
// cmd/mxsink, and the built-in mailbox of the sandbox ("postrider up"). It is
// written on raw sockets because it has to misbehave on the wire. It is a test
// kit: it must not face a network that is not trusted.
//
// # What it speaks
//
// SMTP (RFC 5321) or LMTP (RFC 2033), with PIPELINING (RFC 2920), CHUNKING
// (RFC 3030, without BINARYMIME), 8BITMIME (RFC 6152), SIZE (RFC 1870),
// ENHANCEDSTATUSCODES (RFC 2034), SMTPUTF8 (RFC 6531), STARTTLS (RFC 3207) or
// implicit TLS (RFC 8314), and AUTH PLAIN and LOGIN (RFC 4954). Each keyword can
// be hidden; what is not offered is refused when used, so that a client that
// does not look at the EHLO reply fails here and not at a stranger's.
//
// It is strict: a command line ends with CR LF, a path has angle brackets, only
// CR LF "." CR LF ends the content (a bare LF is content like any other octet),
// and nothing may follow STARTTLS in the clear.
//
// # What it guarantees
//
//   - Content is kept octet for octet, without the dots of transparency (RFC
//     5321 §4.5.2) and with nothing added.
//   - The store has the message before the final 250 is written. The store is
//     asked to commit exactly once for every message whose end was seen and
//     that was not refused.
//   - [Delivery.Acknowledged] false means that the sender cannot know: the end
//     of the content was seen and no reply was written.
//   - A refused message is not stored. A message cut off before its end is not
//     stored.
//   - [MX.Run] ends when its context ends, after every session has ended.
//
// # The grammar of a recipient
//
// A local part that is not in the grammar is delivered: a mailbox called
// data-entry works. Everything from the first "+" on is a detail that never
// changes the behaviour, letter case does not matter, and the domain is free.
//
//	anything@             delivered
//	CODE@ CODE-E.S.D@     that reply to RCPT, as 450@ or 550-5.1.1@; 421 also closes
//	data-CODE@            that reply after the dot, as data-451@ or data-554-5.7.1@
//	predata-CODE@         that reply to DATA (or to the first BDAT)
//	content-CODE@         that reply in the middle of the content, then closes
//	drop@                 closes the connection at RCPT
//	drop-data@            closes it after 354 in the middle of the content
//	drop-after-dot@       takes and stores all of the content, closes without a reply
//	tarpit-DURATION@      every reply from RCPT to the end of the transaction is that late
//	trickle-DURATION@     the same, for every octet of a reply
//	pause-DURATION@       only the reply to RCPT is late; data-pause-60s@ only the final one
//	content-pause-30s@    stops reading in the middle of the content for that long
//	greylist@             the same as once-451-4.7.1@
//	once-X@ twice-X@ first-N-X@   X for the first N attempts, then delivered,
//	                      as twice-450@, once-data-451@, once-drop-after-dot@
//	mail-X as the sender  X at MAIL, as mail-450@ or once-mail-drop@ in the reverse-path
//
// CODE is 25z, 354, 4yz or 5yz. Without a status the reply has X.0.0; the class
// of a status is always that of its code. A DURATION is Go's, up to 1h. Attempts
// are counted per recipient (with its detail) and reverse-path, after the dot
// per recipient and Message-ID; the counters start again after 1,048,576 of them.
//
// With several recipients, the first that asks for something after the dot
// decides for the message, as SMTP has one final reply; over LMTP each decides
// for itself. [Options.At] applies the same actions to a stage for every client.
//
// # Limits
//
// Command lines have at most 12,288 octets (RFC 4954 §4), a header section is
// looked at up to 256 KiB. Nothing is synced to disk. A tarpitted session does
// not notice that its peer has gone until the delay is over. A drop while the
// client still sends may reach it as a reset, which can destroy replies that it
// has not read.
package smtptest

// Grammar is the grammar of a recipient as it is shown to people, one line for
// each behaviour. The package comment has the same lines.
const Grammar = `anything@             delivered
CODE@ CODE-E.S.D@     that reply to RCPT, as 450@ or 550-5.1.1@; 421 also closes
data-CODE@            that reply after the dot, as data-451@ or data-554-5.7.1@
predata-CODE@         that reply to DATA (or to the first BDAT)
content-CODE@         that reply in the middle of the content, then closes
drop@                 closes the connection at RCPT
drop-data@            closes it after 354 in the middle of the content
drop-after-dot@       takes and stores all of the content, closes without a reply
tarpit-DURATION@      every reply from RCPT to the end of the transaction is that late
trickle-DURATION@     the same, for every octet of a reply
pause-DURATION@       only the reply to RCPT is late; data-pause-60s@ only the final one
content-pause-30s@    stops reading in the middle of the content for that long
greylist@             the same as once-451-4.7.1@
once-X@ twice-X@ first-N-X@   X for the first N attempts, then delivered,
                      as twice-450@, once-data-451@, once-drop-after-dot@
mail-X as the sender  X at MAIL, as mail-450@ or once-mail-drop@ in the reverse-path
`
