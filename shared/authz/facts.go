package authz

import (
	"net/netip"
	"time"

	"github.com/postrider/postrider/shared/smtp"
)

// Facts are what a decision rests on, recorded with it.
type Facts struct {
	// Listener is the name of the listener, Submission its mode.
	Listener   string `json:"listener,omitempty"`
	Submission bool   `json:"submission,omitempty"`
	// Address is the client's, Name its forward-confirmed name. NameDoubt says
	// that the DNS gave no answer, so that Name means nothing.
	Address   netip.Addr `json:"address"`
	Name      string     `json:"name,omitempty"`
	NameDoubt bool       `json:"name_doubt,omitempty"`
	// NameAsOf is when the DNS said so, if it was not now.
	NameAsOf time.Time `json:"name_as_of,omitzero"`
	Helo     string    `json:"helo,omitempty"`
	// TLS is version and cipher suite; empty in clear.
	TLS string `json:"tls,omitempty"`
	// Identity is the authenticated name, and Authority who vouched for it.
	Identity  string    `json:"identity,omitempty"`
	Authority Authority `json:"authority,omitempty"`
	// Report marks a report of our own bounce service.
	Report bool `json:"report,omitempty"`
	// Messages is how many the session had sent before this one.
	Messages    int              `json:"messages,omitempty"`
	ReversePath smtp.ReversePath `json:"reverse_path"`
	// GivenPath is the reverse-path as the client gave it, where the registration
	// of its device replaces or completes it.
	GivenPath string `json:"given_path,omitempty"`
	// Standing is what is known of the mailbox behind the reverse-path.
	Standing  Standing          `json:"standing,omitempty"`
	Recipient *smtp.ForwardPath `json:"recipient,omitempty"`
	// Recipients is how many the message had before this one.
	Recipients int `json:"recipients,omitempty"`
	// Size in octets: as declared at MAIL (RFC 1870), as counted at the end of
	// DATA; 0 when it is not known.
	Size int64 `json:"size,omitempty"`
	// HeaderFrom is every address of the From fields, and FromFault what is
	// wrong with them: both are known at the end of DATA.
	HeaderFrom []string `json:"header_from,omitempty"`
	FromFault  Fault    `json:"from_fault,omitempty"`
	// Over are the limits, held over all ingress instances, that the sender is
	// over.
	Over []string `json:"over,omitempty"`
	// Scan is what content scanning wants done, and Scanner who said so.
	Scan    Outcome   `json:"scan,omitempty"`
	Scanner string    `json:"scanner,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// Authority is who vouches for an identity.
type Authority string

// The authorities. Empty is the registry, as Local.
const (
	Local    Authority = "local"
	Kerberos Authority = "kerberos"
	LDAP     Authority = "ldap"
)

// outside reports an authority that knows more names than the registry.
func (f *Facts) outside() bool { return f.Authority == Kerberos || f.Authority == LDAP }

// Standing is what is known of a sender's mailbox.
type Standing string

// The standings. Empty: nobody asked.
const (
	StandingValid    Standing = "valid"
	StandingUnknown  Standing = "unknown"  // there is no such mailbox
	StandingPersonal Standing = "personal" // a person's, not a function's (P31)
	StandingDoubt    Standing = "doubt"    // whoever knows did not answer
)

// Fault is what is wrong with the From fields of a message.
type Fault string

// The faults (RFC 5322 §3.6.2, RFC 6854).
const (
	FromMissing    Fault = "missing"
	FromUnreadable Fault = "unreadable"
	FromMultiple   Fault = "multiple"     // several fields, or several addresses in one
	FromGroup      Fault = "group"        // group syntax
	FromDisguised  Fault = "display-name" // the display name shows another address
)
