package smtpclient

import (
	"strconv"
	"strings"
)

// Extensions is what a server offered in its reply to EHLO (RFC 5321
// §4.1.1.1). All false means that it knows HELO only.
type Extensions struct {
	Name         string   // what the server calls itself
	Size         bool     // RFC 1870
	MaxSize      int64    // octets; 0 means that no limit was named
	Pipelining   bool     // RFC 2920
	Chunking     bool     // RFC 3030
	EightBitMIME bool     // RFC 6152
	SMTPUTF8     bool     // RFC 6531
	StartTLS     bool     // RFC 3207
	DSN          bool     // RFC 3461
	RequireTLS   bool     // RFC 8689
	Auth         []string // SASL mechanisms in upper case (RFC 4954)
	Limits       Limits   // RFC 9422
}

// Limits are the numbers a server asks its clients to respect (RFC 9422 §4).
// Zero means that none was named.
type Limits struct {
	MailMax       int // transactions in a session
	RcptMax       int // recipients in a transaction
	RcptDomainMax int // different recipient domains in a session
}

// parseExtensions reads the lines of an EHLO reply. What it does not know or
// cannot read it leaves out (RFC 5321 §4.1.1.1: ignore the unknown).
func parseExtensions(text []byte) Extensions {
	var e Extensions
	first := true
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if first {
			first = false
			if len(words) > 0 {
				e.Name = printable([]byte(words[0]))
			}
			continue
		}
		if len(words) > 0 {
			e.add(strings.ToUpper(words[0]), words[1:])
		}
	}
	return e
}

func (e *Extensions) add(keyword string, params []string) {
	switch keyword {
	case "SIZE":
		e.Size = true
		if len(params) > 0 {
			if n, err := strconv.ParseInt(params[0], 10, 64); err == nil && n > 0 {
				e.MaxSize = n
			}
		}
	case "PIPELINING":
		e.Pipelining = true
	case "CHUNKING":
		e.Chunking = true
	case "8BITMIME":
		e.EightBitMIME = true
	case "SMTPUTF8":
		e.SMTPUTF8 = true
	case "STARTTLS":
		e.StartTLS = true
	case "DSN":
		e.DSN = true
	case "REQUIRETLS":
		e.RequireTLS = true
	case "AUTH":
		for _, m := range params {
			e.Auth = append(e.Auth, strings.ToUpper(m))
		}
	case "LIMITS":
		for _, p := range params {
			e.Limits.add(p)
		}
	default:
		// "AUTH=LOGIN PLAIN" is the form from before RFC 2554.
		if m, ok := strings.CutPrefix(keyword, "AUTH="); ok && e.Auth == nil {
			e.add("AUTH", append([]string{m}, params...))
		}
	}
}

// add reads one limit: a name and one to six digits (RFC 9422 §3).
func (l *Limits) add(param string) {
	name, value, ok := strings.Cut(param, "=")
	n, err := strconv.Atoi(value)
	if !ok || err != nil || n < 1 || n > 999999 {
		return
	}
	switch strings.ToUpper(name) {
	case "MAILMAX":
		l.MailMax = n
	case "RCPTMAX":
		l.RcptMax = n
	case "RCPTDOMAINMAX":
		l.RcptDomainMax = n
	}
}
