package wire

import (
	"crypto/tls"
	"net"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/shared/smtp"
)

// Config is what one listener allows. Zero values mean the defaults named with
// each field.
type Config struct {
	// Hostname is the name in the greeting and in the EHLO reply, and the domain
	// of RCPT TO:<postmaster>. Default "localhost".
	Hostname string
	// TLS is the server's side of TLS; nil: no STARTTLS.
	TLS *tls.Config
	// ImplicitTLS begins with the handshake, before the greeting (RFC 8314 §3.3).
	ImplicitTLS bool
	// Auth offers AUTH on TLS where the session implements it.
	Auth bool
	// DSN lets go-smtp offer and parse RET, ENVID, NOTIFY and ORCPT (RFC 3461).
	DSN bool
	// StrictHelo refuses a HELO argument that is neither a domain name nor an
	// address literal by its characters, naming the first wrong one.
	StrictHelo bool
	// NoHelo are characters for which a HELO argument is refused, each of ASCII;
	// without it what is odd there is accepted.
	NoHelo string
	// Hidden lists EHLO keywords that are not offered.
	Hidden []string

	// MaxSize is the largest message, in octets of content. Default 50 MiB.
	MaxSize int64
	// MaxRecipients is the number of recipients of one message. Default 1000
	// (RFC 5321 §4.5.3.1.8 asks for 100 or more).
	MaxRecipients int
	// MaxErrors is the number of refused commands, RCPT and AUTH apart, that a
	// client may collect without having a message accepted. Default 20.
	MaxErrors int
	// MaxBadRecipients is the same for permanently refused recipients. Default 100.
	MaxBadRecipients int
	// MaxAuthFailures is the number of failed AUTH commands of a socket; one
	// more ends it. Default 3.
	MaxAuthFailures int
	// MaxConnections bounds open sockets in total, MaxConnectionsPerAddress those
	// of one IPv4 address or one IPv6 /64. Default 0: no bound.
	MaxConnections, MaxConnectionsPerAddress int

	// CommandTimeout is the time for one command line, from the reply before it
	// to its end. Default 5 min (RFC 5321 §4.5.3.2.7).
	CommandTimeout time.Duration
	// DataTimeout is the longest silence inside a body. Default 3 min (RFC 5321
	// §4.5.3.2.5).
	DataTimeout time.Duration
	// MinRate is the mean rate, in octets per second, below which a body may not
	// fall once 10 min were spent waiting for it. Default 100.
	MinRate int64
	// HandshakeTimeout is the time for a TLS handshake. Default 30 s.
	HandshakeTimeout time.Duration
	// WriteTimeout is the time a client may take to accept our replies. Default
	// 1 min.
	WriteTimeout time.Duration

	// Refused, if set, is told of every refusal that wire itself makes and
	// returns the reply to send, normally Refusal.Reply with a reference in its
	// text. It is called on the goroutine of the connection.
	Refused func(Refusal) smtp.Reply
}

// Refusal is a reply of wire that is no success, with its circumstances.
type Refusal struct {
	// Kind is a label of bounded cardinality, one of the Kind constants.
	Kind string
	// Remote and Local are the ends of the socket.
	Remote, Local net.Addr
	// Helo is the argument of HELO or EHLO; empty before one was given.
	Helo string
	// TLS reports an encrypted session, and State its parameters.
	TLS   bool
	State tls.ConnectionState
	// Reply is what wire would say. Its zero value says nothing: the socket is
	// closed without a reply, and whatever Refused returns is ignored. So it is
	// with KindNoMail, which tells of every client that left without a MAIL and
	// without anything refused: its owner looks for it.
	Reply smtp.Reply
	// Err is the cause, for the log; may be nil.
	Err error
}

// The kinds of Refusal.
const (
	KindAuth        = "auth"         // AUTH where it is not possible
	KindCommand     = "command"      // what go-smtp refuses by itself
	KindConnections = "connections"  // too many connections
	KindErrors      = "errors"       // too many errors, bad recipients or AUTH failures
	KindForeign     = "foreign"      // another protocol, such as HTTP
	KindHandshake   = "handshake"    // TLS handshake failed
	KindHelo        = "helo"         // a character of NoHelo
	KindInjection   = "injection"    // octets ahead of a reply that had to be waited for
	KindNoMail      = "no-mail"      // nothing refused: the client left without a MAIL; see Refusal
	KindPath        = "path"         // MAIL or RCPT argument
	KindRecipients  = "recipients"   // too many for one message
	KindSequence    = "sequence"     // command out of order
	KindShutdown    = "shutdown"     // the listener is stopping
	KindSize        = "size"         // message too big
	KindSyntax      = "syntax"       // command line
	KindTimeout     = "timeout"      // client too slow
	KindTLSMismatch = "tls-mismatch" // TLS on a plaintext port or the reverse
)

const (
	bodyGrace      = 10 * time.Minute // before Config.MinRate holds
	drainFactor    = 2                // times MaxSize are drained before a body is cut off
	lingerTime     = 2 * time.Second  // for a client to read a last reply while it still sends
	lingerOctets   = 1 << 20
	maxCommandLine = 2048  // RFC 5321 §4.5.3.1.4 asks for 512 and more with extensions
	maxAuthLine    = 12800 // RFC 4954 §4: 12288 octets of base64, and the command
	maxDrainedLine = 1 << 20
	maxHelo        = 255 // RFC 5321 §4.5.3.1.2
	maxReplyLine   = 512 // RFC 5321 §4.5.3.1.5
	maxJunk        = 100 // NOOP, RSET, HELO and the like, before each counts as an error
	readBufferSize = 8 << 10
	maxKeptOutput  = 4 << 10
)

func (cfg Config) withDefaults() Config {
	fill(&cfg.Hostname, "localhost")
	fill(&cfg.MaxSize, 50<<20)
	fill(&cfg.MaxRecipients, 1000)
	fill(&cfg.MaxErrors, 20)
	fill(&cfg.MaxBadRecipients, 100)
	fill(&cfg.MaxAuthFailures, 3)
	fill(&cfg.CommandTimeout, 5*time.Minute)
	fill(&cfg.DataTimeout, 3*time.Minute)
	fill(&cfg.MinRate, 100)
	fill(&cfg.HandshakeTimeout, 30*time.Second)
	fill(&cfg.WriteTimeout, time.Minute)
	return cfg
}

func fill[T comparable](field *T, standard T) {
	var zero T
	if *field == zero {
		*field = standard
	}
}

// Configure sets in s what must agree with wire: go-smtp must not time
// anything, count octets, cut lines or speak TLS by itself, because wire does.
// Backend and ErrorLog stay with the caller.
func Configure(s *gosmtp.Server, cfg Config) {
	cfg = cfg.withDefaults()
	s.Domain = cfg.Hostname
	s.MaxRecipients = cfg.MaxRecipients
	s.EnableDSN = cfg.DSN
	s.MaxMessageBytes = 0 // refuses a message of exactly the limit
	s.MaxLineLength = 0   // holds for bodies, too; 0 is no limit and no buffer
	s.ReadTimeout, s.WriteTimeout = 0, 0
	s.TLSConfig = nil
	s.AllowInsecureAuth = true // wire decides; go-smtp does not see TLS
	s.LMTP = false
	s.EnableSMTPUTF8, s.EnableREQUIRETLS, s.EnableBINARYMIME = false, false, false
	s.EnableRRVS, s.EnableDELIVERBY, s.EnableMTPRIORITY = false, false, false
}
