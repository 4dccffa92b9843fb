package ingress

import (
	"time"

	"github.com/postrider/postrider/shared/mail"
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
