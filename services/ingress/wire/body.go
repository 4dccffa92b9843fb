package wire

import (
	"math"

	"github.com/postrider/postrider/shared/smtp"
)

// beginBody starts a body after go-smtp said 354: by DATA (content) or BDAT
// (chunks).
func (c *Conn) beginBody(m mode) {
	c.mode = m
	c.feeding, c.told = true, false
	c.body = framer{chunked: m == chunks, repair: c.repair, limit: c.limit}
	c.chunking = m == chunks
	c.link.clock = clock{body: true, busy: true}
}

// readContent feeds the session a piece of a body by DATA.
func (c *Conn) readContent(p []byte) (int, error) {
	if len(p) < frameRoom {
		return c.readSmall(p)
	}
	for c.body.state != ended {
		if err := c.tellFault(); err != nil {
			return 0, err
		}
		octets, err := c.link.more()
		if err != nil {
			return 0, c.lost(err)
		}
		n, used := c.body.frame(p, octets)
		c.link.in.Discard(used)
		if c.overflows(0) {
			return 0, c.cutOff()
		}
		if n > 0 {
			return n, nil
		}
	}
	if err := c.tellFault(); err != nil {
		return 0, err
	}
	c.endBody()
	return 0, nil
}

// readSmall serves a reader with hardly any room.
func (c *Conn) readSmall(p []byte) (int, error) {
	var piece [2 * frameRoom]byte
	n, err := c.Read(piece[:])
	c.line = append(c.line[:0], piece[:n]...)
	n = copy(p, c.line)
	c.input = c.line[n:]
	return n, err
}

// tellFault returns the fault of the body to the session, once: a session that
// forgets to ask must not take a part for the whole. go-smtp then reads on to
// the end and discards, unless it was discarding already: then it stops, and
// answers early.
func (c *Conn) tellFault() error {
	if c.body.fault == nil || c.told {
		return nil
	}
	c.told = true
	return c.body.fault
}

// endBody gives go-smtp the end of the body, which it cannot mistake: the line
// before it is complete and contains no CR.
func (c *Conn) endBody() {
	c.mode, c.feeding = commands, false
	c.link.clock.body = false
	c.asked = askedContent
	if c.body.fault == errAborted {
		c.asked = askedAbort
	}
	if c.early != nil { // it waits for a command
		c.reply, c.early = c.early, nil
		return
	}
	c.line = c.line[:0]
	if c.body.open {
		c.line = append(c.line, crlf...)
	}
	c.line = append(c.line, ".\r\n"...)
	c.input = c.line
}

// overflows reports that a body, or one with octets more, is too big to be
// drained for the sake of a reply in its place.
func (c *Conn) overflows(octets int64) bool {
	return octets > drainBound(c.body.limit)-c.body.seen
}

// drainBound is how much of a body is drained.
func drainBound(limit int64) int64 {
	if limit > math.MaxInt64/drainFactor {
		return math.MaxInt64
	}
	return drainFactor * limit
}

// cutOff ends a session whose body will not end.
func (c *Conn) cutOff() error {
	if c.body.fault == nil {
		c.body.fault = smtp.Refuse(smtp.ReplyTooBig, errTooBig)
	}
	kind := KindSyntax
	r := smtp.ReplyOf(c.body.fault, smtp.ReplyTooBig)
	if r == smtp.ReplyTooBig {
		kind = KindSize
	}
	c.refuseAndHangUp(kind, r, errTooBig, true)
	return c.body.fault
}
