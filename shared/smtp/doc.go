// Package smtp holds the words of the Simple Mail Transfer Protocol that every
// service speaks: replies, errors that carry a reply, and the paths of an
// envelope. It performs no I/O and imports the standard library only.
//
// Standards: RFC 5321 (SMTP), RFC 3463 and RFC 5248 (enhanced status codes),
// RFC 6531 (internationalised addresses, recognised and marked, not converted).
//
// Two rules hold everywhere:
//
//   - An [Error] speaks about the mail. A permanent one may return the message
//     to its sender. Every other Go error is our own trouble: it delays the
//     message and never bounces it.
//   - Reply.Text is for the peer: short, generic, and free of host names,
//     files, rules and keys. Error.Err is for the log, exact.
package smtp
