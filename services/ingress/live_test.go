package ingress

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
)

// live is a change of the registry as clients of every instance meet it.
type live struct {
	name string
	// open is a greeted session of the client, on which ask is tried until
	// the answer changes from one code to the other.
	open         func(*rig) *client
	sender, rcpt string
	before       string
	after        string
	change       func(*testing.T, *store.Store)
}

const (
	blocked  = "127.0.0.3"
	stranger = "127.0.0.5"
)

func greeted(from string) func(*rig) *client {
	return func(r *rig) *client {
		c := r.dial(from)
		c.say("EHLO host.campus.test", "250")
		return c
	}
}

func authenticated(r *rig) *client {
	c := r.connect("127.0.0.9", r.cfg.Listeners[1].Address)
	c.expect("220")
	c.say("EHLO host.campus.test", "250")
	c.startTLS()
	c.say(plainAuth("prn", "secret"), "235")
	return c
}

func put(item registry.Item) func(*testing.T, *store.Store) {
	return func(t *testing.T, s *store.Store) {
		if err := s.Put(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
}

// alter changes what is there.
func alter[T registry.Item](find func(*registry.Snapshot) T, change func(T)) func(*testing.T, *store.Store) {
	return func(t *testing.T, s *store.Store) {
		reg, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		item, err := registry.Clone(find(reg))
		if err != nil {
			t.Fatal(err)
		}
		change(item)
		item.Audit().By = "tester"
		put(item)(t, s)
	}
}

func theDevice(reg *registry.Snapshot) *registry.Device {
	d, _ := reg.Device("prn.campus.test")
	return d
}

func theCredential(reg *registry.Snapshot) *registry.Credential {
	c, _ := reg.Credential("prn")
	return c
}

func changes() []live {
	return []live{
		{"new device", greeted(stranger), "prn@campus.test", "x@example.test", "550 5.7.1", "250", put(&registry.Device{
			Name: "new.campus.test", Addresses: registry.MustAddresses(stranger), Scope: registry.ScopeAnywhere, State: registry.StateActive, Entry: by,
		})},
		{"block of an address", greeted(blocked), "prn@campus.test", "anna@campus.test", "250", "550 5.7.1", put(&registry.Block{Subject: blocked, Entry: by})},
		{"block of a sender", greeted(campus), "evil@campus.test", "anna@campus.test", "250", "550 5.7.1", put(&registry.Block{Subject: "Evil@campus.test", Entry: by})},
		{"removal of a domain", greeted(campus), "prn@campus.test", "anna@gone.test", "250", "550 5.7.1", func(t *testing.T, s *store.Store) {
			reg, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			d, _ := reg.Domain("gone.test")
			if err := s.Remove(t.Context(), d, registry.Change{By: "tester", At: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}},
		{"suspension of a credential", authenticated, "prn@campus.test", "x@example.test", "250", "550 5.7.1", alter(theCredential, func(c *registry.Credential) { c.Suspended = true })},
		{"suspension of a device", greeted(device), "prn@campus.test", "x@example.test", "250", "550 5.7.1", alter(theDevice, func(d *registry.Device) { d.State = registry.StateSuspended })},
	}
}

// A change of the registry takes effect on every instance, at each step of
// sessions that are open. How soon is measured and printed, not judged: a busy
// machine proves nothing.
func TestChangesTakeEffectLive(t *testing.T) {
	bus := queuetest.Start(t)
	var rigs []*rig
	for range 3 {
		rigs = append(rigs, startOn(t, bus, func(c *config.Config) {
			c.Networks.Campus = append(c.Networks.Campus, netip.MustParsePrefix(blocked+"/32"))
		}))
	}
	put(&registry.Domain{Name: "gone.test", Entry: by})(t, rigs[0].store)
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) { c.run(t, rigs) })
	}
}

// sessions of one client with one instance: one for each step that may meet the
// change.
type sessions struct{ probe, mail, data *client }

func (l *live) run(t *testing.T, rigs []*rig) {
	var all []sessions
	for _, r := range rigs {
		s := sessions{l.open(r), l.open(r), nil}
		l.await(t, s.probe, l.before) // the instance knows what was before, too
		s.mail.say("MAIL FROM:<"+l.sender+">", "250")
		if l.before == "250" {
			s.data = l.open(r)
			s.data.say("MAIL FROM:<"+l.sender+">", "250")
			s.data.say("RCPT TO:<"+l.rcpt+">", "250")
			s.data.say("DATA", "354")
			s.data.write("From: <prn@campus.test>\r\n")
		}
		all = append(all, s)
	}
	began := time.Now()
	l.change(t, rigs[0].store)
	acknowledged := time.Since(began)
	for i, s := range all {
		l.await(t, s.probe, l.after)
		t.Logf("instance %d: %s after %s (stored after %s)", i+1, l.name, time.Since(began).Round(time.Millisecond), acknowledged.Round(time.Millisecond))
		if got := s.mail.ask("RCPT TO:<" + l.rcpt + ">"); !strings.HasPrefix(got, l.after) {
			t.Errorf("instance %d at RCPT: %q", i+1, got)
		}
		if s.data == nil {
			continue
		}
		s.data.write("\r\nbody\r\n.\r\n")
		if got := s.data.reply(); !strings.HasPrefix(got, l.after) {
			t.Errorf("instance %d at the end of the content: %q", i+1, got)
		}
	}
	for _, s := range all {
		for _, c := range []*client{s.probe, s.mail, s.data} {
			if c != nil {
				c.conn.Close()
			}
		}
	}
}

// await tries until the answer is the wanted one, slowly enough for the session
// to survive its refusals.
func (l *live) await(t *testing.T, c *client, want string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	got := ""
	for range 90 { // a session ends at 100 refused recipients
		c.say("RSET", "250")
		if got = c.ask("MAIL FROM:<" + l.sender + ">"); strings.HasPrefix(got, "250") {
			got = c.ask("RCPT TO:<" + l.rcpt + ">")
		}
		if strings.HasPrefix(got, want) {
			c.say("RSET", "250")
			return
		}
		<-tick.C
	}
	t.Fatalf("%s: still %q after 90 tries", l.name, got)
}
