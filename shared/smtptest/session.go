package smtptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Reasons to end a session that are no failures of the connection.
var (
	errQuit    = errors.New("client quit")
	errEnd     = errors.New("session ended by the MX")    // after a reply
	errDropped = errors.New("connection dropped as told") // without one
)

// session is one connection with one client.
type session struct {
	wire
	mx            *MX
	id            int64
	remote, local string

	base         pace // what StageConnect and StageEhlo asked for
	tls          *tls.ConnectionState
	helo         string // empty before EHLO
	extended     bool   // EHLO or LHLO, not HELO
	user         string
	transactions int
	tx           *transaction // nil before MAIL
}

// ServeConn serves one connection, which it closes, until the client leaves or
// ctx ends. It is for connections that come from no listener, such as one end
// of a net.Pipe.
func (mx *MX) ServeConn(ctx context.Context, conn net.Conn) {
	var id, open int64
	mx.tally.add(func(c *Counts) {
		c.Connections++
		c.Open++
		c.PeakOpen = max(c.PeakOpen, c.Open)
		id, open = c.Connections, c.Open
	})
	defer mx.tally.add(func(c *Counts) { c.Open-- })

	s := &session{mx: mx, id: id, remote: conn.RemoteAddr().String(), local: conn.LocalAddr().String()}
	s.wire = wire{ctx: ctx, idle: mx.options.Idle, record: mx.transcript(id, s.remote)}
	s.r, _ = mx.readers.Get().(*bufio.Reader)
	if s.r == nil {
		s.r = bufio.NewReaderSize(nil, readBuffer)
	}
	defer func() {
		s.r.Reset(nil)
		mx.readers.Put(s.r)
	}()
	s.w = bufio.NewWriterSize(nil, writeBuffer)
	s.use(conn)
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	})
	defer stop()

	err := s.serve(mx.options.MaxConnections > 0 && open > int64(mx.options.MaxConnections))
	s.close(conn, err)
}

