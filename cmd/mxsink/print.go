package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/postrider/postrider/shared/smtptest"
)

// printer is a store that prints one line for each message.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) Begin() (smtptest.Spool, error) { return &printed{p}, nil }

type printed struct{ printer *printer }

func (p *printed) Write(b []byte) (int, error) { return len(b), nil }

func (p *printed) Discard() {}

// Commit prints. That a line could not be written is no reason to refuse mail.
func (p *printed) Commit(d *smtptest.Delivery) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s %s ->", d.Time.Format("15:04:05.000"), d.RemoteAddr, d.ReversePath.Bracketed())
	for _, r := range d.Recipients {
		line.WriteString(" " + r.Bracketed())
	}
	fmt.Fprintf(&line, " %d octets", d.Size)
	if d.TLS != "" {
		line.WriteString(", " + d.TLS)
	}
	if id := d.MessageID(); id != "" {
		line.WriteString(", " + id)
	}
	if !d.Acknowledged {
		line.WriteString(", no reply given")
	}
	p.printer.mu.Lock()
	defer p.printer.mu.Unlock()
	_, _ = io.WriteString(p.printer.w, printable(line.String())+"\n")
	return nil
}

// printable replaces what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// printSummary says what happened in elapsed.
func printSummary(w io.Writer, c smtptest.Counts, elapsed time.Duration) {
	fmt.Fprintf(w, "%d messages (%d without a reply) for %d recipients, %d octets, in %.1f s\n",
		c.Stored, c.Unacknowledged, c.Recipients, c.Octets, elapsed.Seconds())
	fmt.Fprintf(w, "%d connections, at most %d at a time; refused %d MAIL, %d RCPT, %d DATA; %d dropped as told, %d cut off\n",
		c.Connections, c.PeakOpen, c.RefusedMail, c.RefusedRcpt, c.RefusedData, c.Dropped, c.CutOff)
}
