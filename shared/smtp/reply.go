package smtp

import (
	"errors"
	"strconv"
	"strings"
)

// Reply is one SMTP reply (RFC 5321 §4.2) with its enhanced status code (RFC
// 3463). The class of the status is that of Code; it is stored only there, so
// that the two cannot contradict each other.
type Reply struct {
	// Code is the three-digit reply code, for example 550.
	Code int `json:"code"`
	// Enhanced is subject and detail of the enhanced status code without its
	// class, for example "7.1". Empty means none was given.
	Enhanced Enhanced `json:"enhanced,omitempty"`
	// Text is the human-readable part, lines separated by "\n". Of a remote
	// server it is what that server said, without control characters and up to
	// a bound.
	Text string `json:"text,omitempty"`
}

// Enhanced is subject.detail of an enhanced status code (RFC 3463 §2),
// without the class digit.
type Enhanced string

// Positive reports a 2yz reply.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Transient reports a 4yz reply: trying again later may succeed.
func (r Reply) Transient() bool { return r.Code/100 == 4 }

// Permanent reports a 5yz reply.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// IsZero reports that there is no reply.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Status is the full enhanced status code, for example "5.7.1". Where the
// reply had none it is class ".0.0" (RFC 3463 §3.1), and "" for replies that
// carry no status (3yz, none).
func (r Reply) Status() string {
	class := r.Code / 100
	if class != 2 && class != 4 && class != 5 {
		return ""
	}
	if r.Enhanced == "" {
		return strconv.Itoa(class) + ".0.0"
	}
	return strconv.Itoa(class) + "." + string(r.Enhanced)
}

// String is the reply on one line: "550 5.7.1 text".
func (r Reply) String() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(r.Code))
	if r.Enhanced != "" {
		b.WriteByte(' ')
		b.WriteString(r.Status())
	}
	if r.Text != "" {
		b.WriteByte(' ')
		b.WriteString(strings.ReplaceAll(r.Text, "\n", " / "))
	}
	return b.String()
}

// ParseReply builds a Reply from a code and the text lines a server sent with
// it. An enhanced status code is recognised at the start of the first line
// and removed from every line that repeats it. A status whose class
// contradicts the code loses its class: the code decides (RFC 5321 §4.2.1).
func ParseReply(code int, lines []string) Reply {
	r := Reply{Code: code}
	if len(lines) == 0 {
		return r
	}
	prefix, enhanced := cutEnhanced(lines[0])
	out := make([]string, len(lines))
	for i, line := range lines {
		if prefix != "" {
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				line = strings.TrimPrefix(rest, " ")
			}
		}
		out[i] = line
	}
	r.Enhanced = enhanced
	r.Text = strings.Join(out, "\n")
	return r
}

// cutEnhanced recognises "c.sss.ddd" followed by a space or the end.
func cutEnhanced(line string) (prefix string, e Enhanced) {
	word, _, _ := strings.Cut(line, " ")
	class, rest, ok := strings.Cut(word, ".")
	if !ok || (class != "2" && class != "4" && class != "5") {
		return "", ""
	}
	subject, detail, ok := strings.Cut(rest, ".")
	if !ok || !threeDigits(subject) || !threeDigits(detail) {
		return "", ""
	}
	return word, Enhanced(rest)
}

func threeDigits(s string) bool {
	if len(s) == 0 || len(s) > 3 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Error is a Reply that refuses or delays mail. It is the only kind of error
// that may bounce a message, and only when its Reply is permanent.
type Error struct {
	// Reply is what was said to, or by, the peer.
	Reply Reply
	// RemoteMTA is the host that replied; empty when the reply is ours.
	RemoteMTA string
	// Err is the cause for our log. It never reaches a peer.
	Err error
}

// Error is the reply with its origin and cause, for the log.
func (e *Error) Error() string {
	s := e.Reply.String()
	if e.RemoteMTA != "" {
		s = e.RemoteMTA + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Refuse makes an Error of our own from a named reply.
func Refuse(r Reply, cause error) *Error { return &Error{Reply: r, Err: cause} }

// ReplyOf returns the Reply that an error carries anywhere in its chain.
// For every other error it returns fallback: our own trouble has a generic
// reply and leaks nothing.
func ReplyOf(err error, fallback Reply) Reply {
	var e *Error
	if errors.As(err, &e) {
		return e.Reply
	}
	return fallback
}
