//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/test/world"
)

// Login is a world in which a realm, a directory and the registry vouch for
// names. The client is off campus, so that only its name counts.
type Login struct {
	*world.World
	KDC        *KDC
	Directory  *Directory
	Submission string
	logins     byte
}

// credentials belong to the printer, which may send anywhere. Those without
// secrets are for the authorities outside.
func credentials() []*registry.Credential {
	made := registry.Entry{By: "tester"}
	secret := []registry.Secret{{Hash: registry.HashSecret("ours")}}
	const device = "prn.campus.test"
	return []*registry.Credential{
		{Name: "smtp-relay/service.campus.test", Device: device, Entry: made},
		{Name: "prn-2@CAMPUS.TEST", Device: device, Entry: made},
		{Name: "prn-3", Device: device, Entry: made},
		{Name: "own", Device: device, Secrets: secret, Entry: made},
		{Name: "person", Device: device, Secrets: secret, Entry: made},
		{Name: "scanner", Device: device, Secrets: secret, Entry: made},
		{Name: "easy", Device: device, Suspended: true, Entry: made},
	}
}

func newLogin(t *testing.T) *Login {
	l := &Login{KDC: startTrueKDC(t), Directory: StartDirectory(t, "127.0.0.1", ""), Submission: porttest.Address(t)}
	l.World = world.New(t, world.InProcess, func(c *config.Config) {
		c.Listeners = append(c.Listeners, config.Listener{Name: "submission", Address: l.Submission, Mode: config.ModeSubmission})
		c.Auth = config.Auth{Kerberos: l.KDC.Config(), LDAP: l.Directory.Config(), Local: true}
	})
	s, err := store.Open(t.Context(), l.Bus, l.Config.FileEntries())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range credentials() {
		if err := s.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	world.WaitFor(t, "the credentials to count", func(context.Context) error {
		_, code, text := l.login(t, smtp.PlainAuth("", "easy", "right", "relay.campus.test")) // the last one
		if code != 535 {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	return l
}

// loginMechanism is AUTH LOGIN, as old printers have it.
type loginMechanism struct{ user, password string }

func (m loginMechanism) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (m loginMechanism) Next(prompt []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case strings.HasPrefix(string(prompt), "User"):
		return []byte(m.user), nil
	}
	return []byte(m.password), nil
}

// login connects, says STARTTLS and authenticates. Each comes from an address
// of its own: the evidence of many from one is counted, not kept.
func (l *Login) login(t *testing.T, a smtp.Auth) (c *smtp.Client, code int, text string) {
	t.Helper()
	l.logins++
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, 1, l.logins)}}
	conn, err := d.DialContext(t.Context(), "tcp", l.Submission)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if c, err = smtp.NewClient(conn, "relay.campus.test"); err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	var refused *textproto.Error
	switch err := c.Auth(a); {
	case err == nil:
		return c, 235, ""
	case errors.As(err, &refused):
		return c, refused.Code, refused.Msg
	default:
		t.Fatal(err)
	}
	return nil, 0, ""
}

var queued = regexp.MustCompile(`queued as ([0-9A-Z]{16})`)

// submit sends a message where only the device may, and returns the facts in
// the books.
func (l *Login) submit(t *testing.T, c *smtp.Client) authz.Facts {
	t.Helper()
	if err := errors.Join(c.Mail("prn@campus.test"), c.Rcpt("someone@example.test")); err != nil {
		t.Fatal(err)
	}
	text := c.Text
	if err := text.PrintfLine("DATA"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := text.ReadResponse(354); err != nil {
		t.Fatal(err)
	}
	if err := text.PrintfLine("%s.", world.Message("authenticated")); err != nil {
		t.Fatal(err)
	}
	_, reply, err := text.ReadResponse(250)
	m := queued.FindStringSubmatch(reply)
	if err != nil || m == nil {
		t.Fatalf("final reply %q: %v", reply, err)
	}
	for _, r := range l.Settled(mail.QueueID(m[1])).Records {
		if r.Record.Message != nil {
			return r.Record.Message.Facts
		}
	}
	t.Fatalf("%s has no facts", m[1])
	return authz.Facts{}
}

// refusal is the evidence of a reply.
func (l *Login) refusal(t *testing.T, text string) *event.Refusal {
	t.Helper()
	words := strings.Fields(text) // enhanced code, reference
	var found *event.Refusal
	world.WaitFor(t, "the evidence of "+text, func(ctx context.Context) error {
		s, err := l.Bus.JS.Stream(ctx, queue.StreamRefused)
		if err != nil {
			return err
		}
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			m, err := s.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if r, err := event.Decode[event.Refusal](m.Data); err == nil && len(words) > 1 && string(r.Ref) == words[1] {
				found = r
				return nil
			}
		}
		return errors.New("not there")
	})
	return found
}

