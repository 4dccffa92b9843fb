package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnstest"
	"github.com/postrider/postrider/shared/porttest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtptest"
	"github.com/postrider/postrider/shared/timetest"
)

// What the relay found out about a registration is shown to who approves it, and
// devices are chosen by it.
func TestReviewIsShown(t *testing.T) {
	addresses := porttest.Addresses(t, 1)
	dns := dnstest.Start(t, "_dmarc.strict.test. 0 IN TXT \"v=DMARC1; p=reject\"\n_spf.relay.test. 0 IN TXT \"v=spf1 -all\"\nstrict.test. 0 IN TXT \"v=spf1 -all\"\n")
	r := &relay{t: t, file: filepath.Join(t.TempDir(), "postrider.yaml"), smtp: addresses[0], mx: smtptest.Start(t, smtptest.Options{})}
	host, port, err := net.SplitHostPort(r.mx.Addr())
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.file, fmt.Sprintf(`
relay: {hostname: relay.campus.test, data: %q}
listeners: [{name: devices, address: %q, mode: relay}]
policy: {spf: observe, spf_include: _spf.relay.test}
lifecycle: {probe: true}
dns: {resolver: %q}
delivery: {mx_port: %s}
metrics: {address: ""}
`, filepath.Join(filepath.Dir(r.file), "data"), r.smtp, dns.Addr(), port))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	run(t, cfg)

	const name = "app.campus.test" // at the address of a mail server
	r.ok("device", "request", name, "--address", host, "--sender", "x@strict.test", "--contact", "help@campus.test", "--owner", "chem")
	r.ok("device", "request", "quiet.campus.test", "--address", "127.1.7.7", "--contact", "a@campus.test", "--contact", "b@campus.test", "--owner", "chem")
	var shown struct {
		State  registry.State
		Review registry.Review
	}
	show := func(name string) bool {
		shown.Review.Findings = nil
		if err := json.Unmarshal([]byte(r.ok("device", "show", name, "-o", "json")), &shown); err != nil {
			t.Fatal(err)
		}
		return len(shown.Review.Findings) > 0
	}
	timetest.Await(t, "both to be reviewed", func() bool { return show("quiet.campus.test") && show(name) })
	for check, text := range map[string]string{
		"spf": "add include:_spf.relay.test", "dmarc": "receivers will reject it", "mail-server": "a mail server answers", "contact": "one contact at most",
	} {
		if !slices.ContainsFunc(shown.Review.Findings, func(f registry.Finding) bool { return f.Check == check && !f.OK && strings.Contains(f.Text, text) }) {
			t.Errorf("%s is not among %+v", check, shown.Review.Findings)
		}
		if got := r.ok("device", "ls", "finding:"+check, "-o", "csv"); !strings.Contains(got, name) || strings.Contains(got, "quiet") {
			t.Errorf("finding:%s chooses\n%s", check, got)
		}
	}
	if shown.State != registry.StateRequested {
		t.Errorf("state %s", shown.State)
	}
	if got := r.ok("device", "ls", "finding:personal-sender", "-o", "csv"); strings.Contains(got, "campus.test") {
		t.Errorf("nothing tells persons, and chosen are\n%s", got)
	}
	if got := r.ok("device", "ls", "-finding:spf", "-o", "csv"); strings.Contains(got, name) || !strings.Contains(got, "quiet") {
		t.Errorf("the others are\n%s", got)
	}
}
