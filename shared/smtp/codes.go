package smtp

// Named replies. Texts are at most one line, ASCII, and leak nothing. Those
// that ingress sends about authorization get a mail.Ref in front.
var (
	// ReplyStoreFull: the store has no room (RFC 3463 X.3.1).
	ReplyStoreFull = Reply{452, "3.1", "Insufficient system storage, try again later"}
	// ReplyStoreDown: the store did not acknowledge in time (RFC 3463 X.3.0).
	ReplyStoreDown = Reply{451, "3.0", "Temporary failure, message not accepted, try again later"}
	// ReplyLocalError is the default for every error that carries no reply.
	ReplyLocalError = Reply{451, "3.0", "Temporary local problem, try again later"}
	// ReplyShutdown: the service is stopping (RFC 5321 §3.8, §4.2.3).
	ReplyShutdown = Reply{421, "3.2", "Service is shutting down, try again"}
	// ReplyTimeout: the client was silent for too long (RFC 5321 §4.5.3.2).
	ReplyTimeout = Reply{421, "4.2", "Timeout, closing connection"}
	// ReplyTooManyErrors closes a session that makes only mistakes.
	ReplyTooManyErrors = Reply{421, "7.0", "Too many errors, closing connection"}
	// ReplyTooBig: the message is larger than the limit (RFC 1870 §6.1).
	ReplyTooBig = Reply{552, "3.4", "Message size exceeds the limit"}
	// ReplyTooManyRecipients (RFC 5321 §4.5.3.1.10).
	ReplyTooManyRecipients = Reply{452, "5.3", "Too many recipients"}
	// ReplyBareNewline: bare CR, bare LF or NUL in the content.
	ReplyBareNewline = Reply{550, "6.0", "Bare CR, LF or NUL in message is not allowed"}
	// ReplyHeaderTooBig: the header section is over the limit.
	ReplyHeaderTooBig = Reply{552, "3.4", "Header section too large"}
	// ReplyLineTooLong (RFC 5321 §4.5.3.1.4).
	ReplyLineTooLong = Reply{500, "5.2", "Line too long"}
	// ReplyBadReversePath: MAIL FROM is no address.
	ReplyBadReversePath = Reply{501, "1.7", "Sender must be written name@domain"}
	// ReplyBadForwardPath: RCPT TO is no address.
	ReplyBadForwardPath = Reply{501, "1.3", "Recipient must be written name@domain"}
	// ReplySyntax: a command that cannot be read.
	ReplySyntax = Reply{501, "5.2", "Syntax error in command or arguments"}
	// ReplyBadSequence (RFC 5321 §4.3.2).
	ReplyBadSequence = Reply{503, "5.1", "Bad sequence of commands"}
	// ReplyLoop: too many Received fields (RFC 5321 §6.3).
	ReplyLoop = Reply{554, "4.6", "Too many hops, mail loop suspected"}
	// ReplyTLSRequired (RFC 3207 §4).
	ReplyTLSRequired = Reply{530, "7.0", "Must issue a STARTTLS command first"}
	// ReplyAuthRequired (RFC 4954 §6).
	ReplyAuthRequired = Reply{530, "7.0", "Authentication required"}
	// ReplyAuthFailed (RFC 4954 §6).
	ReplyAuthFailed = Reply{535, "7.8", "Wrong user name or password"}
	// ReplyAuthMechanism: a mechanism that is not there (RFC 4954 §4).
	ReplyAuthMechanism = Reply{504, "5.4", "Use AUTH PLAIN or LOGIN"}
	// ReplyAuthUnavailable: the authority did not answer (RFC 4954 §6).
	ReplyAuthUnavailable = Reply{454, "7.0", "Temporary authentication failure"}

	// ReplyNullMX: the domain accepts no mail (RFC 7505 §4.2).
	ReplyNullMX = Reply{556, "1.10", "Recipient domain accepts no mail (null MX)"}
	// ReplyNoSuchDomain: the domain does not exist.
	ReplyNoSuchDomain = Reply{550, "1.2", "Recipient domain does not exist"}
	// ReplyNoRoute: the domain exists but has neither MX nor address.
	ReplyNoRoute = Reply{550, "1.2", "Recipient domain has no mail server"}
	// ReplyDNSTrouble: the DNS gave no answer.
	ReplyDNSTrouble = Reply{451, "4.3", "Temporary DNS failure"}
	// ReplyNoConnection: no host of the destination could be reached.
	ReplyNoConnection = Reply{451, "4.1", "No mail server of the destination answered"}
	// ReplyConnectionLost: the session broke off (RFC 3463 X.4.2).
	ReplyConnectionLost = Reply{451, "4.2", "Connection to the destination was lost"}
	// ReplyTLSUnavailable: the destination must be encrypted and cannot be.
	ReplyTLSUnavailable = Reply{451, "7.10", "Encryption needed but not available"}
	// ReplyExpired: the lifetime ended (RFC 3463 X.4.7).
	ReplyExpired = Reply{554, "4.7", "Delivery time expired"}
	// ReplyMailLoop: the next hop is this relay (RFC 3463 X.4.6).
	ReplyMailLoop = Reply{554, "4.6", "Mail for this destination loops back to this relay"}
)
