package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

// dispatch decides what becomes of a command: an answer of our own, or a
// canonical line for go-smtp. go-smtp counts mistakes by itself and closes after
// the fourth, and accepts some commands out of order; hence it sees none of
// either.
func (c *Conn) dispatch(line []byte) error {
	name, argument := cutVerb(line)
	if reply, ok := checkLine(line, name); !ok {
		if isForeign(line) {
			return c.refuseAndHangUp(KindForeign, replyForeign, nil, true)
		}
		return c.refuse(KindSyntax, reply, nil)
	}
	if name == verbData && c.link.in.Buffered() > 0 {
		// RFC 2920 §3.1: DATA is the last command of a group. Were it refused,
		// the body behind it would be read as commands.
		return c.refuseAndHangUp(KindInjection, replyEarlyData, nil, true)
	}
	if c.chunking {
		return c.whileChunking(name, argument, line)
	}
	switch name {
	case verbHelo, verbEhlo:
		return c.doHelo(name, argument)
	case verbMail:
		return c.doMail(argument)
	case verbRcpt:
		return c.doRcpt(argument)
	case verbData:
		return c.doData(argument)
	case verbBdat:
		return c.doBdat(argument)
	case verbAuth:
		return c.doAuth(argument)
	case verbStarttls:
		if len(argument) > 0 {
			return c.refuse(KindSyntax, replyNoArgument, nil)
		}
		return c.startTLS()
	case verbQuit:
		c.left()
		c.link.listener.leaving(c.link)
		return c.forward(askedOther, "QUIT")
	case verbRset:
		return c.forward(askedReset, "RSET")
	case verbVrfy:
		return c.forward(askedJunk, string(name)+" -") // not answered by the argument
	case verbExpn, verbHelp:
		c.say(KindSyntax, replyNotImplemented, nil)
		return c.tallyJunk()
	default:
		return c.forward(askedJunk, string(name))
	}
}

// forward hands one line to go-smtp and remembers what it is about.
func (c *Conn) forward(about asked, line string, more ...string) error {
	c.line = append(c.line[:0], line...)
	for _, m := range more {
		c.line = append(c.line, m...)
	}
	c.line = append(c.line, crlf...)
	c.input = c.line
	c.asked = about
	return nil
}

var errHelo = errors.New("character that is not wanted in HELO")

// doHelo takes the client's claim of a name. Only its visible ASCII is kept;
// go-smtp would repeat it to the client octet by octet.
func (c *Conn) doHelo(name verb, argument []byte) error {
	word, _, _ := strings.Cut(string(argument), " ")
	if len(word) > maxHelo {
		return c.refuse(KindSyntax, replyHeloTooLong, nil)
	}
	cfg := &c.link.listener.cfg
	if wrong := strings.IndexAny(word, cfg.NoHelo); wrong >= 0 {
		return c.refuse(KindHelo, replyHelo(word[wrong]), fmt.Errorf("%w: %s", errHelo, without(word, cfg.NoHelo)))
	}
	if wrong := strings.IndexFunc(word, notInHelo); wrong >= 0 && cfg.StrictHelo {
		return c.refuse(KindSyntax, replyHelo(word[wrong]), nil)
	}
	if word == "" {
		word = c.literal()
	}
	c.helo = visible(word)
	c.extended = name == verbEhlo
	c.prepared()
	about := askedHelo
	if c.extended {
		about = askedEhlo
	}
	return c.forward(about, string(name), " ", c.helo)
}

// notInHelo reports what neither a domain name nor an address literal contains
// (RFC 5321 §4.1.2). The underscore is common.
func notInHelo(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:[]", r))
}

// without is what may be shown of a word: neither what is not visible ASCII
// nor the given characters.
func without(word, characters string) string {
	return visible(strings.Map(func(r rune) rune {
		if strings.ContainsRune(characters, r) {
			return '?'
		}
		return r
	}, word))
}

// visible replaces what is not visible ASCII.
func visible(s string) string {
	clean := []byte(s)
	for i, b := range clean {
		if b <= ' ' || b >= 0x7f {
			clean[i] = '?'
		}
	}
	return string(clean)
}

