package registry

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	for text, want := range map[string]Answer{`{"runs_mta":true}`: Yes, `{"runs_mta":false}`: No, `{"runs_mta":"no"}`: No, `{"runs_mta":"yes"}`: Yes, `{}`: ""} {
		var a Application
		if err := json.Unmarshal([]byte(text), &a); err != nil || a.RunsMTA != want {
			t.Errorf("%s: %q, %v", text, a.RunsMTA, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"runs_mta":7}`), &Application{}); err == nil {
		t.Error("7 is an answer")
	}
}

// A form is complete with every answer, and what is said in it is looked at.
func TestForm(t *testing.T) {
	complete := func() *Device {
		return &Device{
			Name: "x.campus.test", Owner: "chem", Contacts: []string{"a@campus.test"}, Addresses: MustAddresses("10.1.1.1"), Senders: []string{"x@campus.test"}, Traffic: TrafficScans,
			Application: &Application{
				By: "kim", Affiliation: "staff", Name: "X", Unit: "u", ServiceOwner: "lee@campus.test", OwnerAffiliation: "Faculty", Purpose: "p", Audience: AudienceUnit, Type: "t",
				WhyNoAuth: "w", RunsMTA: No, Workstation: No, TermsVersion: "1", AttestedBy: "Kim", AttestedTitle: "Dr", Signature: "s",
			},
		}
	}
	retired := complete()
	retired.Name, retired.State = "old.campus.test", StateRetired
	s := NewSnapshot(1, Entries{
		Domains: []*Domain{{Name: "campus.test"}}, Owners: []*Owner{{Name: "chem"}, {Name: "acme", External: true}, {Name: "beta", External: true, Contract: "C-1"}}, Devices: []*Device{retired},
	})
	form := Form{Affiliations: []string{"staff", "faculty"}, Terms: "1"}
	d := complete()
	if missing := d.Unanswered(); len(missing) > 0 || len(s.Objections(d, form)) > 0 {
		t.Errorf("%v, %v", missing, s.Objections(d, form))
	}
	if missing := new(Device).Unanswered(); len(missing) != 20 {
		t.Errorf("%d: %v", len(missing), missing)
	}
	if other, ok := s.SameApplication(d); ok {
		t.Errorf("the name of %s is free again", other.Name)
	}
	for want, change := range map[string]func(*Device){
		"":                          func(d *Device) { d.Owner = "beta" },
		"application.affiliation":   func(d *Device) { d.Application.Affiliation = "student" },
		"owner_affiliation":         func(d *Device) { d.Application.OwnerAffiliation = "vendor" },
		"application.contract":      func(d *Device) { d.Owner = "acme" },
		"owner: ":                   func(d *Device) { d.Owner = "none" },
		"application.service_owner": func(d *Device) { d.Application.ServiceOwner = "lee@sub.campus.test" },
		"application.workstation":   func(d *Device) { d.Application.Workstation = Yes },
		"application.terms_version": func(d *Device) { d.Application.TermsVersion = "0" },
	} {
		d := complete()
		change(d)
		found := s.Objections(d, form)
		if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), want)) {
			t.Errorf("%q: %v", want, found)
		}
	}
	// Nothing is asked of affiliations and terms where nothing is configured.
	d.Application.Affiliation, d.Application.TermsVersion = "vendor", "9"
	if found := s.Objections(d, Form{}); len(found) > 0 {
		t.Errorf("%v", found)
	}
}
