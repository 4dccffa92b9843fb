package smtpclient

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/shared/smtp"
)

// Message is one mail transaction: an envelope and how to get at the content.
type Message struct {
	ReversePath smtp.ReversePath
	Recipients  []smtp.ForwardPath
	// Size is the exact length of the content in octets, not stuffed; 0 means
	// that it is not known, and then neither SIZE nor BDAT can be used.
	Size int64
	// Body8Bit says that the content has octets above 127 (RFC 6152).
	Body8Bit bool
	// HeaderUTF8 says that the header section needs SMTPUTF8 (RFC 6532).
	HeaderUTF8 bool
	// DSN asks for reports; nil means the defaults. It is left out where the
	// server does not offer DSN.
	DSN *DSN
	// Content opens the content: CRLF text, not dot-stuffed. It is asked at
	// most once, and only after the server accepted a recipient.
	Content func() (io.ReadCloser, error)
	// BeforeDot, if set, is asked when all but the end of the content was
	// handed over. Its error breaks the connection off instead of completing
	// the message.
	BeforeDot func(context.Context) error
	// AfterDot, if set, is called once our own system took the end of the
	// message for sending. Between the two a peer that does not read may keep
	// the end here for long; the end of the context still stops it.
	AfterDot func()
}

// Result is what became of a Message.
type Result struct {
	// Recipients has the outcome of each of Message.Recipients, in their order.
	Recipients []RecipientResult
	// DotSent says that the final dot, or the last octet of BDAT LAST, was
	// accepted by our own system for sending.
	DotSent bool
	// Unknown says that the dot was sent and a reply to it was lost or not
	// understood: those recipients whose Err is not a *smtp.Error may have the
	// message, and may get it twice if it is sent again.
	Unknown bool
	// Stale says that the server had closed a session used before, and saw
	// nothing of this message: it may be sent at once over another connection.
	Stale bool
	// Chunked says that the content went by BDAT.
	Chunked bool
}

// RecipientResult is the outcome for one recipient:
//
//   - Err is nil: accepted, and Reply is the server's last word on it.
//   - Err is a *smtp.Error: refused, and Reply is its reply.
//   - any other Err: no verdict, and Reply is empty.
type RecipientResult struct {
	Reply smtp.Reply
	Err   error
}

// What this package refuses by itself.
var (
	replyTooBig       = smtp.Reply{Code: 552, Enhanced: "3.4", Text: "Message size exceeds the limit of the destination"}
	replyNoUTF8Path   = smtp.Reply{Code: 553, Enhanced: "6.7", Text: "Destination does not support internationalised addresses"}
	replyNoUTF8Header = smtp.Reply{Code: 554, Enhanced: "6.9", Text: "Destination does not support internationalised headers"}
)

// refusal is why no server with these extensions can be given the message.
func (m *Message) refusal(e *Extensions) *smtp.Error {
	switch {
	case !m.ReversePath.IsNull() && !writable(m.ReversePath.Address):
		return smtp.Refuse(smtp.ReplyBadReversePath, errors.New("reverse-path cannot be written in a command"))
	case e.MaxSize > 0 && m.Size > e.MaxSize:
		return smtp.Refuse(replyTooBig, errors.New(strconv.FormatInt(m.Size, 10)+" octets, SIZE "+strconv.FormatInt(e.MaxSize, 10)))
	case !e.SMTPUTF8 && !m.ReversePath.IsASCII():
		return smtp.Refuse(replyNoUTF8Path, errors.New("SMTPUTF8 not offered, reverse-path needs it"))
	case !e.SMTPUTF8 && m.HeaderUTF8:
		return smtp.Refuse(replyNoUTF8Header, errors.New("SMTPUTF8 not offered, header section needs it"))
	}
	return nil
}

// pathRefusal is why a recipient cannot be named to such a server.
func pathRefusal(p smtp.ForwardPath, e *Extensions) *smtp.Error {
	switch {
	case !writable(p.Address):
		return smtp.Refuse(smtp.ReplyBadForwardPath, errors.New("forward-path cannot be written in a command"))
	case !e.SMTPUTF8 && !p.IsASCII():
		return smtp.Refuse(replyNoUTF8Path, errors.New("SMTPUTF8 not offered, forward-path needs it"))
	}
	return nil
}

// writable reports an address that stays inside its angle brackets. Parsed
// addresses always do; this one may have been put together.
func writable(a smtp.Address) bool {
	if a.Local == "" || a.Domain == "" || strings.ContainsAny(a.Domain, " <>\"") {
		return false
	}
	for _, s := range [...]string{a.Local, a.Domain} {
		if !utf8.ValidString(s) {
			return false
		}
		for i := range len(s) {
			if s[i] < ' ' || s[i] == 0x7f {
				return false
			}
		}
	}
	return true
}

// needsUTF8 reports that MAIL must carry SMTPUTF8 (RFC 6531 §3.4).
func (m *Message) needsUTF8() bool {
	if m.HeaderUTF8 || !m.ReversePath.IsASCII() {
		return true
	}
	for i := range m.Recipients {
		if !m.Recipients[i].IsASCII() {
			return true
		}
	}
	return false
}

// appendMail writes the MAIL command.
func appendMail(b []byte, m *Message, e *Extensions) []byte {
	b = append(b, "MAIL FROM:<"...)
	b = append(b, m.ReversePath.String()...)
	b = append(b, '>')
	if e.Size && m.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if e.EightBitMIME && m.Body8Bit {
		b = append(b, " BODY=8BITMIME"...)
	}
	if e.SMTPUTF8 && m.needsUTF8() {
		b = append(b, " SMTPUTF8"...)
	}
	if e.DSN && m.DSN != nil {
		b = m.DSN.appendMail(b)
	}
	return append(b, "\r\n"...)
}

// appendRcpt writes the RCPT command of recipient i.
func appendRcpt(b []byte, m *Message, i int, e *Extensions) []byte {
	b = append(b, "RCPT TO:<"...)
	b = append(b, m.Recipients[i].String()...)
	b = append(b, '>')
	if e.DSN && m.DSN != nil && i < len(m.DSN.Recipients) {
		b = m.DSN.Recipients[i].appendRcpt(b)
	}
	return append(b, "\r\n"...)
}