// literal is the client's address as HELO would give it (RFC 5321 §4.1.3).
func (c *Conn) literal() string {
	address := addressOf(c.link.remote)
	switch {
	case !address.IsValid():
		return "unknown"
	case address.Is4():
		return "[" + address.String() + "]"
	default:
		return "[IPv6:" + address.WithZone("").String() + "]"
	}
}

func (c *Conn) doMail(argument []byte) error {
	switch {
	case !c.greeted:
		return c.refuse(KindSequence, replyHeloFirst, nil)
	case c.mail: // RFC 5321 §4.1.4
		return c.refuse(KindSequence, replyNestedMail, nil)
	}
	c.prepared()
	c.link.seen = true
	line, reply, err := c.mailLine(argument)
	if err != nil {
		c.mailRefused = true
		return c.refuse(kindOfPath(reply), reply, err)
	}
	return c.forward(askedMail, "MAIL FROM:", line)
}

func (c *Conn) doRcpt(argument []byte) error {
	if !c.mail {
		return c.refuseOutOfOrder(replyMailFirst)
	}
	if c.recipients >= c.rcpts {
		c.say(KindRecipients, smtp.ReplyTooManyRecipients, errTooMany)
		return nil
	}
	line, reply, err := c.rcptLine(argument)
	if err != nil {
		c.say(KindPath, reply, err)
		return c.tallyRecipient(reply.Code)
	}
	return c.forward(askedRcpt, "RCPT TO:", line)
}

func (c *Conn) doData(argument []byte) error {
	switch {
	case len(argument) > 0:
		return c.refuse(KindSyntax, replyNoArgument, nil)
	case !c.mail:
		return c.refuseOutOfOrder(replyMailFirst)
	case c.recipients == 0:
		return c.refuseOutOfOrder(replyNoRecipients)
	}
	return c.forward(askedData, "DATA")
}

// refuseOutOfOrder answers a step of a transaction that cannot be. Behind a
// refused MAIL, or with all recipients refused, a pipelining client is not at
// fault: that is only junk.
func (c *Conn) refuseOutOfOrder(r smtp.Reply) error {
	c.say(KindSequence, r, nil)
	if c.mail || c.mailRefused {
		return c.tallyJunk()
	}
	return c.tallyError()
}

func (c *Conn) doAuth(argument []byte) error {
	words := strings.Fields(string(argument))
	switch {
	case !c.link.listener.cfg.Auth:
		return c.refuse(KindAuth, replyNotImplemented, nil)
	case c.link.secure == nil: // RFC 4954 §4, §6
		return c.refuse(KindAuth, replyAuthNeedsTLS, nil)
	case !c.greeted:
		return c.refuse(KindSequence, replyHeloFirst, nil)
	case c.authenticated || c.mail: // RFC 4954 §4
		return c.refuse(KindSequence, replyAuthNow, nil)
	case len(words) == 0 || len(words) > 2 || len(words) == 2 && !isBase64(words[1]):
		return c.refuse(KindSyntax, replyAuthSyntax, nil)
	}
	return c.forward(askedAuth, "AUTH ", strings.Join(words, " "))
}

// respond passes the client's answer to a challenge, untouched. What is not
// base64 cancels: go-smtp would call it a temporary failure.
func (c *Conn) respond(line []byte) error {
	switch text := string(line); {
	case text == "*":
		c.mode = commands
		return c.forward(askedAuthEnd, text)
	case isBase64(text):
		c.mode = commands
		return c.forward(askedAuth, text)
	}
	return c.cancelAuth()
}

// cancelAuth ends an exchange that the client broke (RFC 4954 §4: 501).
func (c *Conn) cancelAuth() error {
	c.mode = commands
	return c.forward(askedAuthCancel, "*")
}

// isBase64 reports a SASL response; "=" is the empty one (RFC 4954 §4).
func isBase64(s string) bool {
	if s == "=" {
		return true
	}
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}
