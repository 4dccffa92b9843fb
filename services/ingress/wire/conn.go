package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// errOver ends a conversation; go-smtp takes it for the client's QUIT.
var errOver = io.EOF

// Conn is one go-smtp conversation: a socket from its greeting, or from the end
// of its STARTTLS handshake, to its end. A go-smtp session finds it by
//
//	c.Conn().(*wire.Conn)
//
// All methods except Close belong to the goroutine that go-smtp runs for the
// connection.
type Conn struct {
	link *link
	over bool // nothing more is read or said in this conversation

	mode  mode
	input []byte          // for go-smtp to read
	line  []byte          // backs input
	small [frameRoom]byte // backs input for a reader with no room
	asked asked           // what go-smtp is answering
	reply []byte          // what it has answered so far

	helo          string
	extended      bool // EHLO
	greeted       bool
	heard         bool // a command line came
	authenticated bool
	mail          bool // MAIL was accepted
	mailRefused   bool // MAIL was refused: what was pipelined behind it is no fault
	recipients    int

	body     framer
	feeding  bool   // go-smtp has not been given the end of the body
	told     bool   // the session was told of body.fault
	early    []byte // go-smtp's reply to a body whose end it did not wait for
	chunking bool   // a message by BDAT is open
	chunk    chunk
	deferred []byte // the command that aborted a chunked body

	prepare func()
	repair  bool
	limit   int64
	rcpts   int // what EHLO says is the limit of recipients
	hidden  []string
	domain  string
	partial string // the last path as the client gave it, if it was completed

	closed atomic.Bool
	next   atomic.Pointer[Conn] // the conversation on TLS that follows
}

// mode is where the octets for go-smtp come from.
type mode uint8

const (
	commands   mode = iota // a command line from the client
	challenged             // its response to an AUTH challenge
	content                // the body of DATA
	chunks                 // the rest of a BDAT chunk
)

func newConn(k *link, secured bool) *Conn {
	c := &Conn{link: k, asked: askedGreeting, limit: k.listener.cfg.MaxSize, rcpts: k.listener.cfg.MaxRecipients}
	if secured {
		c.asked = askedSilence // no second greeting (RFC 3207 §4.2)
	}
	return c
}

// Read hands go-smtp its next input: one command line, or a piece of a body.
func (c *Conn) Read(p []byte) (int, error) { return c.pull(p, false) }

// pull goes on until there is something to read for go-smtp or, with direct,
// for the session that reads the body past go-smtp. What the session then did
// not want, go-smtp discards, and need not see.
func (c *Conn) pull(p []byte, direct bool) (int, error) {
	for {
		unwanted := c.feeding && c.body.plain && !direct
		switch {
		case direct && !c.feeding:
			return 0, c.bodyEnd()
		case unwanted:
			c.input = nil
		}
		if len(c.input) > 0 {
			n := copy(p, c.input)
			c.input = c.input[n:]
			return n, nil
		}
		if c.over || c.link.dead {
			return 0, errOver
		}
		if c.feeding && len(c.reply) > 0 {
			c.early, c.reply = c.reply, nil
		}
		if err := c.settle(); err != nil {
			return 0, err
		}
		room := p
		if len(p) < frameRoom {
			room = c.small[:]
		}
		n, err := c.advance(room)
		switch {
		case err != nil:
			return 0, err
		case n == 0 || unwanted:
		case len(p) < frameRoom:
			c.input = c.small[:n]
		default:
			return n, nil
		}
	}
}

// advance frames a piece of a body into p, or does something about a command.
func (c *Conn) advance(p []byte) (int, error) {
	switch c.mode {
	case content:
		return c.readContent(p)
	case chunks:
		return c.readChunk(p)
	default:
		return 0, c.nextCommand()
	}
}

// Write takes a piece of go-smtp's reply. Replies that announce the end are
// sent at once, because go-smtp closes without reading again.
func (c *Conn) Write(p []byte) (int, error) {
	if c.over || c.link.dead {
		return 0, net.ErrClosed
	}
	if !isLast(p) || c.asked == askedAbort && replyCode(p) != 421 {
		c.reply = append(c.reply, p...)
		return len(p), nil
	}
	if len(c.reply) > 0 && replyCode(c.reply) != replyCode(p) {
		c.settle() // 354, and then a session that panics
	}
	c.reply = append(c.reply, p...)
	c.pass(c.reply)
	c.hangUp(c.feeding)
	return len(p), nil
}

// isLast reports the final line of a reply after which the server closes (RFC
// 5321 §3.8, §4.2.3).
func isLast(p []byte) bool {
	code := replyCode(p)
	return (code == 221 || code == 421) && p[3] == ' '
}

// nextCommand takes the client's next command line and decides what go-smtp is
// to see of it.
func (c *Conn) nextCommand() error {
	if c.deferred != nil {
		line := c.deferred
		c.deferred = nil
		return c.dispatch(line)
	}
	k := c.link
	k.clock.body = false
	k.clock.busy = c.mail || c.chunking
	if k.listener.stopping.Load() && !k.clock.busy {
		return c.shutDown()
	}
	line, bareLF, err := k.readLine()
	c.heard = c.heard || err == nil
	switch {
	case errors.Is(err, errLineTooLong):
		if c.mode == challenged {
			return c.cancelAuth()
		}
		return c.refuse(KindSyntax, replyLineTooLong, nil)
	case err != nil:
		return c.lost(err)
	case bareLF && k.in.Buffered() > 0:
		return c.refuseAndHangUp(KindInjection, replyBareLF, nil, true)
	case c.mode == challenged:
		return c.respond(line)
	}
	return c.dispatch(line)
}

