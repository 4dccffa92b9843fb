package registry

import (
	"encoding/json"
	"slices"
	"strings"
)

// Application is the form of a request (S20-S26, M19-M21, W8-W11).
type Application struct {
	By          string `json:"by"`                    // the person who asks
	Affiliation string `json:"affiliation,omitempty"` // W10: of that person, as staff
	Name        string `json:"name,omitempty"`        // S25: of the application; no other has it
	Unit        string `json:"unit,omitempty"`        // S20: school, college, division, group, service
	// ServiceOwner is the address of the person who answers for the service (S21),
	// OwnerAffiliation what that person is to the institution (P2).
	ServiceOwner     string   `json:"service_owner,omitempty"`
	OwnerAffiliation string   `json:"owner_affiliation,omitempty"`
	Purpose          string   `json:"purpose,omitempty"`       // W9
	Audience         Audience `json:"audience,omitempty"`      // S26
	Type             string   `json:"type,omitempty"`          // M19: of device or application
	WhyNoAuth        string   `json:"why_no_auth,omitempty"`   // M19, W8
	RunsMTA          Answer   `json:"runs_mta,omitempty"`      // M2, W3
	Workstation      Answer   `json:"workstation,omitempty"`   // M3, W2
	Contract         string   `json:"contract,omitempty"`      // S10
	TermsVersion     string   `json:"terms_version,omitempty"` // W11: accepted on Dates.Accepted
	// AttestedBy is the printed name of who vouches that the device is protected
	// (M20), for the unit, on Dates.Attested; Signature is what that person signed
	// with, or where the signed paper is (M21); AttestedVersion is the version of
	// the terms then.
	AttestedBy      string `json:"attested_by,omitempty"`
	AttestedTitle   string `json:"attested_title,omitempty"`
	AttestedVersion string `json:"attested_version,omitempty"`
	Signature       string `json:"signature,omitempty"`
	Comment         string `json:"comment,omitempty"` // P20
}

// Answer is yes, no, or none yet.
type Answer string

// The answers.
const (
	Yes Answer = "yes"
	No  Answer = "no"
)

// Audience is who gets the mail of an application.
type Audience string

// The audiences. Those of many at once make what is sent bulk (S26).
const (
	AudienceUnit   Audience = "unit"   // people of the unit
	AudienceUsers  Audience = "users"  // each what this person caused or asked for
	AudienceCampus Audience = "campus" // many of the institution at once
	AudienceLists  Audience = "lists"  // subscribers, participants
	AudiencePublic Audience = "public" // anybody
)

// Many reports an audience that gets the same at once.
func (a Audience) Many() bool {
	return a == AudienceCampus || a == AudienceLists || a == AudiencePublic
}

// Bulk reports a device whose mail goes to many at once, by what it sends or by
// whom it is for.
func (d *Device) Bulk() bool {
	return d.Traffic.Bulk() || d.Application != nil && d.Application.Audience.Many()
}

// AcceptedTerms is the version of the terms of use that were accepted for the
// device; empty is none.
func (d *Device) AcceptedTerms() string {
	if d.Application == nil {
		return ""
	}
	return d.Application.TermsVersion
}

// Form is what an institution wants of a request.
type Form struct {
	// Affiliations are those of people who may ask for, and own, what is
	// registered (P2, W10); none leaves that open.
	Affiliations []string
	// Terms is the version of the terms of use that holds now; empty is any (W11).
	Terms string
}

// Unanswered are the fields of a request whose answers are still needed.
func (d *Device) Unanswered() (fields []string) {
	a := d.Application
	if a == nil {
		a = &Application{}
	}
	for _, q := range []struct {
		field    string
		answered bool
	}{
		{"owner", d.Owner != ""}, {"contacts", len(d.Contacts) > 0},
		{"addresses", len(d.Addresses) > 0 || d.Proof == ProofCredential},
		{"senders", len(d.Senders) > 0}, {"traffic", d.Traffic != ""},
		{"application.affiliation", a.Affiliation != ""}, {"application.name", a.Name != ""}, {"application.unit", a.Unit != ""},
		{"application.service_owner", a.ServiceOwner != ""}, {"application.owner_affiliation", a.OwnerAffiliation != ""},
		{"application.purpose", a.Purpose != ""}, {"application.audience", a.Audience != ""}, {"application.type", a.Type != ""},
		{"application.why_no_auth", a.WhyNoAuth != ""}, {"application.runs_mta", a.RunsMTA != ""}, {"application.workstation", a.Workstation != ""},
		{"application.terms_version", a.TermsVersion != ""}, {"application.attested_by", a.AttestedBy != ""},
		{"application.attested_title", a.AttestedTitle != ""}, {"application.signature", a.Signature != ""},
	} {
		if !q.answered {
			fields = append(fields, q.field)
		}
	}
	return fields
}