// expect refuses a login with a code, and keeps a reason. It returns the words
// without the reference.
func (l *Login) expect(t *testing.T, a smtp.Auth, code int, status, reason string) string {
	t.Helper()
	_, got, text := l.login(t, a)
	words := strings.Fields(text)
	if got != code || len(words) < 3 || words[0] != status {
		t.Errorf("got %d %s, want %d %s (%s)", got, text, code, status, reason)
		return ""
	}
	r := l.refusal(t, text)
	if !strings.Contains(r.Reason, reason) || r.Stage != "auth" {
		t.Errorf("%d %s has the reason %q, want %q", got, text, r.Reason, reason)
	}
	return strings.ReplaceAll(text, words[1], "REF")
}

func plainLogin(user, password string) smtp.Auth {
	return smtp.PlainAuth("", user, password, "relay.campus.test")
}

// TestAuthorities is P16, P17, S30, W21 and X9 with real servers.
func TestAuthorities(t *testing.T) {
	l := newLogin(t)
	t.Run("who is admitted", l.admitted)
	t.Run("who is refused", l.refused)
	t.Run("a KDC that is away", l.kdcAway)
	t.Run("a KDC that is spoofed", l.kdcSpoofed)
	t.Run("a directory that is away", l.directoryAway)
}

func (l *Login) admitted(t *testing.T) {
	for _, a := range []struct {
		user, password string
		identity       string
		authority      authz.Authority
	}{
		{"smtp-relay/service.campus.test", "right", "smtp-relay/service.campus.test", authz.Kerberos},
		{"smtp-relay/service.campus.test@CAMPUS.TEST", "right", "smtp-relay/service.campus.test", authz.Kerberos},
		{"prn-2", "right", "prn-2@CAMPUS.TEST", authz.Kerberos}, // registered with the realm
		{"prn-2@CAMPUS.TEST", "right", "prn-2@CAMPUS.TEST", authz.Kerberos},
		{"prn-3", "right", "prn-3", authz.LDAP},
		{"PRN-3", "right", "prn-3", authz.LDAP},
		{"own", "ours", "own", authz.Local},
		{"person", "ours", "person", authz.Local},
		{"person@CAMPUS.TEST", "ours", "person", authz.Local},
	} {
		for _, how := range []smtp.Auth{plainLogin(a.user, a.password), loginMechanism{a.user, a.password}} {
			c, code, text := l.login(t, how)
			if code != 235 {
				t.Errorf("%s: %d %s (%s)", a.user, code, text, l.refusal(t, text).Reason)
				continue
			}
			if f := l.submit(t, c); f.Identity != a.identity || f.Authority != a.authority {
				t.Errorf("%s is %s of %s, want %s of %s", a.user, f.Identity, f.Authority, a.identity, a.authority)
			}
		}
	}
	// Somebody whom nobody registered is somebody, and may send nothing.
	c, code, text := l.login(t, plainLogin("guessed", "right"))
	if code != 235 {
		t.Fatalf("an unregistered principal: %d %s", code, text)
	}
	if err := c.Mail("prn@campus.test"); err != nil {
		t.Error(err)
	} else {
		var refused *textproto.Error
		if err = c.Rcpt("someone@example.test"); !errors.As(err, &refused) || refused.Code != 550 || !strings.HasPrefix(refused.Msg, "5.7.1 ") {
			t.Errorf("an unregistered principal may send: %v", err)
		}
	}
}

