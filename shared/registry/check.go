package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// Fault is something wrong with an entry: in which field, as the files name it,
// and what.
type Fault struct {
	Field, Text string
	// Wildcard: it is none where senders may be whole domains
	// (policy.sender_wildcards).
	Wildcard bool
}

func (f Fault) String() string { return f.Field + ": " + f.Text }

// Check says what is wrong with a device, whoever made it. What is wrong with
// its name is for those who know the rest of the estate.
func (d *Device) Check() (faults []Fault) {
	bad := func(field, format string, args ...any) {
		faults = append(faults, Fault{Field: field, Text: fmt.Sprintf(format, args...)})
	}
	for i, c := range d.Contacts {
		if _, err := smtp.ParseAddress(c); err != nil {
			bad(at("contacts", i), "%q is not an e-mail address", c)
		}
	}
	ranges := map[netip.Prefix]bool{}
	for i, a := range d.Addresses {
		switch p := a.Range; {
		case !p.IsValid():
			bad(at("addresses", i), "a network is needed (example: 10.2.3.4)")
		case p.Bits() == 0:
			bad(at("addresses", i), "%q is every address and would make an open relay; name the addresses of the device", p)
		case ranges[p]:
			bad(at("addresses", i), "%q is named twice", p)
		default:
			ranges[p] = true
		}
		word(bad, at("addresses", i)+".state", a.State, "", StateActive, StateSuspended, StateRetired)
	}
	d.checkSenders(bad)
	d.checkApplication(bad)
	if strings.Contains(d.Owner, "@") { // M6
		bad("owner", "%q is a person; a device belongs to a unit", d.Owner)
	}
	faults = append(faults, d.wildcards()...)
	word(bad, "scope", d.Scope, ScopeHosted, ScopeAnywhere)
	word(bad, "class", d.Class, mail.ClassAlert, mail.ClassScan, mail.ClassApplication, mail.ClassDefault)
	word(bad, "state", d.State, StateRequested, StateApproved, StateActive, StateSuspended, StateRetired)
	word(bad, "proof", d.Proof, "", ProofEither, ProofCredential, ProofBoth)
	word(bad, "traffic", d.Traffic, "", TrafficAlerts, TrafficTransactional, TrafficScans, TrafficNewsletter, TrafficResearch, TrafficSurvey)
	if d.Proof == ProofBoth && len(d.Addresses) == 0 {
		bad("proof", "both needs addresses to send from")
	}
	for field, n := range map[string]int64{
		"size": d.Limits.Size, "session": int64(d.Limits.Session), "recipients": int64(d.Limits.Recipients),
		"messages_per_hour": int64(d.Limits.MessagesPerHour), "recipients_per_hour": int64(d.Limits.RecipientsPerHour),
	} {
		if n < 0 {
			bad("limits."+field, "%d is less than nothing; 0 leaves it to the limits of all", n)
		}
	}
	if d.Limits.Size > mail.MaxMessage {
		bad("limits.size", "%d is more than any message may have (%d)", d.Limits.Size, mail.MaxMessage)
	}
	if d.Exempt != nil && strings.TrimSpace(d.Exempt.Reason) == "" {
		bad("exempt.reason", "an exemption needs a reason")
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return strings.Compare(a.Field, b.Field) })
	return faults
}

// checkSenders wants exact addresses, few enough that a person knows them (S4,
// S27).
func (d *Device) checkSenders(bad func(string, string, ...any)) {
	if n := len(d.Senders) + len(d.HeaderSenders); n > MaxSenders {
		bad("senders", "%d addresses are more than %d", n, MaxSenders)
	}
	for field, list := range map[string][]string{"senders": d.Senders, "header_senders": d.HeaderSenders} {
		for i, s := range list {
			if _, ok := SenderDomain(s); !ok {
				address(bad, at(field, i), s)
			}
		}
	}
	if d.Quirks.From != "" {
		address(bad, "quirks.from", d.Quirks.From)
	}
	if d.Quirks.Domain != "" {
		if _, err := smtp.ParseAddress("x@" + d.Quirks.Domain); err != nil {
			bad("quirks.domain", "%q is not a domain", d.Quirks.Domain)
		}
	}
}

// wildcards are the senders that are whole domains.
func (d *Device) wildcards() (faults []Fault) {
	for field, list := range map[string][]string{"senders": d.Senders, "header_senders": d.HeaderSenders} {
		for i, s := range list {
			if _, ok := SenderDomain(s); ok {
				text := fmt.Sprintf("%q stands for many addresses; name each", s)
				faults = append(faults, Fault{Field: at(field, i), Text: text, Wildcard: true})
			}
		}
	}
	return faults
}

// SenderDomain is the domain of a sender that stands for all of its addresses:
// "*@campus.test". It holds for no subdomain.
func SenderDomain(sender string) (domain string, ok bool) {
	domain, ok = strings.CutPrefix(sender, "*@")
	if !ok {
		return "", false
	}
	_, err := smtp.ParseAddress("x@" + domain)
	return domain, err == nil && !strings.ContainsAny(domain, "*%[")
}

// WithoutWildcards are the faults that remain where senders may be whole domains.
func WithoutWildcards(faults []Fault) []Fault {
	return slices.DeleteFunc(faults, func(f Fault) bool { return f.Wildcard })
}

func address(bad func(string, string, ...any), field, s string) {
	_, err := smtp.ParseAddress(s)
	switch {
	case strings.ContainsAny(s, "*%"):
		bad(field, "%q stands for many addresses; name each", s)
	case err != nil:
		bad(field, "%q is not an e-mail address", s)
	}
}

// word wants one of a few.
func word[T ~string](bad func(string, string, ...any), field string, is T, allowed ...T) {
	if slices.Contains(allowed, is) {
		return
	}
	var names []string
	for _, a := range allowed {
		if a != "" {
			names = append(names, string(a))
		}
	}
	bad(field, "%q is none of %s", string(is), strings.Join(names, ", "))
}

func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
