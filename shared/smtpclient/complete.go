package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/postrider/postrider/shared/smtp"
)

// contentVerb is what errors call the content and its end.
const contentVerb = "the content"

// content sends the content to the end, by DATA or by one BDAT LAST.
func (t *transaction) content(ctx context.Context) error {
	if t.in.in.Buffered() > 0 {
		return t.flush(contentVerb) // says what is wrong
	}
	if t.res.Chunked {
		line := append(t.out.AvailableBuffer(), "BDAT "...)
		t.out.Write(append(strconv.AppendInt(line, t.m.Size, 10), " LAST\r\n"...))
	}
	err := transfer(ctx, t.out, t.m, !t.res.Chunked)
	var lost writeError
	if errors.As(err, &lost) {
		return t.cutOff(lost.error)
	}
	if err != nil {
		return fmt.Errorf("send message to %s: %w", t.remote, err)
	}
	if !t.res.Chunked {
		io.WriteString(t.out, ".\r\n")
	}
	err = t.out.Flush()
	// What is still in the buffer was not taken by the system: the server
	// cannot have seen the end.
	t.res.DotSent = t.out.Buffered() == 0
	if t.res.DotSent && t.m.AfterDot != nil {
		t.m.AfterDot()
	}
	if err != nil {
		return t.cutOff(err)
	}
	return nil
}

// cutOff is the end of content that the server did not want to the end. It may
// have said why, and only the message can be meant.
func (t *transaction) cutOff(err error) error {
	if code := t.parting(err); code/100 == 4 || code/100 == 5 {
		return t.refusal(contentVerb)
	}
	return t.lost(contentVerb, err)
}

// final reads the replies to the content: one, or with LMTP one for each
// recipient that was accepted (RFC 2033 §4.2).
func (t *transaction) final() error {
	for t.next < len(t.res.Recipients) {
		if t.res.Recipients[t.next].Err != nil {
			t.next++
			continue
		}
		verdict, err := t.lastWord()
		if err != nil {
			return err
		}
		end := len(t.res.Recipients)
		if t.cfg.LMTP {
			end = t.next + 1
		}
		t.conclude(end, verdict)
	}
	return nil
}

// lastWord reads one reply to the content.
func (t *transaction) lastWord() (*smtp.Error, error) {
	code, err := t.read(contentVerb, t.cfg.Timeouts.Dot)
	if err != nil {
		return nil, err
	}
	// After DATA the transaction is over, whatever the reply (RFC 5321
	// §4.1.1.4); a refused BDAT leaves that to RSET (RFC 3030 §2).
	t.dirty = t.res.Chunked && code/100 != 2
	if code/100 == 4 || code/100 == 5 {
		return t.refusal(contentVerb), nil
	}
	return nil, t.want(2, code, contentVerb)
}

// conclude gives the open recipients up to end the last reply.
func (t *transaction) conclude(end int, verdict *smtp.Error) {
	reply := t.in.reply()
	for ; t.next < end; t.next++ {
		r := &t.res.Recipients[t.next]
		switch {
		case r.Err != nil:
		case verdict != nil:
			*r = RecipientResult{reply, verdict}
		default:
			r.Reply = reply
		}
	}
}

// loneDot ends the DATA of a server that said 354 although it accepted no
// recipient (RFC 2920 §3.1). Whatever it replies concerns nobody. An LMTP
// server would not reply at all (RFC 2033 §4.2), so that one is left.
func (t *transaction) loneDot() {
	if t.cfg.LMTP {
		t.fail(fmt.Errorf("send DATA to %s: %w: 354 without a recipient", t.remote, ErrProtocol))
		return
	}
	io.WriteString(t.out, ".\r\n")
	err := t.flush("the lone dot")
	if err == nil {
		_, err = t.read("the lone dot", t.cfg.Timeouts.Dot)
	}
	if err != nil {
		t.fail(err)
	}
	t.dirty = true
}
