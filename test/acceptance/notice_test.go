package acceptance

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// What contacts hear.

// noticeGroup is the group of those that hear notices.
const noticeGroup = "mailrelay.updates"

// announce has the relay send a notice, as postrider notify does, and waits until
// the books prove it for each contact.
func (r *relay) announce(t *testing.T, n *registry.Notice, devices ...*registry.Device) map[string]books.Row {
	t.Helper()
	snapshot, err := r.registry.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := r.token()
	n.ID, n.Subject = token, n.Subject+" "+token
	n.To, n.Made = snapshot.Addressed(devices, nil), time.Now().UTC()
	r.put(t, n)
	proof := map[string]books.Row{}
	timetest.Await(t, "each contact has got "+n.ID, func() bool {
		clear(proof)
		err := books.Client(r.Bus).Export(t.Context(), books.Filter{Submission: n.ID, States: []string{"delivered"}}, func(row books.Row) error {
			proof[row.Recipient] = row
			return nil
		})
		return err == nil && len(proof) == len(n.To)
	})
	return proof
}

// heard are the messages with that subject, by their recipients.
func (r *relay) heard(subject string) map[string][]smtptest.Delivery {
	out := map[string][]smtptest.Delivery{}
	for _, d := range r.sink.Deliveries() {
		if d.Field("Subject") == subject {
			for _, rcpt := range d.Recipients {
				out[rcpt.Address.String()] = append(out[rcpt.Address.String()], d)
			}
		}
	}
	return out
}

func cared(name string, contacts ...string) *registry.Device {
	return &registry.Device{
		Name: name, Owner: "chemistry-department", Contacts: contacts, State: registry.StateActive, Scope: registry.ScopeAnywhere, Class: "default",
		Proof: registry.ProofCredential,
	}
}

// Each contact gets one message that names its devices, and the books have the
// reply of its server.
func TestM17_ProofForEachContact(t *testing.T) {
	r := open()
	n := &registry.Notice{Subject: "Maintenance on Sunday", Text: "Nothing is sent on Sunday.\n"}
	proof := r.announce(t, n, cared("one.campus.test", "anna@campus.test", "bert@inet.test"), cared("two.campus.test", "Anna@campus.test"))
	got := r.heard(n.Subject)
	if len(got) != 2 || len(got["anna@campus.test"]) != 1 || len(got["bert@inet.test"]) != 1 || len(proof) != 2 {
		t.Fatalf("%d heard it, %d are proven", len(got), len(proof))
	}
	anna := string(got["anna@campus.test"][0].Content)
	if !strings.Contains(anna, "one.campus.test\r\n") || !strings.Contains(anna, "two.campus.test\r\n") || !strings.Contains(anna, "Nothing is sent on Sunday.") {
		t.Errorf("%s", anna)
	}
	for to, row := range proof {
		if !strings.HasPrefix(row.Diagnostic, "250 ") || row.RemoteMTA == "" || row.SettledAt == nil || row.Sender != "" {
			t.Errorf("%s: %+v", to, row)
		}
	}
}

// What is announced has a day, in the record and in the message.
func TestS42_EffectiveDayIsKeptAndSent(t *testing.T) {
	r := open()
	n := &registry.Notice{Subject: "New addresses", Text: "192.0.2.9 comes.\n", Effective: "2026-12-01"}
	r.announce(t, n, cared("one.campus.test", "anna@campus.test"))
	snapshot, err := r.registry.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kept, ok := snapshot.Notice(n.ID); !ok || kept.Effective != "2026-12-01" {
		t.Errorf("%+v", kept)
	}
	if got := r.heard(n.Subject)["anna@campus.test"]; len(got) != 1 || !strings.Contains(string(got[0].Content), "Begins:   2026-12-01\r\n") {
		t.Errorf("%v", got)
	}
}

// Every notice is from the role address, and names it and the help page.
func TestS43_RoleAddress(t *testing.T) {
	r := open()
	n := &registry.Notice{Subject: "Who answers", Text: "We do.\n"}
	r.announce(t, n, cared("one.campus.test", "anna@campus.test"))
	got := r.heard(n.Subject)["anna@campus.test"]
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	if from := got[0].Field("From"); from != "Mail relay <postmaster@relay.campus.test>" || got[0].Field("Auto-Submitted") == "" {
		t.Errorf("from %s", from)
	}
	for _, want := range []string{"Help:     https://relay.campus.test\r\n", "Contact:  desk@campus.test\r\n"} {
		if !strings.Contains(string(got[0].Content), want) {
			t.Errorf("no %q in %s", want, got[0].Content)
		}
	}
}

