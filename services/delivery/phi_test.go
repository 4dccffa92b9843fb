package delivery

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/registry"
	domains "github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

func (r *rig) phi(recipient string) *event.Job {
	j := r.job(recipient)
	j.PHI = true
	return r.submit(j)
}

func seldom(c *config.Config) {
	c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
}

// Health data leaves for outside on TLS with a certificate that verifies, or not
// at all; whatever the host says after EHLO, it hears no sender (W13).
func TestPHIIsNeverInClear(t *testing.T) {
	t.Parallel()
	wrong, roots := certified(t, "elsewhere.test")
	for name, server := range map[string]smtptest.Options{
		"no TLS":                {NoTLS: true},
		"STARTTLS is refused":   {At: map[smtptest.Stage]string{smtptest.StageStartTLS: "454"}},
		"the handshake breaks":  {At: map[smtptest.Stage]string{smtptest.StageTLS: "drop"}},
		"a certificate of none": {},
		"of another host":       wrong,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := mx(t, 1, 0, server)
			r := start(t, options{zone: zone, port: host.Port(), roots: roots.roots, config: seldom})
			rec := r.await(r.phi("a@x.test"), event.Delayed)
			if got := rec.Recipients[0].Reply.Status(); got != "4.7.10" {
				t.Errorf("%+v", rec)
			}
			if lines(host, "C: EHLO") == 0 || lines(host, "C: MAIL") > 0 {
				t.Errorf("said:\n%v", host.Transcripts())
			}
		})
	}
}

func TestPHIGoesOverVerifiedTLS(t *testing.T) {
	t.Parallel()
	server, o := certified(t, "mx1.test")
	host := mx(t, 1, 0, server)
	o.port = host.Port()
	r := start(t, o)
	if got := r.await(r.phi("a@x.test"), event.Delivered).Recipients[0].TLS; !strings.HasSuffix(got, " verified") {
		t.Errorf("TLS %q", got)
	}
}

// A route in clear is no way out either, and a session that other mail opened is
// not used.
func TestPHIByARouteInClear(t *testing.T) {
	t.Parallel()
	host := mx(t, 1, 0, smtptest.Options{NoTLS: true})
	r := start(t, options{zone: zone, port: host.Port(), config: func(c *config.Config) {
		seldom(c)
		c.Delivery.Routes = []config.Route{{Domain: "*", To: "smtp://" + host.Addr()}}
	}})
	r.await(r.submit(r.job("a@x.test")), event.Delivered)
	r.await(r.phi("b@x.test"), event.Delayed)
	if n := lines(host, "C: MAIL"); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// A hosted domain is not outside, whether the file hosts it or a command.
func TestPHIWithinHostedDomains(t *testing.T) {
	t.Parallel()
	host := mx(t, 1, 0, smtptest.Options{NoTLS: true})
	at := "smtp://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(host.Port()))
	r := start(t, options{zone: zone, port: host.Port(), config: func(c *config.Config) {
		c.Domains.Hosted = []config.Hosted{{Name: "file.test", Route: at}, {Name: "x.test"}}
	}})
	r.await(r.phi("a@file.test"), event.Delivered)
	r.await(r.phi("a@x.test"), event.Delivered) // by its MX
	reg, err := domains.Open(t.Context(), r.bus, registry.Entries{})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Put(t.Context(), &registry.Domain{Name: "new.test", Route: at, Entry: registry.Entry{By: "tester"}}); err != nil {
		t.Fatal(err)
	}
	timetest.Await(t, "the domain to be hosted", func() bool {
		_, hosted := r.worker.mta.rules.hosted("new.test")
		return hosted
	})
	r.await(r.phi("a@new.test"), event.Delivered)
}

// Its report is about encryption, and is health data itself.
func TestPHIExpires(t *testing.T) {
	t.Parallel()
	host := mx(t, 1, 0, smtptest.Options{NoTLS: true})
	r := start(t, options{zone: zone, port: host.Port(), config: func(c *config.Config) {
		c.Delivery.Lifetime = config.Lifetime{Default: config.Duration(time.Second), Application: config.Duration(time.Second), Scan: config.Duration(time.Second), Alert: config.Duration(time.Second)}
	}})
	r.await(r.phi("a@x.test"), event.Failed)
	r.drained()
	f := r.failure(event.KindExpired)
	if !f.PHI || f.Recipients[0].Reply.Status() != "4.7.10" || lines(host, "C: MAIL") > 0 {
		t.Errorf("%+v", f)
	}
}