// serve greets and obeys commands until there is a reason to end.
func (s *session) serve(busy bool) error {
	if s.mx.options.ImplicitTLS {
		if err := s.startTLS(); err != nil {
			return err
		}
	}
	if busy {
		return s.reply(replyBusy)
	}
	if err := s.greet(); err != nil {
		return err
	}
	for {
		line, err := s.line()
		switch {
		case errors.Is(err, errLineEnd):
			err = s.reply(replyLineEnd)
		case errors.Is(err, errLineLong):
			if err = s.reply(smtp.ReplyLineTooLong); err == nil {
				err = errEnd
			}
		case err == nil:
			err = s.obey(line)
		case s.ctx.Err() != nil:
			err = s.reply(smtp.ReplyShutdown)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) greet() error {
	kind := "ESMTP"
	if s.mx.options.LMTP {
		kind = "LMTP"
	}
	b := s.ask(StageConnect, Behaviour{}, "")
	r, err := s.give(b, smtp.Reply{Code: 220, Text: s.mx.options.Hostname + " " + kind + " smtptest"})
	if err != nil {
		return err
	}
	s.base = s.pace
	return s.reply(r)
}

// obey carries out one command.
func (s *session) obey(line string) error {
	verb, argument := splitCommand(line)
	if early := s.r.Buffered() > 0; early && verb != "BDAT" && (verb == "DATA" || !s.mx.offers("PIPELINING")) {
		return s.refuseAndEnd(replyPipelined)
	}
	switch verb {
	case "EHLO", "HELO", "LHLO":
		return s.hello(verb, argument)
	case "STARTTLS":
		return s.starttls(argument)
	case "AUTH":
		return s.auth(argument)
	case "MAIL":
		return s.mail(argument)
	case "RCPT":
		return s.rcpt(argument)
	case "DATA":
		return s.data(argument)
	case "BDAT":
		return s.bdat(argument)
	case "RSET":
		s.reset()
		return s.obeyAt(StageRset, replyOK)
	case "NOOP":
		return s.reply(replyOK)
	case "VRFY":
		return s.reply(replyCannotVerify)
	case "QUIT":
		s.reset()
		if err := s.obeyAt(StageQuit, replyBye); err != nil {
			return err
		}
		return errQuit
	}
	return s.reply(replyUnknown)
}

func (s *session) hello(verb, argument string) error {
	if argument == "" || (verb == "LHLO") != s.mx.options.LMTP {
		return s.reply(smtp.ReplySyntax)
	}
	s.reset() // RFC 5321 §4.1.4
	r, err := s.give(s.ask(StageEhlo, Behaviour{}, ""), smtp.Reply{Code: 250, Text: s.mx.options.Hostname})
	if err != nil {
		return err
	}
	s.base = s.pace
	if !r.Positive() {
		return s.reply(r)
	}
	s.helo, s.extended = argument, verb != "HELO"
	lines := []string{s.mx.options.Hostname}
	if s.extended {
		lines = append(lines, s.keywords()...)
	}
	return s.say(r.Code, lines...)
}

// keywords are the lines of the EHLO reply after the first.
func (s *session) keywords() []string {
	all := []string{"PIPELINING", "SIZE " + strconv.FormatInt(s.mx.options.MaxSize, 10),
		"8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"}
	if s.mx.tls != nil && s.tls == nil {
		all = append(all, "STARTTLS")
	}
	if s.authOffered() {
		all = append(all, "AUTH PLAIN LOGIN")
	}
	var lines []string
	for _, line := range append(all, s.mx.options.With...) {
		if keyword, _, _ := strings.Cut(line, " "); s.mx.offers(keyword) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (s *session) starttls(argument string) error {
	switch {
	case argument != "":
		return s.reply(replyNoSuchParameter)
	case s.mx.tls == nil || s.tls != nil || !s.offered("STARTTLS"):
		return s.reply(replyNotOffered)
	case s.r.Buffered() > 0:
		return s.refuseAndEnd(replyInjected) // RFC 3207 §6
	}
	r, err := s.give(s.ask(StageStartTLS, Behaviour{}, ""), replyStartTLS)
	if err != nil {
		return err
	}
	if err := s.reply(r); err != nil || r.Code != replyStartTLS.Code && !r.Positive() {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.startTLS()
}

// startTLS makes the handshake, or what was asked for in its place, and forgets
// what was learnt in the clear (RFC 3207 §4.2).
func (s *session) startTLS() error {
	b := s.ask(StageTLS, Behaviour{}, "")
	r, err := s.give(b, smtp.Reply{})
	if err != nil {
		return err
	}
	if !r.IsZero() { // instead of a ServerHello
		if _, err := s.r.Peek(1); err != nil {
			return err
		}
		return s.refuseAndEnd(r)
	}
	state, err := s.handshake(s.mx.tls)
	if err != nil {
		return err
	}
	s.reset()
	s.tls, s.helo, s.extended, s.user = &state, "", false, ""
	return nil
}

// close ends the session: what is pending is written unless the connection is
// broken, and an unfinished message is thrown away.
func (s *session) close(conn net.Conn, reason error) {
	if s.tx != nil && s.tx.meter != nil {
		s.mx.tally.add(func(c *Counts) { c.CutOff++ })
	}
	s.reset()
	if errors.Is(reason, errDropped) {
		s.record.add("S-drop", "")
		s.mx.tally.add(func(c *Counts) { c.Dropped++ })
	}
	if s.flush() == nil && errors.Is(reason, errEnd) {
		s.linger(conn)
	}
	_ = s.conn.Close()
}

// linger lets the client read the last reply: a socket closed with unread
// input resets the connection, and the reply with it.
func (s *session) linger(conn net.Conn) {
	socket, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if secured, ok := s.conn.(*tls.Conn); ok {
		_ = secured.CloseWrite()
	}
	_ = socket.CloseWrite()
	_ = socket.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, socket, 1<<20)
}

// reset forgets the transaction.
func (s *session) reset() {
	if s.tx != nil && s.tx.meter != nil {
		s.tx.meter.spool.Discard()
	}
	s.tx = nil
	s.pace = s.base
}

// offered reports that the client may use the keyword now.
func (s *session) offered(keyword string) bool { return s.extended && s.mx.offers(keyword) }

// ask returns what was asked for at a stage: by the address, whose attempts
// are counted under key, else by Options.At.
func (s *session) ask(stage Stage, own Behaviour, key string) Behaviour {
	if own.Stage == stage && (own.First == 0 || s.mx.attempts.within(own.First, string(stage)+"\x00"+key)) {
		return own
	}
	at := s.mx.at[stage]
	if at.First == 0 || s.mx.attempts.within(at.First, string(stage)) {
		return at
	}
	return Behaviour{}
}

// give slows the session down as asked and returns the reply to give: the one
// asked for or the normal one. The error is errDropped.
func (s *session) give(b Behaviour, normal smtp.Reply) (smtp.Reply, error) {
	if b.Drop {
		return smtp.Reply{}, errDropped
	}
	s.pause(b.Pause)
	s.pace.tarpit = max(s.pace.tarpit, b.Tarpit)
	s.pace.trickle = max(s.pace.trickle, b.Trickle)
	if b.Reply.IsZero() {
		return normal, nil
	}
	return b.Reply, nil
}

// obeyAt answers at a stage that only Options.At knows.
func (s *session) obeyAt(stage Stage, normal smtp.Reply) error {
	r, err := s.give(s.ask(stage, Behaviour{}, ""), normal)
	if err != nil {
		return err
	}
	return s.reply(r)
}

// reply writes a reply, with its status once the client knows of statuses. A
// 421 ends the session (RFC 5321 §3.8).
func (s *session) reply(r smtp.Reply) error {
	lines := strings.Split(r.Text, "\n")
	if r.Status() != "" && s.offered("ENHANCEDSTATUSCODES") {
		for i, line := range lines {
			lines[i] = r.Status() + " " + line
		}
	}
	if err := s.say(r.Code, lines...); err != nil {
		return err
	}
	if r.Code == smtp.ReplyShutdown.Code {
		return errEnd
	}
	return nil
}

// refuseAndEnd is for a client that is out of step.
func (s *session) refuseAndEnd(r smtp.Reply) error {
	if err := s.reply(r); err != nil {
		return err
	}
	return errEnd
}
