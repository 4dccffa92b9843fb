// Package traffic is the harness of a comparison: a source that submits
// messages as fast as it is answered, and a sink that counts them. Both do as
// little as they can, since they share the processors with the server they
// measure; how fast they are alone is measured with the same code, source
// straight to sink.
//
// Every message is the same but for its token, 16 octets in the Message-ID: 8
// hexadecimal digits for the run and 8 for the message. The sink knows by it
// which messages of which run have come, and that none came twice. What it
// takes must end in exactly the body that was sent, and carry as many
// DKIM-Signature fields as were announced for the run.
//
// The dialogue is that of a plain client: EHLO once per connection, then MAIL,
// RCPT, DATA and the message, each after the reply to the one before, no
// PIPELINING (RFC 2920), as printers and Postfix's smtp-source do it. The load
// is closed: a connection waits for its 250 before it submits again.
//
// Limits: one recipient, no TLS, no AUTH, 7-bit text without leading dots. The
// first reply that is not the one wanted ends the run: an overloaded server is
// asked once, and a comparison in which messages are missing is none.
package traffic

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
)

const (
	// SenderDomain is the domain of reverse-path and From, for which signers
	// need a key.
	SenderDomain = "sender.test"
	// RecipientDomain is the domain that servers must route to the sink.
	RecipientDomain = "load.test"

	reversePath = "device@" + SenderDomain
	forwardPath = "user@" + RecipientDomain

	tokenField = "\r\nMessage-ID: <"
	noToken    = "0000000000000000"
)

// Message is what every message of a run looks like.
type Message struct {
	wire []byte // from the first octet of the header to the final dot
	at   int    // where the token stands
	body []byte // after the empty line, without the final dot
}

// NewMessage makes a message of size octets, header and body, or of the
// smallest size possible if that is more.
func NewMessage(size int) Message {
	header := "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nFrom: <" + reversePath + ">\r\nTo: <" + forwardPath + ">\r\n" +
		"Subject: comparison" + tokenField + noToken + "@" + SenderDomain + ">\r\n\r\n"
	body := text(max(3, size-len(header)))
	wire := append(append([]byte(header), body...), ".\r\n"...)
	return Message{wire: wire, at: bytes.Index(wire, []byte(tokenField)) + len(tokenField), body: body}
}

// text is size octets, at least 3, of lines of at most 76 with CRLF.
func text(size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 +/"
	dice := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, 0, size)
	for len(out) < size {
		line := min(78, size-len(out))
		if left := size - len(out) - line; left > 0 && left < 3 {
			line -= 3
		}
		for range line - 2 {
			out = append(out, letters[dice.IntN(len(letters))])
		}
		out = append(out, "\r\n"...)
	}
	return out
}

// numbered returns a copy of the wire form whose token can be written anew.
func (m Message) numbered() stamped { return stamped{bytes.Clone(m.wire), m.at} }

type stamped struct {
	wire []byte
	at   int
}

func (s stamped) stamp(run, number uint32) []byte {
	copy(s.wire[s.at:], fmt.Sprintf("%08x%08x", run, number))
	return s.wire
}

// tokenOf finds run and number in a message as it arrived.
func tokenOf(data []byte) (run, number uint32, ok bool) {
	i := bytes.Index(data, []byte(tokenField))
	if i < 0 || len(data) < i+len(tokenField)+len(noToken) {
		return 0, 0, false
	}
	token, err := strconv.ParseUint(string(data[i+len(tokenField):][:len(noToken)]), 16, 64)
	return uint32(token >> 32), uint32(token), err == nil
}
