package delivery

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/smtptest"
)

// required makes TLS a demand for all destinations of the zone, and attempts
// rare.
func required(level config.TLSLevel) func(*config.Config) {
	return func(c *config.Config) {
		c.Delivery.RequireTLS = []config.RequireTLS{{Domain: "x.test", Level: level}}
		c.Delivery.Retry = []config.Duration{config.Duration(time.Hour)}
	}
}

func certified(t *testing.T, name string) (smtptest.Options, options) {
	t.Helper()
	authority, err := smtptest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Issue(smtptest.Leaf{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return smtptest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{leaf}}}, options{zone: zone, roots: authority.Pool()}
}

func TestNeverInClearWhereTLSIsRequired(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		mx   smtptest.Options
	}{
		{"STARTTLS is not offered", smtptest.Options{NoTLS: true}},
		{"STARTTLS is stripped", smtptest.Options{Without: []string{"STARTTLS"}}},
		{"STARTTLS is refused", smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageStartTLS: "454"}}},
		{"the handshake breaks", smtptest.Options{At: map[smtptest.Stage]string{smtptest.StageTLS: "drop"}}},
	} {
		for _, level := range []config.TLSLevel{config.TLSEncrypt, config.TLSVerify} {
			t.Run(tt.name+"/"+string(level), func(t *testing.T) {
				t.Parallel()
				server := mx(t, 1, 0, tt.mx)
				r := start(t, options{zone: zone, port: server.Port(), config: required(level)})
				rec := r.await(r.submit(r.job("a@x.test")), event.Delayed)
				if one := rec.Recipients[0]; one.Reply.Status() != "4.7.10" || one.RemoteMTA != "" {
					t.Errorf("%+v", one)
				}
				if lines(server, "C: EHLO") == 0 || lines(server, "C: MAIL") > 0 {
					t.Errorf("said in clear:\n%v", server.Transcripts())
				}
			})
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	server, o := certified(t, "mx1.test")
	started := mx(t, 1, 0, server)
	o.port, o.config = started.Port(), required(config.TLSVerify)
	r := start(t, o)
	rec := r.await(r.submit(r.job("a@x.test")), event.Delivered)
	if got := rec.Recipients[0].TLS; !strings.HasSuffix(got, " verified") {
		t.Errorf("TLS %q", got)
	}
}

func TestVerifyRefusesTheWrongCertificate(t *testing.T) {
	t.Parallel()
	server, o := certified(t, "elsewhere.test")
	started := mx(t, 1, 0, server)
	o.port, o.config = started.Port(), required(config.TLSVerify)
	r := start(t, o)
	rec := r.await(r.submit(r.job("a@x.test")), event.Delayed)
	if rec.Recipients[0].Reply.Status() != "4.7.10" || lines(started, "C: MAIL") > 0 {
		t.Errorf("%+v", rec)
	}
}

func TestEncryptTakesAnyCertificate(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: required(config.TLSEncrypt)})
	rec := r.await(r.submit(r.job("a@x.test")), event.Delivered)
	if got := rec.Recipients[0].TLS; !strings.HasSuffix(got, " unverified") {
		t.Errorf("TLS %q", got)
	}
}

func TestDANEFailsClosed(t *testing.T) {
	t.Parallel()
	server := mx(t, 1, 0, smtptest.Options{})
	r := start(t, options{zone: zone, port: server.Port(), config: required(config.TLSDANE)})
	rec := r.await(r.submit(r.job("a@x.test")), event.Delayed)
	if rec.Recipients[0].Reply != replyNoDANE || server.Counts().Connections > 0 {
		t.Errorf("%+v", rec)
	}
}

// Where TLS is a bonus, a broken one does not stop the mail.
func TestOpportunisticFallsBackToClear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   map[smtptest.Stage]string
	}{
		{"refused", map[smtptest.Stage]string{smtptest.StageStartTLS: "454"}},
		{"broken", map[smtptest.Stage]string{smtptest.StageTLS: "drop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := mx(t, 1, 0, smtptest.Options{At: tt.at})
			r := start(t, options{zone: zone, port: server.Port()})
			rec := r.await(r.submit(r.job("a@x.test")), event.Delivered)
			if rec.Recipients[0].TLS != "" || rec.Attempt != 1 {
				t.Errorf("%+v", rec)
			}
			if n := server.Counts().Connections; n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestRouteWithImplicitTLSAndCredentials(t *testing.T) {
	t.Parallel()
	server, o := certified(t, "gw.test")
	server.ImplicitTLS, server.User, server.Password = true, "relay", "secret"
	started := mx(t, 1, 0, server)
	o.zone += "gw.test A 127.0.0.1\n"
	o.config = func(c *config.Config) {
		_, port, _ := strings.Cut(started.Addr(), ":")
		c.Delivery.Routes = []config.Route{
			{Domain: "good.test", To: "smtps://gw.test:" + port, Credentials: "relay:secret"},
			{Domain: "bad.test", To: "smtps://gw.test:" + port, Credentials: "relay:wrong"},
		}
	}
	r := start(t, o)
	if rec := r.await(r.submit(r.job("a@good.test")), event.Delivered); !strings.HasSuffix(rec.Recipients[0].TLS, " verified") {
		t.Errorf("%+v", rec)
	}
	if rec := r.await(r.submit(r.job("a@bad.test")), event.Delayed); rec.Recipients[0].Reply != replyAuth {
		t.Errorf("our credentials bounced the mail: %+v", rec)
	}
}
