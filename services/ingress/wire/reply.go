package wire

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// asked is what go-smtp was asked and is answering.
type asked uint8

const (
	askedNothing asked = iota
	askedGreeting
	askedHelo
	askedEhlo
	askedMail
	askedRcpt
	askedData    // DATA, up to 354
	askedChunks  // the DATA that stands for the first BDAT
	askedContent // a body, by DATA or BDAT
	askedAbort   // a body by BDAT that the client took back
	askedSilence // what the client is not to read: the second greeting
	askedAuth
	askedAuthCancel // "*" for a response that cannot be read
	askedAuthEnd    // "*" of the client
	askedReset
	askedJunk // commands that carry no mail
	askedOther
)

// settle takes the finished reply of go-smtp, learns from it, and queues what
// the client is to read.
func (c *Conn) settle() error {
	if len(c.reply) == 0 {
		return nil
	}
	text, about := c.reply, c.asked
	c.reply, c.asked = c.reply[:0], askedNothing
	code := replyCode(text)
	good := code/100 == 2

	switch about {
	case askedHelo, askedEhlo:
		return c.settleHelo(about, text, good)
	case askedMail:
		c.mail, c.mailRefused = good, !good
		if good {
			return c.queue("250 2.1.0 Sender OK\r\n")
		}
	case askedRcpt:
		if good {
			c.recipients++
			return c.queue("250 2.1.5 Recipient OK\r\n")
		}
		c.pass(text)
		return c.tallyRecipient(code)
	case askedData:
		if code == 354 {
			c.beginBody(content)
			return c.queue("354 End data with <CR><LF>.<CR><LF>\r\n")
		}
	case askedChunks:
		return c.settleChunks(text, code)
	case askedContent:
		c.settleContent(text, good)
	case askedAbort:
		c.endTransaction()
		return nil
	case askedSilence:
		return nil
	case askedAuth, askedAuthCancel, askedAuthEnd:
		return c.settleAuth(about, text, code)
	case askedReset:
		c.endTransaction()
		c.pass(text)
		return c.tallyJunk()
	case askedJunk:
		c.pass(text)
		return c.tallyJunk()
	}
	if about != askedContent {
		c.pass(text)
	}
	if code/100 == 5 {
		return c.tallyError()
	}
	return nil
}

// settleContent passes the reply to a message on at once: while it is not with
// the client, a message that is ours is the client's, too.
func (c *Conn) settleContent(text []byte, good bool) {
	c.endTransaction()
	if good {
		t := &c.link.tally
		t.messages++
		t.errors, t.badRecipients, t.junk = 0, 0, 0
	}
	c.pass(text)
	c.link.flush()
}

func (c *Conn) endTransaction() {
	c.mail, c.mailRefused, c.recipients = false, false, 0
	c.chunking = false
}

func (c *Conn) settleAuth(about asked, text []byte, code int) error {
	switch {
	case code == 334:
		c.mode = challenged
		return c.queue(string(text)) // RFC 4954 §4: longer than a reply may be
	case code == 235:
		c.authenticated = true
		return c.queue("235 2.7.0 Authentication successful\r\n")
	case about == askedAuthCancel:
		return c.refuse(KindSyntax, replyAuthSyntax, nil)
	case about == askedAuthEnd:
		c.say(KindAuth, replyAuthCancelled, nil)
		return c.tallyAuth()
	}
	c.pass(text)
	if code/100 == 5 {
		return c.tallyAuth()
	}
	return nil
}

// settleHelo replaces go-smtp's text, which repeats the client's words.
func (c *Conn) settleHelo(about asked, text []byte, good bool) error {
	if !good {
		c.pass(text)
		return c.tallyError()
	}
	c.greeted = true
	c.endTransaction()
	out := &c.link.out
	hostname := c.link.listener.cfg.Hostname
	if about == askedHelo {
		*out = append(append(append(*out, "250 "...), hostname...), crlf...)
		return c.tallyJunk()
	}
	lines := append([]string{hostname + " Hello " + c.literal()}, c.keywords(text)...)
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		*out = append(append(append(append(*out, "250"...), separator...), line...), crlf...)
	}
	return c.tallyJunk()
}

