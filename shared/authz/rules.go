package authz

import "slices"

// Mode says what a rule does with what it finds.
type Mode string

// The modes of a rule.
const (
	Off     Mode = "off"
	Observe Mode = "observe" // recorded, not applied
	Enforce Mode = "enforce"
)

// Rules are the configured part of a decision: the switches on which
// institutions disagree, and the limits of those who have none of their own.
// The zero Mode is off.
type Rules struct {
	Sandbox            bool
	HostedFromCampus   Mode // off: approved addresses only (M5)
	FCrDNS             Mode // P22, P23
	SenderMustBeHosted Mode // W23; off: any valid one (P27)
	SenderMustExist    Mode // W23, S5
	PersonalSender     Mode // P31
	FromField          Mode // P27: one readable From field that shows whose it is
	MustAuthenticate   Mode // P16, P20: a device known by address needs an exemption
	AddressLock        Mode // S7: also with a credential only from its own addresses
	NAT                Mode // P24, P25
	Cloud              Mode // P26
	Bulk               Mode // P33, M4; off: newsletters may go (X7)
	Helo               Mode // W24: no "&"
	// Observing are rules without a mode of their own that only observe: those
	// that are Observable.
	Observing []string
	// Postmaster is the address for mail to the postmaster; empty is none.
	Postmaster string
	// SenderWildcards: a sender of a device may be a whole domain; else such an
	// entry allows nothing (S27).
	SenderWildcards bool
	// MessageSize in octets, Recipients of a message, and messages of a session;
	// 0 is no limit.
	MessageSize       int64
	Recipients        int
	SessionRelay      int
	SessionSubmission int
}

// Rule is one row of the table, for those who explain.
type Rule struct {
	// Name is what the verdict, the books and the metrics call it.
	Name string
	// Switch is the configuration key of its mode; empty: it always holds.
	Switch string
	// About says what it wants, and Fix what a sender whom it stopped can do.
	About, Fix string
}

// rule is a row of the table with what it does.
type rule struct {
	Rule
	mode func(*Rules) Mode
	rcpt bool // it has nothing to say without a recipient
	// early: ingress refuses at MAIL, since no recipient will do.
	early bool
	// observable: it hits many whom nobody thought of, so that one may want to see
	// whom before it is enforced. Others are about one sender, or hold for all.
	observable bool
	// find is the verdict of the rule, where it has one.
	find func(*decision) (Verdict, bool)
}

