package sink

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/loadtest/journal"
)

const (
	maxCommand    = 4 << 10
	maxRecipients = 10_000
	readBuffer    = 64 << 10
)

// envelope is the mail transaction under way. Addresses have no brackets.
type envelope struct {
	open        bool
	reversePath string
	recipients  []string
}

// session is one connection.
type session struct {
	sink *Sink
	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	mail envelope
}

// errQuit ends a session without a fault.
var errQuit = errors.New("quit")

// serve speaks SMTP on conn until the client leaves or ctx ends. When ctx
// ends only reading is cut off: a message that is in the journal as
// acknowledged still gets its 250.
func (s *Sink) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	c := &session{sink: s, conn: conn}
	c.attach(conn)
	c.reply("220 " + s.config.Hostname + " ESMTP")
	for {
		if err := c.step(ctx); err != nil {
			// An answer that is written already belongs to the client.
			_ = c.flush()
			return
		}
	}
}

func (c *session) attach(conn net.Conn) {
	c.conn = conn
	c.in = bufio.NewReaderSize(conn, readBuffer)
	c.out = bufio.NewWriterSize(conn, maxCommand)
}

// step answers one command.
func (c *session) step(ctx context.Context) error {
	line, err := c.readCommand(ctx)
	if err != nil {
		return err
	}
	verb, argument, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		c.mail = envelope{}
		c.greet()
	case "HELO":
		c.mail = envelope{}
		c.reply("250 " + c.sink.config.Hostname)
	case "MAIL":
		c.from(argument)
	case "RCPT":
		return c.to(argument)
	case "DATA":
		return c.data(ctx)
	case "RSET":
		c.mail = envelope{}
		c.reply("250 2.0.0 OK")
	case "NOOP":
		c.reply("250 2.0.0 OK")
	case "STARTTLS":
		return c.startTLS(ctx)
	case "QUIT":
		c.reply("221 2.0.0 Bye")
		return errQuit
	default:
		c.reply("500 5.5.1 Command not known")
	}
	return nil
}

// readCommand returns the next line without its end. What was answered so
// far is sent only when the client has nothing more in the pipeline.
func (c *session) readCommand(ctx context.Context) (string, error) {
	if c.in.Buffered() == 0 {
		if err := c.flush(); err != nil {
			return "", err
		}
	}
	if err := c.awaitInput(ctx); err != nil {
		return "", err
	}
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxCommand {
		c.reply("500 5.5.2 Line too long")
		return "", errQuit
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// awaitInput allows the client the idle time from now on. The order makes
// sure that a stop between the two lines is not undone.
func (c *session) awaitInput(ctx context.Context) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.sink.config.IdleTimeout)); err != nil {
		return err
	}
	return ctx.Err()
}

func (c *session) greet() {
	lines := []string{c.sink.config.Hostname, "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE"}
	if _, secure := c.conn.(*tls.Conn); c.sink.tls != nil && !secure {
		lines = append(lines, "STARTTLS")
	}
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		c.reply("250" + separator + line)
	}
}

func (c *session) from(argument string) {
	path, ok := cutPath(argument, "FROM:")
	switch {
	case !ok:
		c.reply("501 5.1.7 Bad sender address syntax")
	case c.mail.open:
		c.reply("503 5.5.1 Nested MAIL")
	default:
		c.mail = envelope{open: true, reversePath: path}
		c.reply("250 2.1.0 OK")
	}
}

func (c *session) to(argument string) error {
	path, ok := cutPath(argument, "TO:")
	if !c.mail.open {
		c.reply("503 5.5.1 Need MAIL")
		return nil
	}
	if !ok || path == "" {
		c.reply("501 5.1.3 Bad recipient address syntax")
		return nil
	}
	if code := refusal(path); code != 0 {
		c.sink.refused.Add(1)
		c.reply(fmt.Sprintf("%d %d.1.1 As the recipient address asks", code, code/100))
		if code == 421 {
			return errQuit
		}
		return nil
	}
	if len(c.mail.recipients) >= maxRecipients {
		c.reply("452 4.5.3 Too many recipients")
		return nil
	}
	c.mail.recipients = append(c.mail.recipients, path)
	c.reply("250 2.1.5 OK")
	return nil
}

