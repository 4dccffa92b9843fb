package generate

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

// reply is one reply of the relay (RFC 5321 §4.2).
type reply struct {
	code     int
	enhanced string // "2.0.0", or empty
	text     string // lines joined by a space, without the enhanced codes
}

func (r reply) positive() bool { return r.code/100 == 2 }

func (r reply) refuses() bool { return r.code/100 == 4 || r.code/100 == 5 }

func (r reply) Error() string { return fmt.Sprintf("%d %s %s", r.code, r.enhanced, r.text) }

// outcome is how one transaction ended. Which recipients were accepted is
// noted in the message.
type outcome struct {
	phase journal.Phase
	reply reply
	err   error // why the phase is Lost or Aborted
}

// session is one connection to the relay.
type session struct {
	config  Config
	ctx     context.Context
	conn    net.Conn
	in      *bufio.Reader
	offers  map[string]bool
	release func() bool
	// broken: the dialogue is in no known state and cannot go on.
	broken bool
}

// dial connects, greets, and changes to TLS if that is demanded. When ctx
// ends, whatever the session is doing has Grace left.
func dial(ctx context.Context, c Config) (*session, error) {
	dialer := net.Dialer{Timeout: c.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", c.Server)
	if err != nil {
		return nil, fmt.Errorf("connect to relay: %w", err)
	}
	s := &session{config: c, ctx: ctx, conn: conn, in: bufio.NewReaderSize(conn, 8<<10)}
	raw := conn
	s.release = context.AfterFunc(ctx, func() { raw.SetDeadline(time.Now().Add(c.Grace)) })
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) open() error {
	if err := s.expect("greeting", ""); err != nil {
		return err
	}
	if err := s.ehlo(); err != nil {
		return err
	}
	if !s.config.StartTLS {
		return nil
	}
	if !s.offers["STARTTLS"] {
		return errors.New("start TLS: not offered")
	}
	if err := s.expect("start TLS", "STARTTLS\r\n"); err != nil {
		return err
	}
	secure := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := s.allow(); err != nil {
		return err
	}
	if err := secure.Handshake(); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	s.conn, s.in = secure, bufio.NewReaderSize(secure, 8<<10)
	return s.ehlo()
}

func (s *session) ehlo() error {
	if err := s.send("EHLO " + s.config.Helo + "\r\n"); err != nil {
		return err
	}
	r, lines, err := s.read()
	if err == nil && !r.positive() {
		err = r
	}
	if err != nil {
		return fmt.Errorf("greet relay: %w", err)
	}
	s.offers = map[string]bool{}
	for _, line := range lines[1:] {
		keyword, _, _ := strings.Cut(line, " ")
		s.offers[strings.ToUpper(keyword)] = true
	}
	return nil
}

// expect sends a command, if there is one, and wants a positive reply.
func (s *session) expect(what, command string) error {
	if command != "" {
		if err := s.send(command); err != nil {
			return err
		}
	}
	r, _, err := s.read()
	if err == nil && !r.positive() {
		err = r
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// submit runs one mail transaction. beforeDot is called when the replies to
// RCPT are known and no content has been sent; its error ends the transaction
// without the dot.
func (s *session) submit(m *message, beforeDot func() error) outcome {
	refused, err := s.envelope(m)
	switch {
	case err != nil:
		return s.abort(err)
	case refused != nil:
		return s.refused(*refused)
	}
	if err := beforeDot(); err != nil {
		return s.abort(err)
	}
	if err := s.content(m); err != nil {
		s.broken = true
		return outcome{phase: journal.Lost, err: err}
	}
	r, _, err := s.read()
	if err != nil || !r.positive() && !r.refuses() {
		s.broken = true
		return outcome{phase: journal.Lost, reply: r, err: err}
	}
	s.broken = r.code == 421
	return outcome{phase: journal.Reply, reply: r}
}

// envelope sends MAIL, RCPT and DATA. A reply is returned when the relay
// refuses; nil means that it waits for content.
//
// Step by step, no accepted recipient means no DATA. What went out in a
// pipeline is answered in any case, and every answer must be read (RFC 2920
// §3.1).
func (s *session) envelope(m *message) (*reply, error) {
	commands := s.commands(m)
	pipelined := s.config.Pipelining && s.offers["PIPELINING"]
	if pipelined {
		if err := s.send(strings.Join(commands, "")); err != nil {
			return nil, err
		}
	}
	ask := func(command string) (reply, error) {
		if !pipelined {
			if err := s.send(command); err != nil {
				return reply{}, err
			}
		}
		r, _, err := s.read()
		return r, err
	}

	var refused *reply // the first refusal
	mail, err := ask(commands[0])
	switch {
	case err != nil:
		return nil, err
	case mail.code == 421 || mail.refuses() && !pipelined:
		return &mail, nil
	case mail.refuses():
		refused = &mail
	}
	accepted := 0
	for i := range m.recipients {
		r, err := ask(commands[1+i])
		if err != nil {
			return nil, err
		}
		m.recipients[i].RcptReply = r.code
		switch {
		case r.code == 421:
			return &r, nil
		case r.positive():
			accepted++
		case refused == nil:
			refused = &r
		}
	}
	if accepted == 0 && !pipelined {
		return refused, nil
	}
	data, err := ask(commands[len(commands)-1])
	switch {
	case err != nil:
		return nil, err
	case data.code == 354 && accepted > 0:
		return nil, nil
	case data.code == 354:
		return refused, s.emptyContent()
	case !data.refuses():
		return nil, fmt.Errorf("%w: %d to DATA", errSyntax, data.code)
	case accepted == 0:
		return refused, nil
	}
	return &data, nil
}

func (s *session) commands(m *message) []string {
	from := "MAIL FROM:<" + m.sender + ">"
	if s.offers["SIZE"] {
		from += " SIZE=" + strconv.Itoa(m.octets)
	}
	commands := []string{from + "\r\n"}
	for _, recipient := range m.recipients {
		commands = append(commands, "RCPT TO:<"+recipient.Address+">\r\n")
	}
	return append(commands, "DATA\r\n")
}

// emptyContent answers a 354 that came although no recipient was accepted.
func (s *session) emptyContent() error {
	if err := s.send(".\r\n"); err != nil {
		return err
	}
	r, _, err := s.read()
	if err == nil && r.positive() {
		err = errors.New("a message without recipients was accepted")
	}
	return err
}

// content sends header, filler and tail with its dot in one system call.
func (s *session) content(m *message) error {
	if err := s.allow(); err != nil {
		return err
	}
	parts := net.Buffers{m.header, m.filler, m.tail}
	_, err := parts.WriteTo(s.conn)
	return err
}

// refused leaves the session ready for the next transaction.
func (s *session) refused(r reply) outcome {
	s.broken = r.code == 421 || s.expect("reset", "RSET\r\n") != nil
	return outcome{phase: journal.Refused, reply: r}
}

func (s *session) abort(err error) outcome {
	s.broken = true
	return outcome{phase: journal.Aborted, err: err}
}

// close says goodbye when the dialogue permits it and does not wait for long.
func (s *session) close() {
	s.release()
	if !s.broken && s.offers != nil {
		_ = s.send("QUIT\r\n")
		_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _, _ = s.read()
	}
	_ = s.conn.Close()
}

func (s *session) send(text string) error {
	if err := s.allow(); err != nil {
		return err
	}
	_, err := s.conn.Write([]byte(text))
	return err
}

// allow gives the next step its time. Looking at ctx after the deadline is
// set makes sure that a stop between the two is not undone.
func (s *session) allow() error {
	if err := s.conn.SetDeadline(time.Now().Add(s.config.Timeout)); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return s.conn.SetDeadline(time.Now().Add(s.config.Grace))
	}
	return nil
}
