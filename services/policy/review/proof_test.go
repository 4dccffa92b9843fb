package review

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// A device that sends as somebody else's domain waits until that domain allows
// it, to this unit.
func TestSenderProof(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	reg, err := store.Open(t.Context(), bus, registry.Entries{Domains: []*registry.Domain{{Name: "campus.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	device := func(name, owner string, state registry.State, senders ...string) *registry.Device {
		return &registry.Device{Name: name, Owner: owner, State: state, Scope: registry.ScopeAnywhere, Senders: senders, Contacts: []string{"a@x.test", "b@x.test"}}
	}
	server, _ := startDNS(t)
	r := &Reviewer{Bus: bus, Registry: reg, Log: queuetest.Log(t), Instance: "test", Signer: "relay.campus.test", SenderProof: authz.Enforce}
	for _, d := range []*registry.Device{
		device("own.campus.test", "chem", registry.StateApproved, "a@campus.test"),
		device("journal.campus.test", "press", registry.StateApproved, "a@campus.test", "editor@Journal.test"),
		device("asked.campus.test", "press", registry.StateRequested, "editor@journal.test"),
		device("thief.campus.test", "chem", registry.StateApproved, "editor@journal.test"),
		device("loose.campus.test", "", registry.StateApproved, "x@loose.test"),
	} {
		d.Stamp(registry.Change{By: "anna", At: now})
		if err := reg.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	look := func(after time.Duration) *registry.Snapshot {
		t.Helper()
		if _, err := reg.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh, err := dnsx.New(dnsx.Config{Servers: []string{server.Addr()}}) // remembers nothing
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		r.DNS = fresh
		if err := r.round(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		s, err := reg.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	states := func(s *registry.Snapshot) string {
		var out []string
		for _, d := range s.Entries().Devices {
			out = append(out, strings.TrimSuffix(d.Name, ".campus.test")+" "+string(d.State))
		}
		return strings.Join(out, ", ")
	}
	s := look(time.Hour)
	if got := states(s); got != "asked requested, journal approved, loose approved, own active, thief approved" {
		t.Error(got)
	}
	journal, _ := s.Device("journal.campus.test")
	v, _ := s.Review(journal.Name)
	name, text := registry.SenderProof("relay.campus.test", journal, "journal.test")
	if f := v.Findings[0]; f.Check != "sender-domain" || f.About != "journal.test" || f.OK || f.Doubt || !strings.Contains(f.Text, name+` TXT "`+text+`"`) {
		t.Errorf("%+v", f)
	}
	// The DNS does not answer: in doubt, and waiting.
	server.Fail(name, dnstest.ServFail)
	s = look(2 * time.Hour)
	if v, _ = s.Review(journal.Name); !v.Findings[0].Doubt || v.Findings[0].OK {
		t.Errorf("%+v", v.Findings[0])
	}
	server.Fail(name, dnstest.NoFault)
	if err := server.Set(name + `. 0 TXT "` + text + `"`); err != nil {
		t.Fatal(err)
	}
	s = look(3 * time.Hour)
	if got := states(s); got != "asked requested, journal active, loose approved, own active, thief approved" {
		t.Error(got)
	}
	journal, _ = s.Device("journal.campus.test")
	if thief, _ := s.Device("thief.campus.test"); !s.Proved(journal, "journal.test") || s.Proved(thief, "journal.test") || s.Proved(journal, "loose.test") {
		t.Error("a proof holds for another unit, or not for its own")
	}
	// Observed, it is looked at and stops nobody; off, nobody looks.
	r.SenderProof = authz.Observe
	if s = look(4 * time.Hour); !strings.Contains(states(s), "thief active") {
		t.Error(states(s))
	}
	r.SenderProof = authz.Off
	s = look(30 * time.Hour)
	if v, _ = s.Review(journal.Name); strings.Contains(v.Findings[0].Check, "sender") {
		t.Errorf("%+v", v.Findings)
	}
}
