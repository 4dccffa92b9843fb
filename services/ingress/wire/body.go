package wire

import (
	"errors"
	"io"
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

// Content is the body that go-smtp passes to Session.Data as r, read past
// go-smtp: its own reader takes every octet by a function call and costs more
// than all the rest of a message. Where r is not a fresh body of this
// conversation, Content is r.
//
// A read error, the fault of a body among them, is returned by every later
// Read as well; io.EOF is the end of a complete and faultless body.
func (c *Conn) Content(r io.Reader) io.Reader {
	if !c.feeding && (c.asked == askedData || c.asked == askedChunks) {
		c.settle() // go-smtp's 354
	}
	if !c.feeding || c.body.seen > 0 {
		return r
	}
	c.body.plain = true
	return &contentReader{conn: c}
}

type contentReader struct {
	conn *Conn
	err  error
}

func (r *contentReader) Read(p []byte) (n int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	n, r.err = r.conn.pull(p, true)
	if errors.Is(r.err, io.EOF) && r.conn.feeding {
		r.err = io.ErrUnexpectedEOF // the conversation is over, the body is not
	}
	return n, r.err
}

// bodyEnd is io.EOF for a body that ended well.
func (c *Conn) bodyEnd() error {
	if c.body.fault != nil {
		return c.body.fault
	}
	if c.body.state != ended {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
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
	if errors.Is(c.body.fault, errAborted) {
		c.asked = askedAbort
	}
	if c.early != nil { // it waits for a command
		c.reply, c.early = c.early, nil
		return
	}
	c.line = c.line[:0]
	if c.body.open && !c.body.plain {
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
