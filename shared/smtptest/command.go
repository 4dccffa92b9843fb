package smtptest

import (
	"strings"

	"github.com/postrider/postrider/shared/smtp"
)

// splitCommand separates the verb, in upper case, from its argument.
func splitCommand(line string) (verb, argument string) {
	verb, argument, _ = strings.Cut(line, " ")
	return strings.ToUpper(verb), strings.TrimRight(argument, " ")
}

// splitPath separates the path of MAIL and RCPT from its parameters: keyword is
// "FROM:" or "TO:", in any case and without a space after it (RFC 5321 §4.1.1.2).
func splitPath(argument, keyword string) (path string, parameters []string, ok bool) {
	if len(argument) < len(keyword) || !strings.EqualFold(argument[:len(keyword)], keyword) {
		return "", nil, false
	}
	rest := argument[len(keyword):]
	end := pathEnd(rest)
	if end < 0 || (len(rest) > end && rest[end] != ' ') {
		return "", nil, false
	}
	return rest[:end], strings.Fields(rest[end:]), true
}

// pathEnd is the index after the ">" that closes the path, or -1. A ">" inside
// a quoted local part does not close it.
func pathEnd(s string) int {
	if !strings.HasPrefix(s, "<") {
		return -1
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == '>':
			return i + 1
		}
	}
	return -1
}

// Replies of an MX. Named ones of the product are used where they fit.
var (
	replyOK              = smtp.Reply{Code: 250, Enhanced: "0.0", Text: "OK"}
	replySender          = smtp.Reply{Code: 250, Enhanced: "1.0", Text: "Sender OK"}
	replyRecipient       = smtp.Reply{Code: 250, Enhanced: "1.5", Text: "Recipient OK"}
	replyGo              = smtp.Reply{Code: 354, Text: "End data with <CR><LF>.<CR><LF>"}
	replyStored          = smtp.Reply{Code: 250, Enhanced: "6.0", Text: "Message stored"}
	replyChunk           = smtp.Reply{Code: 250, Enhanced: "0.0", Text: "Octets received"}
	replyBye             = smtp.Reply{Code: 221, Enhanced: "0.0", Text: "Bye"}
	replyStartTLS        = smtp.Reply{Code: 220, Enhanced: "0.0", Text: "Ready to start TLS"}
	replyAuthenticated   = smtp.Reply{Code: 235, Enhanced: "7.0", Text: "Authentication successful"}
	replyCannotVerify    = smtp.Reply{Code: 252, Enhanced: "1.0", Text: "Cannot VRFY, try RCPT"}
	replyUnknown         = smtp.Reply{Code: 500, Enhanced: "5.1", Text: "Command not recognised"}
	replyNotOffered      = smtp.Reply{Code: 502, Enhanced: "5.1", Text: "Command not offered"}
	replyParameter       = smtp.Reply{Code: 555, Enhanced: "5.4", Text: "Parameter not offered"}
	replyBadValue        = smtp.Reply{Code: 501, Enhanced: "5.4", Text: "Bad value of a parameter"}
	replyLineEnd         = smtp.Reply{Code: 500, Enhanced: "5.2", Text: "A command line ends with CR LF"}
	replyNeedUTF8        = smtp.Reply{Code: 553, Enhanced: "6.7", Text: "Address needs SMTPUTF8"}
	replyNoRecipients    = smtp.Reply{Code: 503, Enhanced: "5.1", Text: "No valid recipients"}
	replyPipelined       = smtp.Reply{Code: 503, Enhanced: "5.0", Text: "PIPELINING was not offered"}
	replyInjected        = smtp.Reply{Code: 554, Enhanced: "7.0", Text: "Nothing may follow STARTTLS"}
	replyBadMechanism    = smtp.Reply{Code: 504, Enhanced: "5.4", Text: "Mechanism not offered"}
	replyAborted         = smtp.Reply{Code: 501, Enhanced: "0.0", Text: "Authentication cancelled"}
	replyBusy            = smtp.Reply{Code: 421, Enhanced: "4.5", Text: "Too many connections"}
	replyEnough          = smtp.Reply{Code: 421, Enhanced: "4.5", Text: "Too many messages on this connection"}
	replyNoSuchParameter = smtp.Reply{Code: 501, Enhanced: "5.4", Text: "No parameters here"}
)
