package ingress

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// complete appends the fields that the message lacks and a submission server
// may add (RFC 6409 §8.2, §8.3), and returns the message's Message-ID.
func complete(fields []byte, header mail.Header, id mail.QueueID, hostname string, at time.Time) ([]byte, string) {
	if !header.Has("Date") {
		fields = append(fields, "Date: "...)
		fields = append(fields, mail.FormatDate(at)...)
		fields = append(fields, "\r\n"...)
	}
	if header.Has("Message-ID") { // an empty one stays: two would be worse (RFC 5322 §3.6)
		return fields, header.Get("Message-ID")
	}
	messageID := "<" + string(id) + "@" + hostname + ">"
	fields = append(fields, "Message-ID: "...)
	fields = append(fields, messageID...)
	return append(fields, "\r\n"...), messageID
}

// readHeader reads until the header section has ended, at most mail.MaxHeader
// octets of it. It returns what was read, the header in it, and the offset of
// the body in it. It looks for the end each time the buffer is full: a client
// that sends octet by octet costs no more than one that does not.
func readHeader(content io.Reader) (start []byte, header mail.Header, body int, err error) {
	buf := make([]byte, 0, 8<<10)
	for {
		var n int
		for err == nil && len(buf) < cap(buf) {
			n, err = content.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
		}
		final := errors.Is(err, io.EOF)
		if err != nil && !final {
			return nil, nil, 0, err
		}
		header, body, incomplete := mail.SplitHeader(buf, final)
		if incomplete == nil && len(header) <= mail.MaxHeader {
			return buf, header, body, nil
		}
		if len(buf) > mail.MaxHeader {
			return nil, nil, 0, smtp.Refuse(smtp.ReplyHeaderTooBig, nil)
		}
		buf = slices.Grow(buf, cap(buf))
	}
}
