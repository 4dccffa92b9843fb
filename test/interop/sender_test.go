//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/mailbox"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/test/world"
)

// senders are addresses of several kinds, as a directory has them.
const senders = `
dn: uid=anna,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: anna
cn: Anna
sn: Anna
mail: anna@campus.test
employeeType: staff

dn: uid=role,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: role
cn: Laboratory
sn: Laboratory
mail: lab@campus.test
employeeType: role

dn: uid=both,ou=people,dc=campus,dc=test
objectClass: inetOrgPerson
uid: both
cn: Deputy
sn: Deputy
mail: deputy@campus.test
employeeType: staff
employeeType: role
`

// TestDirectoryOfSenders is P31 and S5 with a real directory: a person's address is
// refused, or recorded where the rule observes, a function's is not; the daily look
// finds persons and the absent; a directory that is down refuses nobody.
func TestDirectoryOfSenders(t *testing.T) {
	d := StartDirectory(t, "127.0.0.1", "", senders)
	for _, mode := range []authz.Mode{authz.Enforce, authz.Observe} {
		t.Run(string(mode), func(t *testing.T) { sendersIn(t, d, mode) })
	}
}

func sendersIn(t *testing.T, d *Directory, mode authz.Mode) {
	l := d.Config()
	w := world.New(t, world.InProcess, func(c *config.Config) {
		c.Policy.PersonalSender = config.Mode(mode)
		c.Policy.Directory = &config.Directory{
			URL: l.URL, CA: l.CA, Base: "dc=campus,dc=test", Filter: "(mail=%s)", BindDN: l.BindDN, BindPasswordFile: l.BindPasswordFile,
			Attribute: "employeeType", Person: []string{"staff"}, Function: []string{"role"},
		}
	})
	world.WaitFor(t, "policy to answer", func(ctx context.Context) error {
		if s := mailbox.New(w.Bus, mailbox.Directory).Ask(ctx, "anna@campus.test"); s != authz.StandingPersonal {
			return fmt.Errorf("it says %q", s)
		}
		return nil
	})
	const person = "550 5.1.8"
	expect := func(sender, want string) (id string) {
		t.Helper()
		id, said := sendAs(t, w, sender)
		if !strings.HasPrefix(said, want) {
			t.Errorf("%s: %s, want %s", sender, said, want)
		}
		return id
	}
	expect("lab@campus.test", "250")
	expect("deputy@campus.test", "250")
	expect("nobody@campus.test", "250") // sender_must_exist is off
	if mode == authz.Enforce {
		expect("anna@campus.test", person)
	} else {
		id := expect("anna@campus.test", "250")
		if v := w.Settled(mail.QueueID(id)).Records[0].Record.Message.Verdict; strings.Join(v.Observed, " ") != "personal-sender" {
			t.Errorf("observed %v", v.Observed)
		}
	}
	reviewed(t, w, mode)
	if mode == authz.Observe {
		return
	}
	d.Stop(t)
	expect("bert@campus.test", "250")              // nobody ever said what he is
	expect("anna@campus.test", person)             // as it was
	asker := mailbox.New(w.Bus, mailbox.Directory) // another ingress, which remembers nothing
	if s := asker.Ask(t.Context(), "anna@campus.test"); s != authz.StandingPersonal {
		t.Errorf("a directory that is down: %q", s)
	}
	d.Start(t)
	d.listens(t)
}

// reviewed registers senders of all kinds, and waits for what is found.
func reviewed(t *testing.T, w *world.World, mode authz.Mode) {
	t.Helper()
	s, err := store.Open(t.Context(), w.Bus, w.Config.FileEntries())
	if err != nil {
		t.Fatal(err)
	}
	device := &registry.Device{
		Name: string(mode) + ".campus.test", State: registry.StateRequested, Scope: registry.ScopeHosted, Class: mail.ClassDefault,
		Senders: []string{"anna@campus.test", "lab@campus.test", "nobody@campus.test"},
	}
	device.Stamp(registry.Change{By: "tester", At: time.Now().UTC()})
	if err := s.Put(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	world.WaitFor(t, "a review", func(ctx context.Context) error {
		snapshot, err := s.Load(ctx)
		if err != nil {
			return err
		}
		v, ok := snapshot.Review(device.Name)
		if !ok {
			return errors.New("none yet")
		}
		for _, f := range v.Findings {
			if strings.Contains(f.Check, "sender") {
				found[f.About] = fmt.Sprint(f.Check, " ", f.OK)
			}
		}
		return nil
	})
	for about, want := range map[string]string{"anna@campus.test": "personal-sender false", "lab@campus.test": "sender true", "nobody@campus.test": "sender false"} {
		if found[about] != want {
			t.Errorf("%s: %q, want %q", about, found[about], want)
		}
	}
}

// sendAs sends a message of the printer to a hosted domain, and gives its QueueID, or
// what was said instead.
func sendAs(t *testing.T, w *world.World, sender string) (id, said string) {
	t.Helper()
	qid, err := w.TrySubmit(world.Submission{From: world.Printer, Sender: sender, To: []string{"someone@example.test"}})
	var refused *textproto.Error
	switch {
	case err == nil:
		return string(qid), "250"
	case errors.As(err, &refused):
		return "", fmt.Sprintf("%d %s", refused.Code, refused.Msg)
	}
	t.Fatal(err)
	return "", ""
}