// refused: one answer to all of them, and a reason for each.
func (l *Login) refused(t *testing.T) {
	said := map[string]bool{}
	for _, a := range []struct{ user, password, reason string }{
		{"smtp-relay/service.campus.test", "wrong", "kerberos: wrong: "},
		{"nobody", "right", "kerberos: unknown: "},
		{"nobody", "right", "ldap: unknown: "},
		{"stopped", "right", "kerberos: locked: "},
		{"prn-3", "wrong", "ldap: wrong: "},
		{"own", "wrong", "local: wrong: "},
		{"person", "right", "local: wrong: "},                       // the principal is not the device
		{"SCANNER", "right", "ldap: wrong: credential scanner has"}, // nor is the entry, however it is written
		{"easy", "right", "kerberos: locked: credential easy is suspended"},
		{"prn@campus.test", "right", "unknown"}, // the From address
		{"person@campus.test", "right", "unknown"},
		{"", "", "empty user name"},
		{"own", "", "empty password"},
		{"prn-3", "", "empty password"},
		{"smtp-relay/service.campus.test", "", "empty password"},
	} {
		for _, how := range []smtp.Auth{plainLogin(a.user, a.password), loginMechanism{a.user, a.password}} {
			said[l.expect(t, how, 535, "5.7.8", a.reason)] = true
		}
	}
	if len(said) != 1 {
		t.Errorf("the refused read different things: %v", said)
	}
}

// others are those whom an authority that is away does not concern: devices
// known by their address, and names with secrets in the registry.
func (l *Login) others(t *testing.T) {
	t.Helper()
	l.Submit(world.Submission{From: world.Printer, To: []string{"someone@example.test"}})
	if c, code, text := l.login(t, plainLogin("own", "ours")); code != 235 {
		t.Errorf("a credential of the registry: %d %s", code, text)
	} else {
		l.submit(t, c)
	}
}

// later logs in until it succeeds again.
func (l *Login) later(t *testing.T, a smtp.Auth) {
	t.Helper()
	world.WaitFor(t, "a login", func(context.Context) error {
		if _, code, text := l.login(t, a); code != 235 {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
}

func (l *Login) kdcAway(t *testing.T) {
	l.KDC.Stop(t)
	right := plainLogin("smtp-relay/service.campus.test", "right")
	for range 5 {
		l.expect(t, right, 454, "4.7.0", "kerberos: unavailable: ask KDC ")
	}
	l.expect(t, right, 454, "4.7.0", "kerberos: unavailable: not asked")
	l.expect(t, plainLogin("nobody", "right"), 454, "4.7.0", "kerberos: unavailable: ")
	l.expect(t, plainLogin("prn-3", "right"), 454, "4.7.0", "kerberos: unavailable: ") // a name of Kerberos, for all we know
	l.others(t)
	l.KDC.Start(t)
	l.later(t, right)
}

func (l *Login) kdcSpoofed(t *testing.T) {
	l.KDC.Stop(t)
	liar := StartKDC(t, l.KDC.Address, "addprinc -pw chosen smtp-relay/service.campus.test")
	for range 2 {
		l.expect(t, plainLogin("smtp-relay/service.campus.test", "chosen"), 454, "4.7.0", "cannot prove that it is the true one")
	}
	l.others(t)
	liar.Stop(t)
	l.KDC.Start(t)
	l.later(t, plainLogin("smtp-relay/service.campus.test", "right"))
}

func (l *Login) directoryAway(t *testing.T) {
	l.Directory.Stop(t)
	l.expect(t, plainLogin("prn-3", "right"), 454, "4.7.0", "ldap: unavailable: ")
	if _, code, text := l.login(t, plainLogin("prn-2", "right")); code != 235 {
		t.Errorf("a principal: %d %s", code, text)
	}
	l.others(t)
	l.Directory.Start(t)
	l.later(t, plainLogin("prn-3", "right"))
}
