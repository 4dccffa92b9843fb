package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A contact hears once, whatever the case of its address, with the devices that
// it is one of.
func TestAddressed(t *testing.T) {
	var devices []*Device
	for i := range MaxListed + 5 {
		devices = append(devices, &Device{Name: fmt.Sprintf("d%02d.test", i), Contacts: []string{"Anna@x.test", "Anna@x.test"}})
	}
	devices = append(devices, &Device{Name: "own.test", Owner: "chem"}, &Device{Name: "mute.test"})
	s := NewSnapshot(1, Entries{Owners: []*Owner{{Name: "chem", Contacts: []string{"chem@x.test"}}}})
	got := s.Addressed(devices, []string{"anna@x.test", "list@x.test"})
	if len(got) != 3 || got[0].Contact != "Anna@x.test" || len(got[0].Devices) != MaxListed || got[0].More != 5 {
		t.Fatalf("%+v", got)
	}
	if strings.Join(got[1].Devices, " ") != "own.test" || got[2].Contact != "list@x.test" || len(got[2].Devices) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestNoticeFaults(t *testing.T) {
	good := func() *Notice {
		return &Notice{ID: "n", Subject: "Maintenance für alle", Text: "Text\n\tmore\n", Effective: "2026-12-01", To: []Addressee{{Contact: "a@x.test"}}, Made: time.Unix(0, 0)}
	}
	if f := good().Faults(); len(f) > 0 {
		t.Errorf("%v", f)
	}
	wide := make([]Addressee, MaxAddressed)
	for i := range wide {
		wide[i] = Addressee{Contact: fmt.Sprintf("c%d@x.test", i), Devices: []string{strings.Repeat("d", 250)}}
	}
	for field, spoil := range map[string]func(*Notice){
		"id": func(n *Notice) { n.ID = "" }, "subject": func(n *Notice) { n.Subject = "a\r\nBcc: b@x.test" }, "text": func(n *Notice) { n.Text = "a\x00" },
		"effective": func(n *Notice) { n.Effective = "soon" }, "to[0]": func(n *Notice) { n.To[0].Contact = "a" }, "to": func(n *Notice) { n.To = wide },
	} {
		n := good()
		spoil(n)
		if f := n.Faults(); len(f) != 1 || f[0].Field != field {
			t.Errorf("%s: %v", field, f)
		}
	}
}
