package wire

import (
	"bytes"

	"github.com/postrider/postrider/shared/smtp"
)

// verb is a command name in upper case, or "".
type verb string

// The commands that wire knows. What is not here never reaches go-smtp.
const (
	verbAuth     verb = "AUTH"
	verbBdat     verb = "BDAT"
	verbData     verb = "DATA"
	verbEhlo     verb = "EHLO"
	verbExpn     verb = "EXPN"
	verbHelo     verb = "HELO"
	verbHelp     verb = "HELP"
	verbMail     verb = "MAIL"
	verbNoop     verb = "NOOP"
	verbQuit     verb = "QUIT"
	verbRcpt     verb = "RCPT"
	verbRset     verb = "RSET"
	verbStarttls verb = "STARTTLS"
	verbVrfy     verb = "VRFY"
)

// longestVerb is that of foreign ones, too.
const longestVerb = len("STARTTLS")

// cutVerb splits a command line. Spaces and tabs around it are no part of it; a
// tab inside is a control character.
func cutVerb(line []byte) (name verb, argument []byte) {
	line = bytes.Trim(line, " \t")
	word, argument, _ := bytes.Cut(line, space)
	if len(word) > longestVerb {
		return "", argument
	}
	var upper [longestVerb]byte
	for i, b := range word {
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		upper[i] = b
	}
	return knownVerb(upper[:len(word)]), bytes.TrimLeft(argument, " ")
}

func knownVerb(upper []byte) verb {
	switch v := verb(upper); v {
	case verbMail, verbRcpt, verbData, verbBdat, verbRset, verbNoop, verbQuit, verbHelo, verbEhlo,
		verbAuth, verbStarttls, verbVrfy, verbExpn, verbHelp:
		return v
	}
	return ""
}

// isForeign recognises the first line of another protocol, HTTP above all: a
// browser or a confused device, or a cross-protocol attack.
func isForeign(line []byte) bool {
	word, rest, ok := bytes.Cut(line, space)
	if !ok {
		return false
	}
	switch string(word) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE":
		return bytes.Contains(rest, []byte("HTTP/")) || bytes.HasPrefix(rest, []byte("/"))
	}
	return false
}

var space = []byte(" ")

// hasControl reports a control character: nothing that go-smtp, a log or a
// header should see.
func hasControl(line []byte) bool {
	for _, b := range line {
		if b < ' ' || b == 0x7f {
			return true
		}
	}
	return false
}

func hasHighBit(s []byte) bool {
	for _, b := range s {
		if b >= 0x80 {
			return true
		}
	}
	return false
}

// checkLine finds what is wrong with a whole command line.
func checkLine(line []byte, name verb) (smtp.Reply, bool) {
	trimmed := bytes.Trim(line, " \t")
	switch {
	case len(line) > maxCommandLine-len(crlf) && (name != verbAuth || len(line) > maxAuthLine):
		return replyLineTooLong, false
	case hasControl(trimmed):
		return replyControl, false
	case name == "":
		return replyUnknownCommand, false
	case hasHighBit(trimmed) && name != verbMail && name != verbRcpt && name != verbHelo && name != verbEhlo:
		return replyEightBit, false
	}
	return smtp.Reply{}, true
}
