package registry

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/smtp"
)

// Notice is a message to contacts of devices, one to each. The relay sends what
// of it was not sent; the books prove what arrived, by its ID as submission id.
type Notice struct {
	// ID is what people call it, such as maintenance-2026-11.
	ID string `json:"id"`
	// Subject is one line; Text has lines that end in LF.
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Effective is when what it announces begins (S42): a day, or a time with its
	// zone, as people write it.
	Effective string `json:"effective,omitempty"`
	// To is who hears it, in the order of the addresses.
	To []Addressee `json:"to"`
	// Author asked for it. Made is when, Stored when a message to each was on its
	// way.
	Author string    `json:"author"`
	Made   time.Time `json:"made"`
	Stored time.Time `json:"stored,omitzero"`
	Entry
}

// MessageID is the id of the message to a contact: the same whenever it is asked
// for.
func (n *Notice) MessageID(contact string) mail.QueueID {
	return mail.QueueIDAt(n.Made, "notice/"+n.ID+"/"+strings.ToLower(contact))
}

// Same reports a notice that says the same. Whom it is for may have changed since.
func (n *Notice) Same(other *Notice) bool {
	return n.Subject == other.Subject && n.Text == other.Text && n.Effective == other.Effective
}

// Addressee is one who hears a notice, and why: the first of the devices, at most
// MaxListed, and how many there are more. A member of a group may have none.
type Addressee struct {
	Contact string   `json:"contact"`
	Devices []string `json:"devices,omitempty"`
	More    int      `json:"more,omitempty"`
}

// Limits of a notice. They keep it within what one entry may have.
const (
	MaxListed    = 20        // devices that are named to a contact
	MaxAddressed = 4000      // contacts
	MaxText      = 64 << 10  // octets
	MaxSubject   = 200       // octets
	MaxNotice    = 900 << 10 // octets of the entry
)

// Addressed are the contacts of devices, each once whatever its case, with the
// devices that it is one of: those of a device, else those of its owner. Members
// of groups come with them.
func (s *Snapshot) Addressed(devices []*Device, members []string) []Addressee {
	by := map[string]*Addressee{}
	hear := func(contact string) *Addressee {
		key := strings.ToLower(contact)
		if by[key] == nil {
			by[key] = &Addressee{Contact: contact}
		}
		return by[key]
	}
	for _, d := range devices {
		for _, c := range slices.CompactFunc(slices.Sorted(slices.Values(s.ContactsOf(d))), strings.EqualFold) {
			if a := hear(c); len(a.Devices) < MaxListed {
				a.Devices = append(a.Devices, d.Name)
			} else {
				a.More++
			}
		}
	}
	for _, m := range members {
		hear(m)
	}
	out := make([]Addressee, 0, len(by))
	for _, a := range by {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Addressee) int {
		return strings.Compare(strings.ToLower(a.Contact), strings.ToLower(b.Contact))
	})
	return out
}

// ContactsOf are the contacts of a device, else those of its owner.
func (s *Snapshot) ContactsOf(d *Device) []string {
	if len(d.Contacts) > 0 {
		return d.Contacts
	}
	if o, ok := s.Owner(d.Owner); ok {
		return o.Contacts
	}
	return nil
}

// Faults says what is wrong with a notice.
func (n *Notice) Faults() (found []Fault) {
	f := faults(found)
	if !readable(n.ID) || len(n.ID) > maxName {
		f.bad("id", "%q is no name for a notice (example: maintenance-2026-11)", n.ID)
	}
	if !readable(n.Subject) || len(n.Subject) > MaxSubject || !utf8.ValidString(n.Subject) {
		f.bad("subject", "one line of at most %d octets is needed", MaxSubject)
	}
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	switch {
	case strings.TrimSpace(n.Text) == "":
		f.bad("text", "there is none")
	case len(n.Text) > MaxText:
		f.bad("text", "%d octets are more than %d", len(n.Text), MaxText)
	case !utf8.ValidString(n.Text) || strings.ContainsFunc(n.Text, control):
		f.bad("text", "it is not plain text in UTF-8")
	}
	if len(n.To) > MaxAddressed {
		f.bad("to", "%d contacts are more than %d; choose fewer devices, such as owner:chem", len(n.To), MaxAddressed)
	}
	if entry, err := json.Marshal(n); err != nil || len(entry) > MaxNotice {
		f.bad("to", "the notice with whom it is for is larger than %d octets; choose fewer devices, such as owner:chem", MaxNotice)
	}
	if n.Effective != "" && !instant(n.Effective) {
		f.bad("effective", "%q is neither a day (2026-12-01) nor a time (2026-12-01T06:00:00+01:00)", n.Effective)
	}
	for i, a := range n.To {
		if _, err := smtp.ParseAddress(a.Contact); err != nil {
			f.bad(at("to", i), "%q is not an e-mail address", a.Contact)
		}
	}
	return f
}

// instant reports a day, or a time with its zone.
func instant(s string) bool {
	_, day := time.Parse(time.DateOnly, s)
	_, at := time.Parse(time.RFC3339, s)
	return day == nil || at == nil
}
