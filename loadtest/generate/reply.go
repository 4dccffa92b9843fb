package generate

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// read returns the next reply, and its lines without the code.
func (s *session) read() (reply, []string, error) {
	return readReply(s.in)
}

var errSyntax = errors.New("reply is not SMTP")

const maxReplyLines = 100

// readReply reads one reply of one or more lines (RFC 5321 §4.2.1).
func readReply(in *bufio.Reader) (reply, []string, error) {
	var r reply
	var lines []string
	for len(lines) < maxReplyLines {
		raw, err := in.ReadSlice('\n')
		if err != nil {
			return reply{}, nil, fmt.Errorf("read reply: %w", err)
		}
		line := strings.TrimRight(string(raw), "\r\n")
		code, last, text, ok := cutCode(line)
		if !ok || len(lines) > 0 && code != r.code {
			return reply{}, nil, fmt.Errorf("%w: %.40q", errSyntax, line)
		}
		r.code = code
		lines = append(lines, text)
		if !last {
			continue
		}
		r.enhanced = enhanced(lines[0])
		texts := make([]string, len(lines))
		for i, text := range lines {
			if r.enhanced != "" {
				text = strings.TrimPrefix(text, r.enhanced)
			}
			texts[i] = strings.TrimSpace(text)
		}
		r.text = strings.Join(texts, " ")
		return r, lines, nil
	}
	return reply{}, nil, fmt.Errorf("%w: more than %d lines", errSyntax, maxReplyLines)
}

// cutCode takes "250-text", "250 text" or "250" apart.
func cutCode(line string) (code int, last bool, text string, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digits(line[:3]) {
		return 0, false, "", false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, true, "", true
	}
	return code, line[3] == ' ', line[4:], line[3] == ' ' || line[3] == '-'
}

// enhanced is the enhanced status code at the start of text, or "" (RFC 2034).
func enhanced(text string) string {
	word, _, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return ""
	}
	for _, part := range parts {
		if part == "" || len(part) > 3 || !digits(part) {
			return ""
		}
	}
	return word
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// queueID is the word after "queued as", or "".
func queueID(text string) string {
	_, after, ok := strings.Cut(text, "queued as ")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(after, " ")
	return strings.TrimRight(id, ".,;)")
}
