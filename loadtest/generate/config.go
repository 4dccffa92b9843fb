// Package generate is the device's side of a load test: many connections that
// submit messages to a relay and write down, for each of them, what was said
// and what was answered. It is one of the three witnesses (see package
// journal) and shares no code with the product: its SMTP client is its own.
//
// Every attempt to submit has a token, unique over all runs, which stands in
// the X-Ledger field, in the Message-ID (<token@load.test>) and in the local
// part of each recipient: u1+token@domain, or 550+token@domain for one that
// the sink will refuse. Who is bad, and the text of the messages, follow from
// the seed; the tokens do not.
//
// A line goes to the journal before the final dot of each message and another
// after its reply. If the journal cannot be written the run ends, before the
// dot.
//
// The load is closed: each connection waits for one answer before it sends
// the next message, as a device does. Latency is that of one transaction, from
// the first octet of MAIL to the reply to the dot, over the messages that were
// accepted. The time to connect and to negotiate TLS is not in it.
//
// RFC 5321, RFC 2920 (PIPELINING, used when offered), RFC 1870 (SIZE), RFC
// 3207 (STARTTLS; the certificate is not verified, since this measures and
// keeps no secret). Limits: no AUTH, no 8-bit content, replies of at most 100
// lines of 8 KiB.
package generate

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Config says what load to make.
type Config struct {
	// Server is the host and port of the relay.
	Server string
	// Messages to submit in all, and recipients of each.
	Messages   int
	Recipients int
	// Bad is the chance, from 0 to 1, of a recipient being one that the
	// sink refuses.
	Bad float64
	// Connections that submit side by side.
	Connections int
	// Size of each message in octets: header and body without dot-stuffing
	// (RFC 1870 §5). Exact.
	Size int
	// PerConnection is how many messages a connection carries before it is
	// closed and opened again; 0 for no end.
	PerConnection int
	// Seed decides which recipients are bad, their domains, and the text.
	Seed uint64
	// Domains of the recipients.
	Domains []string
	// Sender is the reverse-path; empty is the null one.
	Sender string
	// Helo is the name given in EHLO.
	Helo string
	// StartTLS demands TLS; a relay that does not offer it is an error.
	StartTLS bool
	// Pipelining uses that extension when the relay offers it.
	Pipelining bool
	// Retries is how often a message is submitted again, under a new token,
	// after a transient refusal or a lost connection.
	Retries int
	// Backoff is the wait before the first retry, doubled for each further
	// one up to 5 s. Default: 100 ms.
	Backoff time.Duration
	// Think is the wait of a connection between an answer and the next
	// message, so that a load lasts.
	Think time.Duration
	// Rate is how many messages per second fall due, over all connections; 0:
	// no end. What is late is submitted at once.
	Rate float64
	// Timeout bounds each step of the dialogue. Default: 60 s.
	Timeout time.Duration
	// Grace bounds what is left of a transaction when the run is stopped.
	// Default: 5 s.
	Grace time.Duration
	// Run is the first part of every token. Default: 8 random letters.
	Run string
}

const (
	maxBackoff = 5 * time.Second
	// So many commands and their replies fit the buffers of a socket, which
	// a pipeline needs (RFC 2920 §3.1).
	maxRecipients = 1000
	maxSize       = 1 << 30
)

// Validate reports the first setting that makes no sense.
func (c Config) Validate() error {
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{c.Server == "", "server: no address"},
		{c.Messages < 1, "messages: less than 1"},
		{c.Recipients < 1 || c.Recipients > maxRecipients, fmt.Sprintf("recipients: not within 1 to %d", maxRecipients)},
		{!(c.Bad >= 0 && c.Bad <= 1), "bad: not within 0 to 1"},
		{c.Connections < 1, "connections: less than 1"},
		{c.Size < 1 || c.Size > maxSize, fmt.Sprintf("size: not within 1 to %d octets", maxSize)},
		{c.PerConnection < 0, "per connection: negative"},
		{c.Retries < 0, "retries: negative"},
		{c.Think < 0, "think: negative"},
		{!(c.Rate >= 0), "rate: negative"},
		{len(c.Domains) == 0, "domain: none given"},
		{strings.ContainsAny(c.Sender+c.Helo+strings.Join(c.Domains, ""), "\r\n<> "), "an address or name contains a space, bracket or line break"},
	} {
		if rule.broken {
			return errors.New(rule.text)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Backoff <= 0 {
		c.Backoff = 100 * time.Millisecond
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	if c.Grace <= 0 {
		c.Grace = 5 * time.Second
	}
	if c.Helo == "" {
		c.Helo = "load.test"
	}
	if c.Run == "" {
		c.Run = newRun()
	}
	return c
}