// Objections are the answers of a request with which it cannot be granted.
func (s *Snapshot) Objections(d *Device, form Form) (found []Fault) {
	f, a := faults(found), d.Application
	if a == nil {
		return nil
	}
	f.affiliated("application.affiliation", a.Affiliation, "ask", form.Affiliations)
	f.affiliated("application.owner_affiliation", a.OwnerAffiliation, "own what is registered", form.Affiliations)
	if _, known := s.Owner(d.Owner); !known {
		f.bad("owner", "%q is no unit that is known here", d.Owner)
	}
	if _, domain, _ := cutLast(a.ServiceOwner, "@"); s.hosts() && !s.Hosted(strings.ToLower(domain)) {
		f.bad("application.service_owner", "%s is no address in a hosted domain; somebody of the institution owns a service", a.ServiceOwner)
	}
	if a.Workstation == Yes {
		f.bad("application.workstation", "workstations are not registered; their mail programs log in to the mail service")
	}
	if form.Terms != "" && a.TermsVersion != form.Terms {
		f.bad("application.terms_version", "%q was accepted; the terms of use are those of version %s", a.TermsVersion, form.Terms)
	}
	return append(f, s.ThirdParty(d)...)
}

// hosts reports that there are hosted domains at all.
func (s *Snapshot) hosts() bool {
	for range s.domains.all() {
		return true
	}
	return false
}

func (f *faults) affiliated(field, is, may string, list []string) {
	if len(list) > 0 && !slices.Contains(list, strings.ToLower(is)) {
		f.bad(field, "%q may not %s; that is for %s", is, may, strings.Join(list, ", "))
	}
}

// ThirdParty is what speaks against a device because of whose it is.
func (s *Snapshot) ThirdParty(d *Device) []Fault { return append(s.Contractless(d), s.Reserved(d)...) }

// Reserved are the senders of a third party's device that are in a domain for
// internal owners: it sends as a subdomain (W42).
func (s *Snapshot) Reserved(d *Device) (found []Fault) {
	f := faults(found)
	if o, known := s.Owner(d.Owner); !known || !o.External {
		return nil
	}
	for _, list := range []struct {
		field   string
		senders []string
	}{{"senders", d.Senders}, {"header_senders", d.HeaderSenders}} {
		for _, sender := range list.senders {
			_, domain, _ := cutLast(strings.ToLower(sender), "@")
			if h, ok := s.Domain(domain); ok && h.Internal {
				f.bad(list.field, "%s is a third party, and %s is for internal owners: it sends as a subdomain", d.Owner, h.Name)
			}
		}
	}
	return f
}

// Contractless is what speaks against a device of a third party: that no contract
// stands behind it (S10).
func (s *Snapshot) Contractless(d *Device) (found []Fault) {
	f := faults(found)
	o, known := s.Owner(d.Owner)
	if known && o.External && o.Contract == "" && (d.Application == nil || d.Application.Contract == "") {
		f.bad("application.contract", "%s is a third party, and neither it nor the device has the reference of a contract", d.Owner)
	}
	return f
}

// SameApplication is another device that was registered for an application of
// that name (S25), and has not ended.
func (s *Snapshot) SameApplication(d *Device) (*Device, bool) {
	if d.Application == nil || d.Application.Name == "" {
		return nil, false
	}
	for _, other := range s.devices.all() {
		if a := other.Application; a != nil && other.Name != d.Name && other.State != StateRetired && strings.EqualFold(a.Name, d.Application.Name) {
			return other, true
		}
	}
	return nil, false
}

// checkApplication holds the answers to what they may be.
func (d *Device) checkApplication(bad func(string, string, ...any)) {
	a := d.Application
	if a == nil {
		return
	}
	word(bad, "application.audience", a.Audience, "", AudienceUnit, AudienceUsers, AudienceCampus, AudienceLists, AudiencePublic)
	word(bad, "application.runs_mta", a.RunsMTA, "", Yes, No)
	word(bad, "application.workstation", a.Workstation, "", Yes, No)
	if a.ServiceOwner != "" {
		address(bad, "application.service_owner", a.ServiceOwner)
	}
	if a.Name != "" && (!readable(a.Name) || len(a.Name) > maxName) {
		bad("application.name", "%q is no name for an application", a.Name)
	}
}

// UnmarshalJSON reads true and false, too.
func (a *Answer) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "true":
		*a = Yes
	case "false":
		*a = No
	default:
		return json.Unmarshal(text, (*string)(a))
	}
	return nil
}
