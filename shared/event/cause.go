package event

import (
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/smtp"
)

// The rules of refusals that are none of authorization: what Refusal.Rule says
// then. The names of package wire's kinds are among them.
const (
	CauseAuth        = "auth"
	CauseCommand     = "command"
	CauseConnections = "connections"
	CauseErrors      = "errors"
	CauseForeign     = "foreign"
	CauseHandshake   = "handshake"
	CauseInjection   = "injection"
	CauseNoMail      = "no-mail"
	CausePath        = "path"
	CauseSequence    = "sequence"
	CauseSize        = "size"
	CauseSyntax      = "syntax"
	CauseTimeout     = "timeout"
	CauseTLSMismatch = "tls-mismatch"

	CauseCredentials = "credentials"
	CauseMechanism   = "mechanism"
	CauseFull        = "store-full"
	CauseTrouble     = "trouble"
	CauseClientLost  = "client-lost"
	CauseNewlines    = "newlines"
	CauseHeader      = "header-size"
	CauseLoop        = "loop"
)

// Causes are what stops mail before anybody asks whether it may pass: the
// connection, TLS, the conversation, the form of a message, our own trouble.
func Causes() []authz.Rule {
	return []authz.Rule{
		{Name: CauseConnections, Switch: "listeners[].limits", About: "a listener has so many connections, and so many from one address",
			Fix: "let the device close its connections, and connect again later; a scanner of ports or a loop in a script opens too many"},
		{Name: CauseHandshake, Switch: "listeners[].tls_minimum", About: "TLS could not be agreed on, or the client rejected our certificate",
			Fix: "update the device's firmware; let it trust the issuer of the relay's certificate and call the relay by the name in it; an old device needs legacy TLS in its registration, or port 25 without encryption"},
		{Name: CauseTLSMismatch, About: "a port speaks either TLS at once or STARTTLS",
			Fix: "on port 465 choose SSL/TLS, on ports 25 and 587 choose STARTTLS (some devices call the first SSL, the second TLS)"},
		{Name: CauseForeign, About: "this port speaks SMTP, and the client spoke another protocol", Fix: "set the device to SMTP, or take the relay out of what the program asks"},
		{Name: CauseErrors, About: "a session that makes only mistakes is ended", Fix: "see the refusals before this one: postrider explain with the address of the device"},
		{Name: CauseInjection, About: "nothing is sent before the reply that has to be waited for",
			Fix: "update the device or program: it sends ahead of DATA or STARTTLS, or ends lines with LF alone, as attacks do"},
		{Name: CauseNoMail, About: "a client that connects sends something; nothing was refused here",
			Fix: "look at the device: it left by itself. After TLS, it often does not trust the relay's certificate or finds another name in it; a test of the connection and a monitor look like this, too"},
		{Name: CauseSequence, About: "commands come in the order of RFC 5321", Fix: "update the device or program; if MAIL was refused before, the reason is with that refusal"},
		{Name: CauseSyntax, About: "a command has the form of RFC 5321", Fix: "look for odd characters in the settings of the device: its host name, its sender, its user name"},
		{Name: CauseCommand, About: "a command or a parameter that the relay does not have", Fix: "switch the extension off in the device or program, or update it"},
		{Name: CausePath, About: "a sender and a recipient are addresses as local@domain", Fix: "correct the address in the settings or the address book of the device; it needs a domain and no spaces"},
		{Name: CauseTimeout, About: "a client may not be silent for minutes", Fix: "look for a firewall or a bad cable between device and relay; let the device send again"},
		{Name: CauseAuth, About: "AUTH needs TLS, and a listener that offers it", Fix: "switch encryption (STARTTLS or SSL/TLS) on together with authentication, or switch both off and use port 25 from a registered address"},
		{Name: CauseMechanism, About: "AUTH has the mechanisms PLAIN and LOGIN", Fix: "choose LOGIN or PLAIN in the device; CRAM-MD5 and NTLM are not offered"},
		{Name: CauseCredentials, About: "user name and password must be those of a credential", Fix: "type user name and password again; a new password is made with: postrider credential rotate"},
		{Name: CauseSize, Switch: "limits.message_size", About: "a message has a largest size", Fix: "scan at a lower resolution, or send it in parts"},
		{Name: CauseNewlines, About: "lines of a message end in CR LF, and it has no NUL", Fix: "update the device or program; a device that nobody can update can be registered to be repaired (quirks: repair_newlines)"},
		{Name: CauseHeader, About: "the header of a message is not larger than the relay holds back", Fix: "shorten the header: most often a list of recipients or a reference chain of thousands"},
		{Name: CauseLoop, About: "a message has not passed too many servers", Fix: "look for a forward that leads back: the Received fields of the message name the servers"},
		{Name: CauseClientLost, About: "a client sends its message to the end", Fix: "look for a bad line, a power saver or a firewall at the device; let it send again"},
		{Name: CauseFull, About: "the relay has room for what it takes", Fix: "wait and send again; the operator makes room: postrider status"},
		{Name: CauseTrouble, About: "the relay could do its work", Fix: "wait and send again; the operator sees what is wrong: postrider status"},
	}
}

// CauseOf is the cause of a content that is refused with a reply of ours.
func CauseOf(r smtp.Reply) string {
	switch r {
	case smtp.ReplyBareNewline:
		return CauseNewlines
	case smtp.ReplyHeaderTooBig:
		return CauseHeader
	case smtp.ReplyLoop:
		return CauseLoop
	case smtp.ReplyTooBig:
		return CauseSize
	}
	return CauseSyntax
}

// Cause is the rule that refused, of authorization or of Causes, with what it
// wants and what can be done. ok is false for one that this release does not
// know.
func (r *Refusal) Cause() (rule authz.Rule, ok bool) {
	for _, list := range [][]authz.Rule{authz.Catalog(), Causes()} {
		for _, rule := range list {
			if rule.Name == r.Rule {
				return rule, true
			}
		}
	}
	return authz.Rule{Name: r.Rule}, false
}

// Decidable reports a refusal of authorization: its facts can be decided again.
func (r *Refusal) Decidable() bool {
	for _, rule := range authz.Catalog() {
		if rule.Name == r.Rule && r.Stage != r.Rule { // wire's kinds are their own stage
			return true
		}
	}
	return false
}
