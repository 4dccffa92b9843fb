package smtptest

import (
	"crypto/tls"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// transaction is what lies between MAIL and the final reply.
type transaction struct {
	path       smtp.ReversePath
	parameters []string
	utf8       bool
	recipients []recipient
	chunked    bool
	meter      *meter // nil before the content
}

// recipient is an accepted one, with what it asks for later on.
type recipient struct {
	Recipient
	behaviour Behaviour
}

func (s *session) mail(argument string) error {
	path, parameters, ok := splitPath(argument, "FROM:")
	switch {
	case s.helo == "" || s.tx != nil:
		return s.answer(StageMail, smtp.ReplyBadSequence)
	case s.mx.options.User != "" && s.user == "":
		return s.answer(StageMail, smtp.ReplyAuthRequired)
	case !ok:
		return s.answer(StageMail, smtp.ReplySyntax)
	case s.mx.options.MaxTransactions > 0 && s.transactions >= s.mx.options.MaxTransactions:
		return s.answer(StageMail, replyEnough)
	}
	reverse, err := smtp.ParseReversePath(path)
	if err != nil {
		return s.answer(StageMail, smtp.ReplyBadReversePath)
	}
	tx := &transaction{path: reverse, parameters: parameters}
	if r := s.checkMail(tx); !r.IsZero() {
		return s.answer(StageMail, r)
	}
	b := s.ask(StageMail, ForSender(reverse.Local), reverse.String())
	r, err := s.give(b, replySender)
	if err != nil {
		return err
	}
	if r.Positive() {
		s.tx = tx
		s.transactions++
	}
	return s.answer(StageMail, r)
}

// checkMail refuses parameters that were not offered, and values that are
// impossible. The zero Reply is no objection.
func (s *session) checkMail(tx *transaction) smtp.Reply {
	for _, p := range tx.parameters {
		key, value, _ := strings.Cut(p, "=")
		switch key = strings.ToUpper(key); {
		case key == "SIZE" && s.offered("SIZE"):
			size, err := strconv.ParseUint(value, 10, 64) // RFC 1870 §5
			if err != nil || len(value) > 20 {
				return replyBadValue
			}
			if limit := s.mx.options.MaxSize; limit > 0 && size > uint64(limit) {
				return smtp.ReplyTooBig
			}
		case key == "BODY" && s.offered("8BITMIME"):
			if !strings.EqualFold(value, "7BIT") && !strings.EqualFold(value, "8BITMIME") {
				return replyBadValue
			}
		case key == "SMTPUTF8" && s.offered("SMTPUTF8"):
			tx.utf8 = true
		case key == "AUTH" && s.user != "":
		case (key == "RET" || key == "ENVID") && s.extended && s.mx.adds("DSN"):
		case s.extended && s.mx.adds(key):
		default:
			return replyParameter // RFC 5321 §4.1.1.11
		}
	}
	if !tx.utf8 && !tx.path.IsASCII() {
		return replyNeedUTF8
	}
	return smtp.Reply{}
}

func (s *session) rcpt(argument string) error {
	path, parameters, ok := splitPath(argument, "TO:")
	switch {
	case s.tx == nil || s.tx.meter != nil:
		return s.answer(StageRcpt, smtp.ReplyBadSequence)
	case !ok:
		return s.answer(StageRcpt, smtp.ReplySyntax)
	case len(s.tx.recipients) >= s.mx.options.MaxRecipients:
		return s.answer(StageRcpt, smtp.ReplyTooManyRecipients)
	}
	forward, err := smtp.ParseForwardPath(path)
	if err != nil {
		return s.answer(StageRcpt, smtp.ReplyBadForwardPath)
	}
	if forward.Domain == "" { // <postmaster>, RFC 5321 §4.5.1
		forward.Domain = s.mx.options.Hostname
	}
	if !s.tx.utf8 && !forward.IsASCII() {
		return s.answer(StageRcpt, replyNeedUTF8)
	}
	for _, p := range parameters {
		key, _, _ := strings.Cut(strings.ToUpper(p), "=")
		if !s.extended || !s.mx.adds("DSN") || (key != "NOTIFY" && key != "ORCPT") {
			return s.answer(StageRcpt, replyParameter)
		}
	}
	b := ForRecipient(forward.Local)
	r, err := s.give(s.ask(StageRcpt, b, forward.String()+"\x00"+s.tx.path.String()), replyRecipient)
	if err != nil {
		return err
	}
	if r.Positive() {
		s.tx.recipients = append(s.tx.recipients, recipient{Recipient{forward, parameters}, b})
	}
	return s.answer(StageRcpt, r)
}

func (s *session) data(argument string) error {
	switch {
	case argument != "":
		return s.answer(StagePredata, replyNoSuchParameter)
	case s.tx == nil || s.tx.meter != nil:
		return s.answer(StagePredata, smtp.ReplyBadSequence)
	case len(s.tx.recipients) == 0:
		return s.answer(StagePredata, replyNoRecipients)
	}
	r, err := s.begin(replyGo)
	if err != nil {
		return err
	}
	if err := s.answer(StagePredata, r); err != nil || s.tx == nil {
		return err
	}
	if err := s.receive(func(w io.Writer) error { return copyDot(w, s.r) }); err != nil {
		return err
	}
	s.record.octets(s.tx.meter.size)
	return s.finish()
}

// bdat takes one chunk. Its octets follow the command in any case and are
// consumed before it is answered (RFC 3030 §2).
func (s *session) bdat(argument string) error {
	digits, last, _ := strings.Cut(argument, " ")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 || (last != "" && !strings.EqualFold(last, "LAST")) {
		return s.refuseAndEnd(smtp.ReplySyntax) // what follows is octets or commands: nobody knows
	}
	r := replyChunk
	switch {
	case !s.offered("CHUNKING"):
		return s.refuseAndEnd(replyNotOffered)
	case s.tx == nil:
		r = smtp.ReplyBadSequence
	case len(s.tx.recipients) == 0:
		r = replyNoRecipients
	case s.tx.meter == nil:
		if r, err = s.begin(replyChunk); err != nil {
			return err
		}
	}
	if !r.Positive() {
		if err := copyChunk(io.Discard, s.r, size); err != nil {
			return err
		}
		return s.answer(StagePredata, r)
	}
	first := !s.tx.chunked
	s.tx.chunked = true
	take := func(w io.Writer) error { return copyChunk(w, s.r, size) }
	if first && size > 0 {
		err = s.receive(take)
	} else {
		err = take(s.tx.meter)
	}
	if err != nil {
		return err
	}
	s.record.octets(size)
	if last == "" {
		return s.reply(r)
	}
	return s.finish()
}

// begin opens the spool and returns the reply to DATA or to the first BDAT.
// Where that is a refusal the transaction is over.
func (s *session) begin(normal smtp.Reply) (smtp.Reply, error) {
	own, key := s.first(StagePredata)
	r, err := s.give(s.ask(StagePredata, own, key+"\x00"+s.tx.path.String()), normal)
	if err != nil {
		return r, err
	}
	if r.Code/100 != normal.Code/100 {
		s.reset()
		return r, nil
	}
	spool, err := s.mx.store.Begin()
	if err != nil {
		s.reset()
		return smtp.ReplyLocalError, nil
	}
	s.tx.meter = newMeter(spool, s.mx.options.MaxSize, !s.mx.options.NoDigest)
	return r, nil
}

// receive copies content into the meter; what was asked for in its middle
// happens when its first octet has arrived.
func (s *session) receive(copy func(io.Writer) error) error {
	if _, err := s.r.Peek(1); err != nil {
		return cutOff(err)
	}
	own, key := s.first(StageContent)
	r, err := s.give(s.ask(StageContent, own, key+"\x00"+s.tx.path.String()), smtp.Reply{})
	if err != nil {
		return err
	}
	if !r.IsZero() {
		return s.refuseAndEnd(r)
	}
	return copy(s.tx.meter)
}

// first is the behaviour of the first recipient that names the stage.
func (s *session) first(stage Stage) (own Behaviour, key string) {
	for _, r := range s.tx.recipients {
		if r.behaviour.Stage == stage {
			return r.behaviour, r.String()
		}
	}
	return Behaviour{}, ""
}

// delivery is the message with all of its recipients.
func (s *session) delivery() *Delivery {
	tx := s.tx
	d := &Delivery{
		Time: time.Now(), Session: s.id, RemoteAddr: s.remote, LocalAddr: s.local, Helo: s.helo, User: s.user,
		ReversePath: tx.path, Parameters: tx.parameters, Size: tx.meter.size, Header: tx.meter.header, Chunked: tx.chunked,
	}
	d.ContentSHA256, d.BodySHA256 = tx.meter.sums()
	if s.tls != nil {
		d.TLS, d.ServerName = tls.VersionName(s.tls.Version), s.tls.ServerName
	}
	return d
}

// answer replies and counts refusals.
func (s *session) answer(stage Stage, r smtp.Reply) error {
	if !r.Positive() && r.Code != replyGo.Code {
		s.mx.tally.add(func(c *Counts) {
			switch stage {
			case StageMail:
				c.RefusedMail++
			case StageRcpt:
				c.RefusedRcpt++
			default:
				c.RefusedData++
			}
		})
	}
	return s.reply(r)
}
