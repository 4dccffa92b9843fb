package wire

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/postrider/postrider/shared/smtp"
)

// Refusals of wire itself. Those that others make as well are in shared/smtp.
var (
	replyAuthNeedsTLS   = refusal(538, "7.11", "Encryption required for authentication, use STARTTLS")
	replyAuthNow        = refusal(503, "5.1", "AUTH not permitted now")
	replyAuthCancelled  = refusal(501, "7.0", "Authentication cancelled")
	replyAuthSyntax     = refusal(501, "5.2", "Cannot decode AUTH")
	replyBareLF         = refusal(500, "5.2", "Command lines must end in CR LF")
	replyBdatFirst      = refusal(503, "5.1", "Finish the message with BDAT LAST, or RSET")
	replyBdatSyntax     = refusal(501, "5.4", "BDAT needs a size and optionally LAST")
	replyBusy           = refusal(421, "3.2", "Too many connections, try again later")
	replyBusyAddress    = refusal(421, "7.0", "Too many connections from your address")
	replyControl        = refusal(501, "5.2", "Control character in command")
	replyEarlyData      = refusal(503, "5.1", "Wait for the reply to DATA")
	replyEightBit       = refusal(501, "5.2", "Non-ASCII character in command")
	replyExpectsTLS     = refusal(500, "5.1", "This port expects TLS at once (implicit TLS), not plain text")
	replyForeign        = refusal(421, "7.0", "This is an SMTP server")
	replyHeloFirst      = refusal(503, "5.1", "Say EHLO or HELO first")
	replyHeloTooLong    = refusal(501, "5.2", "HELO argument too long")
	replyInjection      = refusal(503, "5.1", "Commands after STARTTLS in clear")
	replyLineTooLong    = refusal(500, "5.2", "Line too long")
	replyMailFirst      = refusal(503, "5.1", "Need MAIL first")
	replyNestedMail     = refusal(503, "5.1", "MAIL was already given")
	replyNoArgument     = refusal(501, "5.4", "No argument allowed")
	replyNoRecipients   = refusal(503, "5.1", "No valid recipients")
	replyNonASCII       = refusal(553, "6.7", "Non-ASCII address not supported here")
	replyNotImplemented = refusal(502, "5.1", "Command not implemented")
	replyNoTLSHere      = refusal(500, "5.1", "TLS here begins with STARTTLS; use the port for implicit TLS")
	replyParameter      = refusal(555, "5.4", "Parameter not recognized or not implemented")
	replyParameterValue = refusal(501, "5.4", "Bad value of a parameter")
	replyTLSActive      = refusal(503, "5.1", "TLS is active already")
	replyUnknownCommand = refusal(500, "5.1", "Command not recognized")
)

func refusal(code int, status smtp.Enhanced, text string) smtp.Reply {
	return smtp.Reply{Code: code, Enhanced: status, Text: text}
}

// replyHelo names the character that does not belong into a HELO argument.
func replyHelo(wrong byte) smtp.Reply {
	name := strconv.Quote(string(rune(wrong)))
	if wrong >= 0x80 {
		name = "a non-ASCII character"
	}
	return refusal(501, "5.2", "HELO argument must not contain "+name)
}

// say queues a refusal, after it was reported.
func (c *Conn) say(kind string, r smtp.Reply, cause error) {
	c.link.out = appendReply(c.link.out, c.tell(kind, r, cause))
}

// tell reports a refusal of this conversation and returns the reply to send.
func (c *Conn) tell(kind string, r smtp.Reply, cause error) smtp.Reply {
	k := c.link
	k.seen = true
	state, secure := c.TLSState()
	return k.listener.tell(Refusal{
		Kind: kind, Remote: k.remote, Local: k.raw.LocalAddr(), Helo: c.helo, TLS: secure, State: state, Reply: r, Err: cause,
	})
}

var (
	errNoCommand = errors.New("the client closed the connection without a command")
	errNoMAIL    = errors.New("the client left without sending anything")
)

// left reports a client that leaves before it had anything refused or tried to
// send, such as one that only tests the connection.
func (c *Conn) left() {
	why := errNoMAIL
	switch {
	case c.link.seen:
		return
	case !c.heard && c.link.secure != nil:
		why = fmt.Errorf("%w, once TLS was agreed on", errNoCommand)
	case !c.heard:
		why = errNoCommand
	case c.authenticated:
		why = fmt.Errorf("%w, once it had authenticated", errNoMAIL)
	}
	c.tell(KindNoMail, smtp.Reply{}, why)
}

// refuse answers a command with a refusal that counts as an error.
func (c *Conn) refuse(kind string, r smtp.Reply, cause error) error {
	c.say(kind, r, cause)
	return c.tallyError()
}

// refuseAndHangUp answers with a refusal that ends the session.
func (c *Conn) refuseAndHangUp(kind string, r smtp.Reply, cause error, linger bool) error {
	c.say(kind, r, cause)
	return c.hangUp(linger)
}

func (c *Conn) tallyError() error {
	c.link.tally.errors++
	return c.enough(c.link.tally.errors > c.link.listener.cfg.MaxErrors)
}

// tallyJunk counts commands that carry no mail: many are as good as an error.
func (c *Conn) tallyJunk() error {
	if c.link.tally.junk++; c.link.tally.junk > maxJunk {
		return c.tallyError()
	}
	return nil
}

// tallyRecipient counts a permanently refused recipient.
func (c *Conn) tallyRecipient(code int) error {
	if code/100 != 5 {
		return nil
	}
	c.link.tally.badRecipients++
	return c.enough(c.link.tally.badRecipients > c.link.listener.cfg.MaxBadRecipients)
}

func (c *Conn) tallyAuth() error {
	c.link.tally.authFailures++
	return c.enough(c.link.tally.authFailures > c.link.listener.cfg.MaxAuthFailures)
}

// enough ends a session that makes only mistakes.
func (c *Conn) enough(exceeded bool) error {
	if !exceeded {
		return nil
	}
	return c.refuseAndHangUp(KindErrors, smtp.ReplyTooManyErrors, nil, true)
}
