package ingress

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// sender is the device that the session belongs to as things are now: by its
// credential, else by its address. It is an empty one where nobody is known, so
// that all its limits are those of everybody.
func (s *session) sender() *registry.Device {
	if d := authz.Sender(s.in.rules, s.in.registry(), &s.facts); d != nil {
		return d
	}
	return &registry.Device{}
}

// treat tells wire what holds for the client now. It runs before every EHLO
// reply and every MAIL, so that a change of the registry shows at the next one.
func (s *session) treat() {
	d := s.sender()
	c := s.conn
	c.LimitSize(min(d.Limits.Size, mail.MaxMessage))
	c.LimitRecipients(min(d.Limits.Recipients, maxRecipients))
	c.CompleteDomain(d.Quirks.Domain)
	c.HideKeywords(d.Quirks.HideEHLO...)
	c.RepairNewlines(d.Quirks.RepairNewlines)
	s.quirks = d.Quirks
}

// maxRecipients of one message whatever a device may: go-smtp wants a number.
const maxRecipients = 100_000

// overridden is the reverse-path that the message goes out with. The null path
// is that of reports, and stays (RFC 5321 §4.5.5). What was given instead is
// recorded with the facts.
func (s *session) overridden(path smtp.ReversePath) smtp.ReversePath {
	s.facts.GivenPath = ""
	if given, ok := s.conn.Completed(); ok {
		s.facts.GivenPath = given
	}
	from, err := smtp.ParseAddress(s.quirks.From)
	if err != nil || path.IsNull() || path.Address == from {
		return path
	}
	if s.facts.GivenPath == "" {
		s.facts.GivenPath = path.Address.String()
	}
	return smtp.ReversePath{Address: from}
}

// redirected leads what is for the postmaster of the relay to who reads it (RFC
// 5321 §4.5.1): the relay has no mailboxes. What was given stays as original.
func (s *session) redirected(path smtp.ForwardPath, original string) (smtp.ForwardPath, string) {
	to, err := smtp.ParseAddress(s.in.cfg.Relay.Postmaster)
	if err != nil || !strings.EqualFold(path.Local, "postmaster") || !strings.EqualFold(path.Domain, s.in.cfg.Relay.Hostname) {
		return path, original
	}
	return smtp.ForwardPath{Address: to}, cmp.Or(original, path.Address.String())
}

// rewrite gives a header the From field that the registration wants. Where it
// only completes addresses, a From field that can be read stays.
func (s *session) rewrite(header mail.Header) mail.Header {
	if from, err := smtp.ParseAddress(s.quirks.From); err == nil {
		if is := header.From(); is.Fields != 1 || is.Unreadable || !slices.Equal(is.Addresses, []string{from.String()}) {
			return header.WithFrom(from.String())
		}
		return header
	}
	if s.quirks.Domain == "" {
		return header
	}
	completed, _ := header.CompleteFrom(s.quirks.Domain)
	return completed
}

// touched lists what was done to the message for a device that nobody can
// reconfigure: the books show it.
func (s *session) touched(received, written mail.Header) []event.Quirk {
	var list []event.Quirk
	add := func(name, was string) {
		list = append(list, event.Quirk{Name: name, Was: bounded(was)})
	}
	if s.facts.GivenPath != "" {
		add(event.QuirkReversePath, s.facts.GivenPath)
	}
	for _, r := range s.env.Recipients {
		if r.Original != "" {
			add(event.QuirkRecipient, r.Original)
		}
	}
	if len(received) != len(written) || !slices.Equal(received, written) {
		add(event.QuirkFrom, strings.Join(received.All("From"), " | "))
	}
	if n := s.conn.Repairs(); n > 0 {
		add(event.QuirkNewlines, strconv.Itoa(n))
	}
	if len(s.quirks.HideEHLO) > 0 && s.conn.Extended() {
		add(event.QuirkHidden, strings.Join(s.quirks.HideEHLO, " "))
	}
	return list
}

// marks lists what is odd about a message. A device writes no Received field: each
// is of another server, and many of them tell that one submits here (W4). A mail
// from a registered device to many that nobody can unsubscribe from is its
// application's fault (W43).
func (s *session) marks(header mail.Header) []event.Quirk {
	var list []event.Quirk
	if most := s.in.cfg.Policy.ReceivedHops; most > 0 && header.Hops() >= most {
		list = append(list, event.Quirk{Name: event.MarkHops, Was: strconv.Itoa(header.Hops())})
	}
	if s.sender().Traffic.Bulk() && header.Get("List-Unsubscribe") == "" {
		list = append(list, event.Quirk{Name: event.MarkNoUnsubscribe})
	}
	return list
}
