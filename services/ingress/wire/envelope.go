package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

var (
	errPath      = errors.New("no path")
	errNonASCII  = errors.New("address needs SMTPUTF8")
	errParameter = errors.New("bad parameter")
	errTooMany   = errors.New("the message has its recipients")
)

// mailLine makes what follows "MAIL FROM:" canonical.
func (c *Conn) mailLine(argument []byte) (line string, r smtp.Reply, err error) {
	text, parameters, err := cutPath(string(argument), "FROM")
	if err != nil {
		return "", replyOfPath(argument, smtp.ReplyBadReversePath), err
	}
	path, err := smtp.ParseReversePath(c.completed(text))
	if err == nil && !path.IsASCII() {
		err = errNonASCII
	}
	if err != nil {
		return "", replyOfPath(argument, smtp.ReplyBadReversePath), err
	}
	list, r, err := c.parameters(parameters, c.mailParameter)
	return path.Bracketed() + list, r, err
}

// rcptLine makes what follows "RCPT TO:" canonical.
func (c *Conn) rcptLine(argument []byte) (line string, r smtp.Reply, err error) {
	text, parameters, err := cutPath(string(argument), "TO")
	if err != nil {
		return "", replyOfPath(argument, smtp.ReplyBadForwardPath), err
	}
	c.partial = ""
	path, err := smtp.ParseForwardPath(text)
	if err != nil {
		path, err = smtp.ParseForwardPath(c.completed(text))
	}
	if err == nil && !path.IsASCII() {
		err = errNonASCII
	}
	if err != nil {
		return "", replyOfPath(argument, smtp.ReplyBadForwardPath), err
	}
	if path.Domain == "" { // RFC 5321 §4.5.1
		path.Domain = strings.ToLower(c.link.listener.cfg.Hostname)
	}
	list, r, err := c.parameters(parameters, c.rcptParameter)
	return path.Bracketed() + list, r, err
}

// cutPath finds the path behind "FROM:" or "TO:" and gives it its brackets. It
// accepts spaces around the colon and inside the brackets, and missing brackets,
// as long as there is one reading only.
func cutPath(argument, keyword string) (path, parameters string, err error) {
	if len(argument) < len(keyword) || !strings.EqualFold(argument[:len(keyword)], keyword) {
		return "", "", fmt.Errorf("%w: no %s:", errPath, keyword)
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(argument[len(keyword):], " "), ":")
	if !ok {
		return "", "", fmt.Errorf("%w: no colon after %s", errPath, keyword)
	}
	rest = strings.TrimLeft(rest, " ")
	inner, bracketed := strings.CutPrefix(rest, "<")
	if bracketed {
		inner = strings.TrimLeft(inner, " ")
	}
	end := pathEnd(inner)
	path, rest = inner[:end], inner[end:]
	if bracketed {
		rest = strings.TrimPrefix(strings.TrimLeft(rest, " "), ">")
	}
	if !bracketed && path == "" || rest != "" && strings.IndexByte(">,;<", rest[0]) >= 0 {
		return "", "", fmt.Errorf("%w: unbalanced brackets", errPath)
	}
	return "<" + path + ">", rest, nil
}

// pathEnd is the first space or closing bracket outside quotes.
func pathEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case (s[i] == ' ' || s[i] == '>') && !quoted:
			return i
		}
	}
	return len(s)
}

// completed adds the domain to a path that is a local part alone.
func (c *Conn) completed(path string) string {
	c.partial = ""
	if c.domain == "" || path == "<>" || strings.Contains(path, "@") {
		return path
	}
	c.partial = path[1 : len(path)-1]
	return "<" + c.partial + "@" + c.domain + ">"
}

// replyOfPath says that an address needs SMTPUTF8, which is not offered (RFC
// 6531 §3.5), or that it is none.
func replyOfPath(argument []byte, otherwise smtp.Reply) smtp.Reply {
	if hasHighBit(argument) {
		return replyNonASCII
	}
	return otherwise
}

// kindOfPath tells a refusal for size from one for the path.
func kindOfPath(r smtp.Reply) string {
	if r == smtp.ReplyTooBig {
		return KindSize
	}
	return KindPath
}

// verdict on one parameter: the form to pass on, "" to drop it.
type parameterCheck func(key, value string) (forward string, r smtp.Reply, err error)

// parameters checks the ESMTP parameters of MAIL or RCPT (RFC 5321 §4.1.2).
func (c *Conn) parameters(text string, check parameterCheck) (list string, r smtp.Reply, err error) {
	var seen []string
	for word := range strings.FieldsSeq(text) {
		key, value, valued := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		if valued && (value == "" || strings.Contains(value, "=")) || hasHighBit([]byte(word)) || slices.Contains(seen, key) {
			return "", replyParameterValue, fmt.Errorf("%w: %s", errParameter, key)
		}
		seen = append(seen, key)
		forward, r, err := check(key, value)
		if err != nil {
			return "", r, err
		}
		if forward != "" {
			list += " " + forward
		}
	}
	return list, smtp.Reply{}, nil
}

func (c *Conn) mailParameter(key, value string) (forward string, r smtp.Reply, err error) {
	switch key {
	case "SIZE":
		return c.sizeParameter(value)
	case "BODY": // RFC 6152 §2
		if v := strings.ToUpper(value); v == "7BIT" || v == "8BITMIME" {
			return "BODY=" + v, r, nil
		}
	case "AUTH": // RFC 4954 §5: taken as AUTH=<>
		if value != "" {
			return "", r, nil
		}
		return "", replyParameterValue, fmt.Errorf("%w: empty AUTH", errParameter)
	case "RET", "ENVID": // RFC 3461 §4.3, §4.4
		if c.link.listener.cfg.DSN {
			return key + "=" + value, r, nil
		}
	}
	return "", replyParameter, fmt.Errorf("%w: %s", errParameter, key)
}

func (c *Conn) rcptParameter(key, value string) (forward string, r smtp.Reply, err error) {
	switch key {
	case "NOTIFY", "ORCPT": // RFC 3461 §4.1, §4.2
		if c.link.listener.cfg.DSN {
			return key + "=" + value, r, nil
		}
	}
	return "", replyParameter, fmt.Errorf("%w: %s", errParameter, key)
}

// sizeParameter compares the announced size with the limit (RFC 1870 §6.1). The
// value has up to 20 digits; go-smtp reads 32 bits, and so gets no more.
func (c *Conn) sizeParameter(value string) (forward string, r smtp.Reply, err error) {
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return "", replyParameterValue, fmt.Errorf("%w: SIZE", errParameter)
	}
	size, err := strconv.ParseUint(value, 10, 64)
	if err != nil || size > uint64(c.limit) {
		return "", smtp.ReplyTooBig, errTooBig
	}
	return "SIZE=" + strconv.FormatUint(min(size, math.MaxUint32), 10), r, nil
}