// lost ends the conversation after a read failed, with a reply where the client
// may still read one. The error it returns is never io.EOF inside a body.
func (c *Conn) lost(err error) error {
	k := c.link
	inBody := c.feeding && c.early == nil
	switch {
	case errors.Is(err, errStopping):
		c.shutDown()
	case errors.Is(err, errClientHello):
		c.refuseAndHangUp(KindTLSMismatch, replyNoTLSHere, nil, true)
	case errors.Is(err, errEndlessLine):
		c.refuseAndHangUp(KindSyntax, replyLineTooLong, err, true)
	case isTimeout(err):
		c.refuseAndHangUp(KindTimeout, smtp.ReplyTimeout, err, false)
	default:
		if alerted(err) {
			c.tell(KindHandshake, smtp.Reply{}, err)
		}
		c.left()
		c.over = true
		k.hangUp(false)
	}
	if inBody {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return errOver
}

// alerted reports a TLS alert of the client: under TLS 1.3 it rejects our
// certificate after the handshake.
func alerted(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error"
}

// shutDown says 421 and ends the conversation.
func (c *Conn) shutDown() error {
	return c.refuseAndHangUp(KindShutdown, smtp.ReplyShutdown, nil, false)
}

// hangUp sends what is queued and ends the conversation.
func (c *Conn) hangUp(linger bool) error {
	c.over = true
	c.link.hangUp(linger)
	return errOver
}

// Close ends the conversation: go-smtp calls it when it is done, possibly from
// another goroutine. After STARTTLS it passes the socket on to the next one,
// so that the session before TLS is logged out before there is a new one.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	if next := c.next.Load(); next != nil {
		c.link.listener.enqueue(next)
		return nil
	}
	return c.link.close()
}

// LocalAddr is our end of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.link.raw.LocalAddr() }

// RemoteAddr is the client, by the PROXY header where there was one.
func (c *Conn) RemoteAddr() net.Addr { return c.link.remote }

// SetDeadline does nothing: wire keeps the time.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: wire keeps the time.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: wire keeps the time.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// TLSState is the state of TLS; ok is false on a session in clear.
func (c *Conn) TLSState() (state tls.ConnectionState, ok bool) {
	if c.link.secure == nil {
		return state, false
	}
	return c.link.secure.ConnectionState(), true
}

// Helo is the argument of the last HELO or EHLO: visible ASCII, other octets
// replaced by "?", at most 255 octets (RFC 5321 §4.5.3.1.2). It is a claim of
// the client. Where none was given it is the client's address literal.
func (c *Conn) Helo() string { return c.helo }

// Extended reports that the client said EHLO rather than HELO.
func (c *Conn) Extended() bool { return c.extended }

// BodyFault says why the body that is being or was last read must be refused,
// or nil. A *smtp.Error carries the reply; any other error means that the
// client took the body back. The session's reader returns the same error, once.
// A session must ask before it publishes.
func (c *Conn) BodyFault() error { return c.body.fault }

// BodySize is the content of the last body so far, in octets.
func (c *Conn) BodySize() int64 { return c.body.size }

// LongestLine is the longest line of the last body, in octets without CRLF.
// More than 998 violates RFC 5321 §4.5.3.1.6.
func (c *Conn) LongestLine() int { return c.body.longest }

// Repairs is how many bare CR, bare LF and NUL of the last body were repaired.
func (c *Conn) Repairs() int { return c.body.repaired }

// Prepare names what is called before each EHLO that is not the first of the
// conversation and before each MAIL: it may change what follows here, so that
// this is always what holds for the client now.
func (c *Conn) Prepare(prepare func()) { c.prepare = prepare }

func (c *Conn) prepared() {
	if c.prepare != nil {
		c.prepare()
	}
}

// RepairNewlines makes the next bodies of this conversation pass with bare CR
// and bare LF made CRLF, and NUL dropped. For devices registered so.
func (c *Conn) RepairNewlines(on bool) { c.repair = on }

// LimitSize sets the size limit of this conversation, in octets, and what EHLO
// says about it. It holds for the bodies that begin after it; less than 1 is
// that of the listener.
func (c *Conn) LimitSize(octets int64) {
	if octets < 1 {
		octets = c.link.listener.cfg.MaxSize
	}
	c.limit = octets
}

// LimitRecipients sets what EHLO says about the recipients of one message (RFC
// 9422); less than 1 is what the listener has. The session holds it.
func (c *Conn) LimitRecipients(n int) {
	if n < 1 {
		n = c.link.listener.cfg.MaxRecipients
	}
	c.rcpts = n
}

// HideKeywords sets the keywords that the EHLO reply does not show, besides
// those of the listener.
func (c *Conn) HideKeywords(keywords ...string) { c.hidden = keywords }

// CompleteDomain names the domain that a path without one belongs to; empty:
// none. For devices that cannot be told.
func (c *Conn) CompleteDomain(domain string) { c.domain = domain }

// Completed is the path of the MAIL or RCPT in hand as the client gave it,
// without brackets, if CompleteDomain had to complete it.
func (c *Conn) Completed() (given string, ok bool) { return c.partial, c.partial != "" }

// Counts is what happened on the socket so far. Errors and BadRecipients start
// again with every message accepted.
type Counts struct {
	Messages, Errors, BadRecipients, AuthFailures int
}

// Counts returns the counters of the socket; they survive STARTTLS.
func (c *Conn) Counts() Counts {
	t := &c.link.tally
	return Counts{t.messages, t.errors, t.badRecipients, t.authFailures}
}

var _ net.Conn = (*Conn)(nil)
var _ io.Reader = (*link)(nil)