// keywords is the list of extensions that work on this connection: go-smtp's,
// without what is not so, and with what wire does itself.
func (c *Conn) keywords(text []byte) []string {
	cfg := &c.link.listener.cfg
	var list []string
	offer := func(line string) {
		keyword, _, _ := strings.Cut(line, " ")
		hides := func(hidden string) bool { return strings.EqualFold(hidden, keyword) }
		if !slices.ContainsFunc(cfg.Hidden, hides) && !slices.ContainsFunc(c.hidden, hides) {
			list = append(list, line)
		}
	}
	first := true
	for raw := range bytes.Lines(text) {
		line := strings.TrimRight(string(raw), "\r\n")
		if first || len(line) < 5 {
			first = false
			continue
		}
		line = line[4:]
		switch keyword, _, _ := strings.Cut(line, " "); keyword {
		case "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN":
			offer(line)
		case "LIMITS":
			offer("LIMITS RCPTMAX=" + strconv.Itoa(c.rcpts))
		case "AUTH":
			if cfg.Auth && c.link.secure != nil {
				offer(line)
			}
		}
	}
	offer("SIZE " + strconv.FormatInt(c.limit, 10)) // RFC 1870 §4
	if cfg.TLS != nil && c.link.secure == nil {
		offer("STARTTLS")
	}
	return list
}

// queue adds a reply of ours that is a success.
func (c *Conn) queue(text string) error {
	c.link.out = append(c.link.out, text...)
	return nil
}

// pass adds a reply of go-smtp or of the session, in the form that RFC 5321
// §4.2 and RFC 2034 §4 want: printable ASCII, bounded lines, the enhanced status
// code on every line. go-smtp writes it on the last one only. What go-smtp
// refuses by itself is reported as a refusal of wire.
func (c *Conn) pass(text []byte) {
	text = bytes.TrimSuffix(text, crlf)
	if r := smtp.ParseReply(replyCode(text), []string{string(text[min(len(text), 4):])}); r.Code >= 400 && !bytes.Contains(text, crlf) {
		if _, referred := mail.Referred(r.Text); !referred {
			c.say(KindCommand, r, nil)
			return
		}
	}
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	var status []byte
	if len(last) > 4 {
		if word, _, _ := bytes.Cut(last[4:], space); isStatus(word) {
			status = word
		}
	}
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if status != nil && len(line) >= 4 && line[3] == '-' {
			line = slices.Concat(line[:4], status, space, line[4:])
		}
		c.link.out = appendLine(c.link.out, line)
	}
}

// appendReply adds a reply of wire itself.
func appendReply(out []byte, r smtp.Reply) []byte {
	code, status := strconv.Itoa(r.Code), ""
	if r.Enhanced != "" {
		status = r.Status() + " "
	}
	lines := strings.Split(r.Text, "\n")
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		out = appendLine(out, []byte(code+separator+status+line))
	}
	return out
}

// appendLine adds one reply line: printable ASCII and not too long.
func appendLine(out, line []byte) []byte {
	for _, b := range line[:min(len(line), maxReplyLine-len(crlf))] {
		if b < ' ' || b >= 0x7f {
			b = '?'
		}
		out = append(out, b)
	}
	return append(out, crlf...)
}

// isStatus reports an enhanced status code such as "5.7.1".
func isStatus(word []byte) bool {
	return smtp.ParseReply(0, []string{string(word)}).Enhanced != ""
}

// replyCode is the code of the last line of text.
func replyCode(text []byte) int {
	text = bytes.TrimSuffix(text, crlf)
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	if len(last) < 4 {
		return 0
	}
	code, err := strconv.Atoi(string(last[:3]))
	if err != nil {
		return 0
	}
	return code
}
