package sink

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
)

// ErrNoReport is wrapped by every error of ParseReport.
var ErrNoReport = errors.New("no delivery status notification")

// RecipientStatus is one group of per-recipient fields (RFC 3464 §2.3).
type RecipientStatus struct {
	// Recipient is the Original-Recipient, or else the Final-Recipient,
	// without its address type.
	Recipient string
	// Action is failed, delayed, delivered, relayed or expanded, in lower
	// case.
	Action string
	// Status is the enhanced status code (RFC 3463).
	Status string
}

// ParseReport reads a multipart/report message (RFC 6522) and returns at
// least one recipient's status, or ErrNoReport.
func ParseReport(message []byte) ([]RecipientStatus, error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoReport, err)
	}
	media, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/report" {
		return nil, fmt.Errorf("%w: content type %q", ErrNoReport, media)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			return nil, fmt.Errorf("%w: no delivery-status part: %w", ErrNoReport, err)
		}
		media, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if media == "message/delivery-status" || media == "message/global-delivery-status" {
			return parseStatus(part)
		}
	}
}

// parseStatus reads the per-message group of fields and then the
// per-recipient groups, which are parted by empty lines (RFC 3464 §2.1).
func parseStatus(part io.Reader) ([]RecipientStatus, error) {
	fields := textproto.NewReader(bufio.NewReader(part))
	var out []RecipientStatus
	for {
		group, err := fields.ReadMIMEHeader()
		if action := group.Get("Action"); action != "" {
			recipient := group.Get("Original-Recipient")
			if recipient == "" {
				recipient = group.Get("Final-Recipient")
			}
			if _, address, typed := strings.Cut(recipient, ";"); typed {
				recipient = address
			}
			out = append(out, RecipientStatus{
				Recipient: strings.TrimSpace(recipient),
				Action:    strings.ToLower(action),
				Status:    group.Get("Status"),
			})
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) || len(out) == 0 {
			return nil, fmt.Errorf("%w: read delivery status: %w", ErrNoReport, err)
		}
		return out, nil
	}
}
