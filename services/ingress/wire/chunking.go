package wire

import (
	"errors"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

// chunk is the BDAT command in hand.
type chunk struct {
	size, left int64
	last       bool
}

// errAborted is the fault of a body that the client took back.
var errAborted = errors.New("message aborted by the client")

// doBdat takes the first BDAT of a message (RFC 3030 §2). go-smtp is told DATA
// and reads the chunks as one body.
func (c *Conn) doBdat(argument []byte) error {
	if err := c.takeChunk(argument); err != nil {
		return err
	}
	switch {
	case !c.mail:
		return c.dropChunk(replyMailFirst)
	case c.recipients == 0:
		return c.dropChunk(replyNoRecipients)
	}
	return c.forward(askedChunks, "DATA")
}

// takeChunk reads the argument. Where the size cannot be read, the octets that
// follow cannot be told from commands: the session ends.
func (c *Conn) takeChunk(argument []byte) error {
	words := strings.Fields(string(argument))
	last := len(words) == 2 && strings.EqualFold(words[1], "LAST")
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && !last {
		return c.refuseAndHangUp(KindSyntax, replyBdatSyntax, nil, true)
	}
	size, err := strconv.ParseUint(words[0], 10, 63)
	if err != nil {
		return c.refuseAndHangUp(KindSyntax, replyBdatSyntax, err, true)
	}
	c.chunk = chunk{size: int64(size), left: int64(size), last: last}
	return nil
}

// dropChunk drains a chunk that belongs to no message, and refuses it.
func (c *Conn) dropChunk(r smtp.Reply) error {
	if err := c.drainChunk(); err != nil {
		return err
	}
	return c.refuseOutOfOrder(r)
}

func (c *Conn) drainChunk() error {
	if c.chunk.left > drainBound(c.limit) {
		return c.refuseAndHangUp(KindSize, smtp.ReplyTooBig, errTooBig, true)
	}
	c.link.clock = clock{body: true, busy: c.mail}
	if err := c.link.discard(c.chunk.left); err != nil {
		return c.lost(err)
	}
	c.chunk.left = 0
	c.link.clock.body = false
	return nil
}

// settleChunks begins the body, with go-smtp's 354 kept from the client.
func (c *Conn) settleChunks(text []byte, code int) error {
	if code == 354 {
		c.beginBody(chunks)
		return nil
	}
	if err := c.drainChunk(); err != nil {
		return err
	}
	c.pass(text)
	if code/100 == 5 {
		return c.tallyError()
	}
	return nil
}

// readChunk feeds the session a piece of the chunk in hand; at its end it
// answers, or ends the body.
func (c *Conn) readChunk(p []byte) (int, error) {
	if c.overflows(c.chunk.left) {
		return 0, c.cutOff()
	}
	for c.chunk.left > 0 {
		if err := c.tellFault(); err != nil {
			return 0, err
		}
		octets, err := c.link.more()
		if err != nil {
			return 0, c.lost(err)
		}
		octets = octets[:min(int64(len(octets)), c.chunk.left)]
		n, used := c.body.frame(p, octets)
		c.link.in.Discard(used)
		c.chunk.left -= int64(used)
		if n > 0 {
			return n, nil
		}
	}
	if !c.chunk.last {
		c.mode = commands
		return 0, c.queue("250 2.0.0 " + strconv.FormatInt(c.chunk.size, 10) + " octets received\r\n")
	}
	n := c.body.finish(p)
	if err := c.tellFault(); err != nil || n > 0 {
		return n, err
	}
	if c.body.state == ended {
		c.endBody()
	}
	return 0, nil
}

// whileChunking takes a command between two chunks, while go-smtp's session
// waits for more of the body. What ends the transaction takes the body back
// first; the rest is answered here.
func (c *Conn) whileChunking(name verb, argument, line []byte) error {
	switch name {
	case verbBdat:
		if err := c.takeChunk(argument); err != nil {
			return err
		}
		c.mode = chunks
		c.link.clock.body = true
		return nil
	case verbRset, verbQuit, verbHelo, verbEhlo:
		c.deferred = append([]byte(nil), line...)
		c.body.fault, c.body.state = errAborted, ended
		c.mode = content // which has only its end left
		return nil
	case verbNoop:
		c.queue("250 2.0.0 OK\r\n")
		return c.tallyJunk()
	default:
		return c.refuse(KindSequence, replyBdatFirst, nil)
	}
}