// A refused sender is shown where help is.
func TestM27_HelpInReplies(t *testing.T) {
	r := open()
	s := r.dial(t, r.SMTP, outsider)
	defer s.close()
	s.must(hello, "250")
	got := s.ask("MAIL FROM:" + byPrinter)
	if got.code == 250 {
		got = s.ask("RCPT TO:" + inet)
	}
	if got.code != 550 || !strings.Contains(got.text, "https://relay.campus.test/w/") {
		t.Errorf("%d %s", got.code, got.text)
	}
}

// The main contact hears of a device, and so does the backup.
func TestM13_BackupHearsToo(t *testing.T) {
	r := open()
	n := &registry.Notice{Subject: "For both", Text: "Both hear this.\n"}
	r.announce(t, n, cared("one.campus.test", "main@campus.test", "backup@campus.test"))
	if got := r.heard(n.Subject); len(got["main@campus.test"]) != 1 || len(got["backup@campus.test"]) != 1 || len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// members waits until the notice group has, and has not, somebody.
func (r *relay) members(t *testing.T, has, not []string) *registry.Group {
	t.Helper()
	var g *registry.Group
	timetest.Await(t, "the group has "+strings.Join(has, " ")+", not "+strings.Join(not, " "), func() bool {
		snapshot, err := r.registry.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found, ok := snapshot.Group(noticeGroup)
		if g = found; !ok {
			return false
		}
		in := func(m string) bool { return slices.Contains(g.Members, m) }
		return !slices.ContainsFunc(has, func(m string) bool { return !in(m) }) && !slices.ContainsFunc(not, in)
	})
	return g
}

// Contacts are in the group from the activation on, those that are named later,
// too, and until their last device is retired.
func TestM15_ContactsAreInTheNoticeGroup(t *testing.T) {
	r := strict()
	one, two := cared("m15-one.campus.test", "m15-anna@campus.test"), cared("m15-two.campus.test", "m15-anna@campus.test", "m15-bert@campus.test")
	one.State = registry.StateRequested
	r.put(t, one)
	r.put(t, two)
	r.members(t, []string{"m15-anna@campus.test", "m15-bert@campus.test"}, nil)
	two.Contacts = []string{"m15-cleo@campus.test"}
	one.State = registry.StateActive
	r.update(t, one, two)
	r.members(t, []string{"m15-anna@campus.test", "m15-cleo@campus.test"}, []string{"m15-bert@campus.test"})
	one.State, two.State = registry.StateRetired, registry.StateRetired
	r.update(t, one, two)
	r.members(t, nil, []string{"m15-anna@campus.test", "m15-cleo@campus.test"})
	r.remove(t, one)
	r.remove(t, two)
}

// update changes devices that the relay itself may have changed meanwhile.
func (r *relay) update(t *testing.T, devices ...*registry.Device) {
	t.Helper()
	for _, d := range devices {
		snapshot, err := r.registry.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		now, _ := snapshot.Device(d.Name)
		d.Revision, d.Told = now.Revision, now.Told
		r.put(t, d)
	}
}

// The relay puts contacts there by itself, says so, puts back whom somebody took
// out, and leaves alone whom somebody put in.
func TestM16_JoinedByTheRelay(t *testing.T) {
	r := strict()
	d := cared("m16.campus.test", "m16@campus.test")
	r.put(t, d)
	g := r.members(t, []string{"m16@campus.test"}, nil)
	if g.By != "lifecycle" || !slices.Contains(g.Joined, "m16@campus.test") {
		t.Errorf("%+v", g)
	}
	g.Members = append(slices.DeleteFunc(slices.Clone(g.Members), func(m string) bool { return m == "m16@campus.test" }), "m16-hand@campus.test")
	r.put(t, g)
	r.members(t, []string{"m16@campus.test", "m16-hand@campus.test"}, nil)
	d.State = registry.StateRetired
	r.update(t, d)
	r.remove(t, r.members(t, []string{"m16-hand@campus.test"}, []string{"m16@campus.test"}))
	r.remove(t, d)
}

// The books know over which listener a device sends, and when it last did: with
// the old name on one of its own, only those are told that still use it.
func TestS41_TheBooksKnowTheListener(t *testing.T) {
	r := open()
	began := time.Now().Add(-time.Second)
	r.play(t,
		attempt{name: "over the old one", from: "127.1.1.22", want: "250"},
		attempt{name: "over the new one", from: "127.1.1.23", on: r.submission, login: loginRoaming, tls: true, mail: "<roaming@campus.test>", want: "250"},
	)
	uses := map[string]books.Use{}
	timetest.Await(t, "the books know", func() bool {
		err := books.Client(r.Bus).Use(t.Context(), func(u books.Use) error { uses[u.Device] = u; return nil })
		return err == nil && uses["several.campus.test"].Listeners["devices"].After(began) && uses["roaming.campus.test"].Listeners["submission"].After(began)
	})
	if _, ok := uses["several.campus.test"].Listeners["submission"]; ok {
		t.Errorf("%+v", uses["several.campus.test"])
	}
}
