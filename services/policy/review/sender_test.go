package review

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/services/policy/standing"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// book is a directory.
type book map[string]standing.Class

func (b book) Class(_ context.Context, address string) (standing.Class, error) {
	if c, ok := b[address]; ok {
		return c, nil
	}
	return "", fmt.Errorf("%w: port %d", standing.ErrDown, time.Now().UnixNano())
}

// Registered senders are looked up at registration and daily: those that are there
// no more, or are persons', are found; a directory that is down finds nothing, and
// changes nothing.
func TestSenders(t *testing.T) {
	t.Parallel()
	bus := queuetest.Start(t)
	reg, err := store.Open(t.Context(), bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &registry.Device{
		Name: "prn.campus.test", State: registry.StateActive, Scope: registry.ScopeAnywhere, Contacts: []string{"a@x.test", "b@x.test"},
		Senders: []string{"prn@x.test", "anna@x.test", "gone@x.test"}, HeaderSenders: []string{"list@x.test"},
	}
	d.Stamp(registry.Change{By: "anna", At: now})
	if err := reg.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	_, dns := startDNS(t)
	people := book{"prn@x.test": standing.Function, "anna@x.test": standing.Person, "list@x.test": standing.List, "gone@x.test": standing.Absent}
	r := &Reviewer{Bus: bus, Registry: reg, DNS: dns, Directory: people, Log: queuetest.Log(t), Instance: "test", Signer: "relay.test"}
	look := func(after time.Duration) string {
		t.Helper()
		if _, err := reg.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.round(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		s, err := reg.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		v, _ := s.Review(d.Name)
		for _, f := range v.Findings {
			if strings.Contains(f.Check, "sender") {
				said = append(said, fmt.Sprint(f.Check, " ", f.About, " ", f.OK, " ", f.Doubt))
			}
		}
		return strings.Join(said, "\n")
	}
	want := "sender prn@x.test true false\npersonal-sender anna@x.test false false\nsender gone@x.test false false\nsender list@x.test true false"
	if got := look(time.Hour); got != want {
		t.Errorf("at registration:\n%s", got)
	}
	people["gone@x.test"], people["prn@x.test"] = standing.Service, standing.Absent
	if got := look(2 * time.Hour); got != want {
		t.Errorf("before a day is over:\n%s", got)
	}
	want = "sender prn@x.test false false\npersonal-sender anna@x.test false false\nsender gone@x.test true false\nsender list@x.test true false"
	if got := look(26 * time.Hour); got != want {
		t.Errorf("a day later:\n%s", got)
	}
	clear(people)
	doubt := look(51 * time.Hour)
	if strings.Count(doubt, " false true") != 4 {
		t.Errorf("while it is down:\n%s", doubt)
	}
	if s, _ := reg.Load(t.Context()); s != nil {
		if v, _ := s.Review(d.Name); strings.Contains(fmt.Sprint(v.Findings), "port") {
			t.Errorf("a reason that changes every time: %+v", v.Findings)
		}
	}
}
