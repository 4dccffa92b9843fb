package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// A relay as init makes it for one way of sending serves that, and neither of the
// others.
func TestX11_OneWayOnly(t *testing.T) {
	const registered, host = "127.0.0.9", "127.0.0.10"
	for mode, want := range map[string]struct{ hosted, outside, login, trusted string }{
		"direct":     {"", "Not registered", "-", "Log in, or get an exemption"},
		"submission": {"-", "-", "", "-"},
		"connector":  {"Not registered", "Not registered", "-", "cannot be checked now"},
	} {
		t.Run(mode, func(t *testing.T) {
			r := inThisMode(t, mode)
			r.ok("domain", "add", "campus.test", "--route", "smtp://"+r.mx.Addr())
			r.ok("network", "add", "campus", "127.0.0.0/8")
			r.register("prn-1.campus.test", "chem", "--address", registered)
			secret := strings.TrimSpace(r.ok("credential", "add", "app", "--device", "prn-1.campus.test"))
			says := func(want, on, from string, as login, rcpt string) func() bool {
				return func() bool {
					_, err := submit(t, on, from, as, rcpt)
					return want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want)
				}
			}
			for _, way := range []struct {
				name, want, on, from, rcpt string
				as                         login
			}{
				{"hosted", want.hosted, r.smtp, host, "a@campus.test", login{}}, {"outside", want.outside, r.smtp, host, "a@inet.test", login{}},
				{"trusted", want.trusted, r.smtp, registered, "a@inet.test", login{}}, {"login", want.login, r.submission, host, "a@inet.test", login{"app", secret}},
			} {
				if (way.want == "-") != (way.on == "") {
					t.Errorf("%s: on %q", way.name, way.on)
				} else if way.on != "" {
					timetest.Await(t, way.name, says(way.want, way.on, way.from, way.as, way.rcpt))
				}
			}
			if mode == "connector" { // hosted mail needs no name
				timetest.Await(t, "trusted, hosted", says("", r.smtp, registered, login{}, "a@campus.test"))
			}
			if mode == "submission" {
				timetest.Await(t, "without a login", says("Log in", r.submission, registered, login{}, "a@campus.test"))
			}
		})
	}
	if got := postrider(t, "", "init", "--mode", "open", t.TempDir()); got.code != 2 || !strings.Contains(got.err, "none of connector, direct, submission") {
		t.Errorf("%+v", got)
	}
}

// inThisMode starts a relay of `postrider init --mode`, whose listeners it has are
// on addresses of the test. Its DNS is nobody.
func inThisMode(t *testing.T, mode string) *relay {
	t.Helper()
	dir := t.TempDir()
	if got := postrider(t, "", "init", "--mode", mode, "--hostname", "relay.campus.test", dir); got.code != 0 {
		t.Fatalf("init: %+v", got)
	}
	ports := porttest.Addresses(t, 4)
	r := &relay{t: t, file: filepath.Join(dir, "postrider.yaml"), mx: smtptest.Start(t, smtptest.Options{})}
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.file, strings.NewReplacer(
		`#data: /var/lib/postrider`, "data: "+filepath.Join(dir, "data"), `":25"`, `"`+ports[0]+`"`, `":587"`, `"`+ports[1]+`"`, `":465"`, `"`+ports[2]+`"`,
		`#address: "127.0.0.1:9464"`, `address: ""`, `#resolver: ""`, `resolver: "`+ports[3]+`"`,
		`#routes: []`, `routes: [{domain: "*", to: "smtp://`+r.mx.Addr()+`"}]`,
	).Replace(string(text)))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range cfg.Listeners {
		switch l.Mode {
		case config.ModeRelay:
			r.smtp = l.Address
		case config.ModeSubmission:
			r.submission = l.Address
		}
	}
	if len(cfg.Delivery.Routes) != 1 || cfg.DNS.Resolver != ports[3] {
		t.Fatalf("the template has other lines: %+v %+v", cfg.Delivery.Routes, cfg.DNS)
	}
	run(t, cfg)
	return r
}