// data takes the content, writes the journal, and answers, in this order.
func (c *session) data(ctx context.Context) error {
	if len(c.mail.recipients) == 0 {
		c.reply("503 5.5.1 Need RCPT")
		return nil
	}
	c.reply("354 Go ahead")
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.awaitInput(ctx); err != nil {
		return err
	}
	taken, err := readContent(c.in, c.mail.reversePath == "")
	if err != nil {
		return err
	}
	mail := c.mail
	c.mail = envelope{}
	drop := c.sink.dropsNext()
	c.sink.octets.Add(taken.octets)
	lines := arrivals(mail, taken, time.Now(), !drop)
	if err := c.sink.journal.Append(lines...); err != nil {
		c.reply("451 4.3.0 Journal cannot be written")
		return err
	}
	if drop {
		c.sink.dropped.Add(1)
		return errQuit
	}
	c.sink.messages.Add(1)
	if lines[0].(journal.Arrival).Kind == journal.DSN {
		c.sink.reports.Add(1)
	}
	c.pause(ctx)
	c.reply("250 2.0.0 Taken")
	// A client that is gone by now has left without its answer.
	err = c.flush()
	return errors.Join(err, c.sink.timed(lines, time.Now()))
}

// pause is the configured delay, or less when ctx ends.
func (c *session) pause(ctx context.Context) {
	if c.sink.config.Delay <= 0 {
		return
	}
	timer := time.NewTimer(c.sink.config.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (c *session) startTLS(ctx context.Context) error {
	if _, secure := c.conn.(*tls.Conn); c.sink.tls == nil || secure {
		c.reply("503 5.5.1 STARTTLS not offered")
		return nil
	}
	if c.in.Buffered() > 0 {
		// RFC 3207 §4.2: nothing may be carried over into the TLS session.
		c.reply("554 5.5.1 Commands after STARTTLS")
		return errQuit
	}
	c.reply("220 2.0.0 Ready to start TLS")
	if err := c.flush(); err != nil {
		return err
	}
	secure := tls.Server(c.conn, c.sink.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	c.mail = envelope{}
	c.attach(secure)
	return nil
}

func (c *session) reply(line string) {
	// bufio keeps the first error for flush.
	_, _ = c.out.WriteString(line)
	_, _ = c.out.WriteString("\r\n")
}

func (c *session) flush() error {
	if c.out.Buffered() == 0 {
		return nil
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.sink.config.IdleTimeout)); err != nil {
		return err
	}
	return c.out.Flush()
}

// cutPath takes the address out of "FROM:<address> PARAMETERS".
func cutPath(argument, keyword string) (string, bool) {
	if len(argument) < len(keyword) || !strings.EqualFold(argument[:len(keyword)], keyword) {
		return "", false
	}
	rest := strings.TrimLeft(argument[len(keyword):], " ")
	if !strings.HasPrefix(rest, "<") {
		return "", false
	}
	closing := strings.IndexByte(rest[quotedEnd(rest[1:])+1:], '>')
	if closing < 0 {
		return "", false
	}
	return rest[1 : quotedEnd(rest[1:])+1+closing], true
}

// quotedEnd is the length of a quoted local part, which may contain ">", or 0
// when s does not start with a whole one (RFC 5321 §4.1.2).
func quotedEnd(s string) int {
	if !strings.HasPrefix(s, `"`) {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// refusal is the reply code an address asks for, or 0.
func refusal(address string) int {
	digits, _, ok := strings.Cut(address, "+")
	if !ok || len(digits) != 3 {
		return 0
	}
	code, err := strconv.Atoi(digits)
	if err != nil || code < 400 || code > 599 {
		return 0
	}
	return code
}

// Token is what follows the last "+" of an address's local part, or "".
func Token(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	plus := strings.LastIndexByte(address[:at], '+')
	if plus < 0 {
		return ""
	}
	return address[plus+1 : at]
}
