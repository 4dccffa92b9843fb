package ingress

import (
	"bufio"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/postrider/postrider/services/ingress/authority"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// secured connects to the submission listener and goes on under TLS.
func (r *rig) secured(t *testing.T) *client {
	t.Helper()
	c := r.connect(campus, r.cfg.Listeners[1].Address)
	c.t = t
	c.expect("220")
	c.say("EHLO host.campus.test", "250")
	c.startTLS()
	return c
}

// A device that is not active may authenticate, and reads at MAIL why it may
// not send.
func TestAuthOfSuspendedDevice(t *testing.T) {
	r := start(t)
	r.suspend()
	c := r.secured(t)
	c.say(plainAuth("prn", "secret"), "235")
	if got := c.ask("MAIL FROM:<prn@campus.test>"); !strings.HasPrefix(got, "550 5.7.1 ") || !strings.Contains(got, " Registration suspended: prn.") {
		t.Errorf("got %q", got)
	}
}

// A credential that is suspended does not even authenticate (S39), and reads no
// more than a wrong password.
func TestAuthOfSuspendedCredential(t *testing.T) {
	r := start(t)
	c := &registry.Credential{Name: "held", Device: "prn.campus.test", Secrets: []registry.Secret{{Hash: registry.HashSecret("secret")}}, Entry: by}
	for _, step := range []struct {
		suspended bool
		want      string
	}{{false, "235 2.7.0 "}, {true, "535 5.7.8 "}} {
		c.Suspended = step.suspended
		if err := r.store.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		timetest.Await(t, "the credential", func() bool {
			return strings.HasPrefix(r.secured(t).ask(plainAuth("held", "secret")), step.want)
		})
	}
	found := false
	for _, e := range r.refusals() {
		found = found || e.Facts.Identity == "held" && strings.Contains(e.Reason, "held is suspended; the password is right")
		if e.Stage == "auth" && !strings.Contains(e.Reply.Text, "Wrong user name or password") {
			t.Errorf("the client reads %q", e.Reply.Text)
		}
	}
	if !found {
		t.Error("no evidence of the suspension")
	}
}

// A directory that is away is no verdict on anybody, and concerns nobody whose
// secrets or addresses are ours (X9).
func TestAuthorityIsAway(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Auth = config.Auth{Local: true, LDAP: &config.LDAP{URL: "ldaps://" + porttest.Address(t), UserDN: "uid=%s,dc=test"}}
	})
	for auth, want := range map[string]string{
		plainAuth("somebody", "secret"): "454 4.7.0 ", plainAuth("prn", "secret"): "235 2.7.0 ",
		plainAuth("prn", "wrong"): "535 5.7.8 ", plainAuth("", ""): "535 5.7.8 ",
	} {
		r.secured(t).say(auth, want)
	}
	c := r.begin(device, "x@example.test")
	c.queued(c.data(message))
	found := false
	for _, e := range r.refusals() {
		found = found || e.Rule == "trouble" && e.Facts.Identity == "somebody" && strings.HasPrefix(e.Reason, "ldap: unavailable: connect: ")
	}
	if !found {
		t.Error("no evidence of the directory that is away")
	}
}

// Any authority makes AUTH possible; without one it is not offered.
func TestAuthOffered(t *testing.T) {
	directory := &config.LDAP{URL: "ldaps://127.0.0.1", UserDN: "uid=%s,dc=test"}
	for offered, auth := range map[bool]config.Auth{true: {LDAP: directory}, false: {}} {
		r := start(t, func(c *config.Config) { c.Auth = auth })
		c := r.dial(campus)
		c.say("EHLO host.campus.test", "250")
		c.say("STARTTLS", "220")
		secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		c.conn, c.in = secure, bufio.NewReader(secure)
		if got := c.ask("EHLO host.campus.test"); strings.Contains(got, "AUTH PLAIN LOGIN") != offered {
			t.Errorf("offered should be %v: %q", offered, got)
		}
	}
}

// Who fails learns nothing from the time that it took; who must come again does
// not wait.
func TestAuthTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &Ingress{
			ctx: t.Context(), cfg: config.Defaults(), rules: &authz.Rules{}, metrics: newMetrics(prometheus.NewRegistry()),
			evidence: newEvidence(nil, zerolog.Nop(), prometheus.NewCounter(prometheus.CounterOpts{})),
		}
		s := &session{in: in, listener: &listener{}}
		for _, took := range []time.Duration{0, time.Millisecond, 200 * time.Millisecond, failedAfter} {
			for kind, want := range map[authority.Kind]time.Duration{authority.Wrong: failedAfter, authority.Unknown: failedAfter, authority.Locked: failedAfter, authority.Unavailable: took} {
				began := time.Now()
				time.Sleep(took)
				s.unauthenticated("prn", began, &authority.Error{Kind: kind})
				if got := time.Since(began); got != want {
					t.Errorf("%s: %v after a check of %v, want %v", kind, got, took, want)
				}
			}
		}
	})
}