// table holds the rules in the order in which they apply. First what would be too
// much from anybody; then who we are and whom nobody wants; then who it is and what it must show; then what it sends
// and as whom; then where to. Only the last part admits.
var table = [...]rule{
	{Rule: Rule{Name: "session-limit", Switch: "limits.messages_per_session", About: "a session sends so many messages and no more", Fix: "connect again for the next messages"}, early: true, find: (*decision).sessionLimit},
	{Rule: Rule{Name: "size", Switch: "limits.message_size", About: "a message has a largest size", Fix: "scan at a lower resolution, or send it in parts"}, early: true, find: (*decision).size},
	{Rule: Rule{Name: "recipients", Switch: "limits.recipients", About: "a message has a largest number of recipients", Fix: "send to fewer recipients at a time, or to a list"}, rcpt: true, find: (*decision).recipients},
	{Rule: Rule{Name: "sandbox", About: "a loopback client of a sandbox may send anything"}, find: (*decision).sandbox},
	{Rule: Rule{Name: "report", About: "the relay's own reports"}, find: (*decision).report},
	{Rule: Rule{Name: "blocked", About: "a block holds whatever is registered", Fix: "ask the postmaster why it was blocked"}, early: true, find: (*decision).blocked},
	{Rule: Rule{Name: "helo", Switch: "policy.helo_ampersand", About: `HELO and EHLO have no "&"`, Fix: `take the "&" out of the name that the device calls itself`},
		mode: func(r *Rules) Mode { return r.Helo }, early: true, find: (*decision).helo},
	{Rule: Rule{Name: "authentication", Switch: "policy.observe", About: "a submission listener needs an identity", Fix: "switch authentication on, or use the relay's port 25 from a registered address"}, early: true, observable: true, find: (*decision).authentication},
	{Rule: Rule{Name: "credential", About: "a suspended credential sends nothing", Fix: "ask the owner of the device, then the postmaster, to let it send again"}, early: true, find: (*decision).suspendedCredential},
	{Rule: Rule{Name: "denied-network", Switch: "policy.observe", About: "no unauthenticated mail from these networks", Fix: "send through your mail program, or authenticate on port 587"}, observable: true, find: (*decision).deniedNetwork},
	{Rule: Rule{Name: "device-state", About: "only an active registration may send", Fix: "wait for the approval, or ask the help desk to have the registration restored"}, early: true, find: (*decision).deviceState},
	{Rule: Rule{Name: "proof", Switch: "policy.observe", About: "what a device must show is in its registration", Fix: "authenticate, from an address of the registration"}, observable: true, find: (*decision).proof},
	{Rule: Rule{Name: "address-lock", Switch: "policy.address_lock", About: "a credential holds only at the addresses of its device", Fix: "send from a registered address, or have this one added"},
		mode: func(r *Rules) Mode { return r.AddressLock }, find: (*decision).addressLock},
	{Rule: Rule{Name: "sender-allowed", Switch: "policy.observe", About: "a device sends as the addresses of its registration", Fix: "set the sender to a registered address, or have this one added"}, observable: true, find: (*decision).senderAllowed},
	{Rule: Rule{Name: "internal-domain", Switch: "policy.observe", About: "some domains are for internal owners only", Fix: "send as a subdomain that is yours"}, observable: true, find: (*decision).internalDomain},
	{Rule: Rule{Name: "sender", Switch: "policy.sender_must_be_hosted", About: "the reverse-path is in a hosted domain", Fix: "set the sender to an address of a hosted domain"},
		mode: func(r *Rules) Mode { return r.SenderMustBeHosted }, find: (*decision).sender},
	{Rule: Rule{Name: "sender-exists", Switch: "policy.sender_must_exist", About: "the mailbox of the reverse-path exists", Fix: "set the sender to an address that receives mail"},
		mode: func(r *Rules) Mode { return r.SenderMustExist }, find: (*decision).senderExists},
	{Rule: Rule{Name: "personal-sender", Switch: "policy.personal_sender", About: "a device sends as a function or a list, not as a person", Fix: "set the sender to a functional address"},
		mode: func(r *Rules) Mode { return r.PersonalSender }, find: (*decision).personalSender},
	{Rule: Rule{Name: "header-from", Switch: "policy.observe", About: "the From field shows a registered address, too", Fix: "set the From field to a registered address, or have this one added"}, observable: true, find: (*decision).headerFrom},
	{Rule: Rule{Name: "from-field", Switch: "policy.from_field", About: "one From field with one address that its name does not disguise", Fix: "send one From field with one address"},
		mode: func(r *Rules) Mode { return r.FromField }, find: (*decision).fromField},
	{Rule: Rule{Name: "content", Switch: "scan, policy.observe", About: "content scanning has no objection", Fix: "see the scanner's reason; ask the postmaster to release what is held"}, observable: true, find: (*decision).content},
	{Rule: Rule{Name: "must-authenticate", Switch: "policy.must_authenticate", About: "a device known by its address only needs an exemption", Fix: "authenticate, or ask for an exemption"},
		mode: func(r *Rules) Mode { return r.MustAuthenticate }, rcpt: true, find: (*decision).mustAuthenticate},
	{Rule: Rule{Name: "nat", Switch: "policy.nat", About: "an address that stands for many machines proves nothing", Fix: "authenticate on port 587"},
		mode: func(r *Rules) Mode { return r.NAT }, rcpt: true, find: (*decision).nat},
	{Rule: Rule{Name: "cloud", Switch: "policy.cloud", About: "an address that changes hands proves nothing", Fix: "authenticate on port 587"},
		mode: func(r *Rules) Mode { return r.Cloud }, rcpt: true, find: (*decision).cloud},
	{Rule: Rule{Name: "bulk", Switch: "policy.bulk", About: "bulk mail goes through the list service", Fix: "send it by the mailing-list service"},
		mode: func(r *Rules) Mode { return r.Bulk }, rcpt: true, find: (*decision).bulk},
	{Rule: Rule{Name: "limit", Switch: "policy.observe", About: "a sender over its hourly limit is slowed", Fix: "wait, send less, or ask for a higher limit; bulk mail goes through the list service"}, rcpt: true, observable: true, find: (*decision).limit},
	{Rule: Rule{Name: "fcrdns", Switch: "policy.fcrdns", About: "the DNS knows the address by its registered name, and the other way round", Fix: "have PTR and address records made for the registered name"},
		mode: func(r *Rules) Mode { return r.FCrDNS }, rcpt: true, find: (*decision).fcrdns},
	{Rule: Rule{Name: "routing", Switch: "policy.observe", About: "only who may send anywhere puts a route into the address", Fix: "write the recipient as name@domain, without %, ! or a second @"}, rcpt: true, observable: true, find: (*decision).routing},
	{Rule: Rule{Name: "registered", About: "an active device within its scope"}, rcpt: true, find: (*decision).registered},
	{Rule: Rule{Name: "postmaster", Switch: "relay.postmaster", About: "whose sender is in order may write to the postmaster"}, rcpt: true, find: (*decision).postmaster},
	{Rule: Rule{Name: "campus-to-hosted", Switch: "policy.hosted_from_campus", About: "a campus address to a hosted domain"},
		mode: func(r *Rules) Mode { return r.HostedFromCampus }, rcpt: true, find: (*decision).campusToHosted},
	{Rule: Rule{Name: "scope", About: "a device sends where its registration says", Fix: "ask for a registration for recipients anywhere"}, rcpt: true, find: (*decision).scope},
	{Rule: Rule{Name: "not-registered", About: "everything else is refused", Fix: "have the device registered, or authenticate"}, rcpt: true, find: (*decision).notRegistered},
}

// Early reports a rule that ingress need not keep for RCPT: no recipient will do.
func Early(name string) bool {
	for i := range table {
		if table[i].Name == name {
			return table[i].early
		}
	}
	return false
}

// ModeOf is how a rule applies; ok is false for one that always does, and for one
// that does not exist.
func ModeOf(rules *Rules, name string) (mode Mode, ok bool) {
	for i := range table {
		if table[i].Name == name && (table[i].mode != nil || table[i].observable) {
			return table[i].in(rules), true
		}
	}
	return "", false
}

// Observable are the rules that may stand in Rules.Observing.
func Observable() (names []string) {
	for i := range table {
		if table[i].observable {
			names = append(names, table[i].Name)
		}
	}
	return names
}

// in is how the rule applies under the rules.
func (r *rule) in(rules *Rules) Mode {
	switch {
	case r.mode != nil:
		return r.mode(rules)
	case r.observable && slices.Contains(rules.Observing, r.Name):
		return Observe
	}
	return Enforce
}

// Catalog is every rule in the order in which they apply.
func Catalog() []Rule {
	out := make([]Rule, len(table))
	for i := range table {
		out[i] = table[i].Rule
	}
	return out
}
