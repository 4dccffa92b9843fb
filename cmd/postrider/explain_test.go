package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
	words "github.com/postrider/postrider/shared/smtp"
	"github.com/postrider/postrider/shared/timetest"
)

// refusedAs is what a client from an address was told, without its reference.
func (r *relay) refusedAs(from, to string) (ref, reply string) {
	r.t.Helper()
	_, err := submit(r.t, r.smtp, from, login{}, to)
	var said *textproto.Error
	if !errors.As(err, &said) {
		r.t.Fatalf("not refused: %v", err)
	}
	ref = strings.Fields(said.Msg)[1]
	return ref, strings.ReplaceAll(fmt.Sprint(said.Code, " ", said.Msg), ref, "")
}

// check accept answers what ingress answers, word for word but for the
// reference, and says why and what to do.
func TestCheckAccept(t *testing.T) {
	r := start(t)
	ask := func(from, to string, more ...string) result {
		return r.do(append([]string{"check", "accept", "--from-ip", from, "--helo", "localhost", "--mail-from", "prn@campus.test", "--rcpt", to}, more...)...)
	}
	if got := ask("127.0.0.1", "x@inet.test"); got.code != 0 || !strings.Contains(got.stdout, "+ yes, for x@inet.test, at RCPT") || !strings.Contains(got.stdout, "rule registered") {
		t.Errorf("%+v", got)
	}
	for _, from := range []string{"127.0.0.5", "127.9.9.9"} {
		_, want := r.refusedAs(from, "x@inet.test")
		got := ask(from, "x@inet.test", "-o", "json")
		var c checked
		if err := json.Unmarshal([]byte(got.stdout), &c); err != nil || got.code != 10 || c.Admitted || len(c.Answers) != 1 {
			t.Fatalf("%v: %+v", err, got)
		}
		o := c.Answers[0]
		ref := strings.Fields(o.Reply)[2]
		if strings.ReplaceAll(o.Reply, ref, "") != want {
			t.Errorf("check says %q, ingress %q", o.Reply, want)
		}
		if o.Rule != "not-registered" || o.About == "" || o.Reason == "" || len(o.Fix) == 0 || len(o.Who) == 0 || !strings.HasPrefix(o.Commands[0], "postrider device request NAME --address "+from) {
			t.Errorf("%+v", o)
		}
		if near := strings.Join(o.Nearest, ""); (from == "127.0.0.5") != strings.Contains(near, "127.0.0.5 is not registered; 127.0.0.1 is prn.campus.test (active, owner chem, 127.0.0.1)") {
			t.Errorf("nearest to %s: %s", from, near)
		}
	}
	for want, more := range map[string][]string{
		"rule authentication": {"--listener", "submission"},
		"rule size":           {"--size", "60MB"},
	} {
		if got := ask("127.0.0.1", "x@inet.test", more...); got.code != 10 || !strings.Contains(got.stdout, want) || !strings.Contains(got.stdout, "at MAIL") {
			t.Errorf("%v: %+v", more, got)
		}
	}
	if got := ask("127.0.0.1", "x@inet.test", "--identity", "nobody"); !strings.Contains(got.err, "No credential is called nobody") {
		t.Errorf("%+v", got)
	}
	r.ok("network", "add", "dhcp", "127.9.9.0/24")
	timetest.Await(t, "the advice for an address that cannot be registered is a credential", func() bool {
		got := ask("127.9.9.9", "x@inet.test").stdout
		return strings.Contains(got, "postrider credential add") && !strings.Contains(got, "--address 127.9.9.9")
	})
	r.fails(2, "--from-ip", "check", "accept", "--rcpt", "x@inet.test")
	r.fails(2, "is not an IP address", "check", "accept", "--from-ip", "prn", "--mail-from", "", "--rcpt", "x@inet.test")
	r.fails(2, "no listener is called", "check", "accept", "--from-ip", "127.0.0.1", "--listener", "x", "--mail-from", "", "--rcpt", "x@inet.test")
}

// A refusal is explained by whatever a person has of it; the advice works, and
// the explanation says so afterwards.
func TestExplainRefusal(t *testing.T) {
	r := start(t)
	ref, said := r.refusedAs("127.0.0.5", "x@inet.test")
	timetest.Await(t, ref+" is in the evidence", func() bool { return r.do("explain", ref).code == 0 })
	misread := ref
	if i := strings.IndexAny(ref, "QDLT"); i >= 0 {
		misread = ref[:i] + strings.NewReplacer("Q", "0", "D", "0", "L", "1", "T", "1").Replace(ref[i:i+1]) + ref[i+1:]
	}
	for _, text := range []string{ref, strings.ToLower(ref), "550 5.7.1 " + ref + " Not regis", "The printer says:\n  " + strings.Replace(ref, "-", "-\n", 1) + "\nwhy?", misread} {
		got := r.ok("explain", text)
		for _, want := range []string{
			ref, "refused at RCPT", "rule not-registered", "127.0.0.1 is prn.campus.test", "postrider device request NAME --address 127.0.0.5", "postmaster@relay.campus.test",
			"now        no: refused by not-registered again",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("explain %q has no %q:\n%s", text, want, got)
			}
		}
	}
	r.ok("device", "request", "new.campus.test", "--address", "127.0.0.5")
	if got := r.ok("explain", ref); !strings.Contains(got, "do         postrider device approve new.campus.test") {
		t.Errorf("a request is not seen:\n%s", got)
	}
	r.ok("device", "approve", "new.campus.test")
	got := r.ok("explain", ref)
	if !strings.Contains(got, "now        yes: admitted by registered, device new.campus.test") || !strings.Contains(got, "nothing is left to do") {
		t.Errorf("%s", got)
	}
	if strings.Contains(got, "device request") || strings.Contains(got, "127.0.0.5 is not registered") {
		t.Errorf("it advises to register what is registered:\n%s", got)
	}
	var fields struct {
		Refusal event.Refusal
		Then    opinion
		Now     *opinion
		Works   string
	}
	if err := json.Unmarshal([]byte(r.ok("explain", ref, "-o", "json")), &fields); err != nil || string(fields.Refusal.Ref) != ref ||
		strings.ReplaceAll(fields.Then.Reply, ref, "") != said || fields.Now == nil || fields.Now.Outcome != authz.Admit {
		t.Errorf("%v: %+v", err, fields)
	}
	r.fails(3, "no refusal has the reference", "explain", string(mail.NewRef()))
	r.fails(3, "no reference, no address", "explain", "paper jam")
	r.fails(3, "did you mean prn.campus.test?", "explain", "prm.campus.test")
}

// The last attempts of a client are shown with all that its owner asks for, a
// rejected certificate included; and that nothing came, where nothing did.
func TestExplainClient(t *testing.T) {
	r := start(t)
	r.ok("credential", "add", "app", "--device", "prn.campus.test")
	id := r.submit("x@inet.test")
	ref, _ := r.refusedAs("127.0.0.5", "x@inet.test")
	if _, err := submit(t, r.submission, "127.0.0.6", login{"app", "wrong"}, "x@inet.test"); err == nil {
		t.Fatal("a wrong secret passes")
	}
	distrust(t, r.submission, "127.0.0.5")
	var got string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(got)
		}
	})
	await := func(subject string, texts ...string) {
		t.Helper()
		timetest.Await(t, subject+" has its attempts", func() bool {
			got = r.ok("explain", subject)
			for _, want := range texts {
				if !strings.Contains(got, want) {
					return false
				}
			}
			return true
		})
	}
	_, port, _ := net.SplitHostPort(r.submission)
	await("127.0.0.5", ref, "is not registered", "550 5.7.1", "in clear", "handshake", port+" submission", "closed", "certificate")
	await("prn.campus.test", id, "accepted", "535 5.7.8", "not a secret of credential app", "TLS1.3", "app", "127.0.0.6", "prn.campus.test (active, owner chem, 127.0.0.1), scope anywhere", "+ someone@example.com")
	await("why does 127.0.0.1 not scan?", id, "this is about 127.0.0.1")
	if got = r.ok("explain", "What became of message "+id+", please?"); !strings.Contains(got, "postrider trace "+id) {
		t.Errorf("%s", got)
	}
	if got = r.ok("explain", "127.8.8.8"); !strings.Contains(got, "nothing seen from 127.8.8.8 in the last 30 days") || !strings.Contains(got, port+" (submission)") {
		t.Errorf("%s", got)
	}
	var c struct {
		Attempts []attempt
		Answers  []opinion
	}
	if err := json.Unmarshal([]byte(r.ok("explain", "127.0.0.5", "-o", "json")), &c); err != nil || len(c.Attempts) != 2 || len(c.Answers) == 0 || c.Attempts[0].Address != netip.MustParseAddr("127.0.0.5") {
		t.Errorf("%v: %+v", err, c)
	}
	if got := r.ok("explain", "127.0.0.5", "--last", "1"); strings.Contains(got, ref) || !strings.Contains(got, "handshake") {
		t.Errorf("more than the last:\n%s", got)
	}
}

// distrust is a client that rejects the certificate of the relay.
func distrust(t *testing.T, to, from string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c, err := smtp.NewClient(conn, "relay.campus.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(&tls.Config{ServerName: "relay.campus.test"}); err == nil {
		t.Fatal("the certificate is trusted")
	}
}

// asker asks a registry of a test.
func asker(e registry.Entries) *asking {
	cfg := config.Defaults()
	cfg.Relay = config.Relay{Hostname: "relay.campus.test", HelpURL: "https://relay.campus.test"}
	cfg.Listeners = []config.Listener{{Name: "devices", Address: "127.0.0.1:25", Mode: config.ModeRelay}}
	return &asking{cfg: cfg, reg: registry.NewSnapshot(1, e), rules: &authz.Rules{}}
}

// Every rule that can refuse is explained with what it wants, a fix, and who
// can help, whatever the facts are.
func TestEveryCauseHasAFix(t *testing.T) {
	a := asker(registry.Entries{})
	for _, list := range [][]authz.Rule{authz.Catalog(), event.Causes()} {
		for _, rule := range list {
			if rule.Fix == "" && slices.Contains([]string{"sandbox", "report", "registered", "campus-to-hosted", "postmaster"}, rule.Name) {
				continue // they only admit
			}
			r := &event.Refusal{Ref: mail.NewRef(), Stage: "rcpt", Rule: rule.Name, Facts: authz.Facts{Address: netip.MustParseAddr("10.2.3.4")}}
			var out strings.Builder
			a.explainRefusal(t.Context(), r).write(&out)
			for _, want := range []string{"rule " + rule.Name, "fix        " + rule.Fix, "wants      " + rule.About, "now        ", "postmaster@relay.campus.test"} {
				if rule.Fix == "" || rule.About == "" || !strings.Contains(out.String(), want) {
					t.Errorf("%s has no %q:\n%s", rule.Name, want, out.String())
				}
			}
		}
	}
}

// planned are commands of the contract that another part brings.
var planned = []string{}

// What is to be typed is there to be typed, and nothing that a client chose
// reaches the shell.
func TestAdvisedCommands(t *testing.T) {
	hostile := "$(reboot).campus.test"
	at := netip.MustParseAddr("10.2.3.4")
	device := func(state registry.State) registry.Entries {
		return registry.Entries{
			Devices: []*registry.Device{{Name: "prn.campus.test", State: state, Scope: registry.ScopeAnywhere, Addresses: registry.MustAddresses("10.2.3.4"), Senders: []string{"scan@campus.test"}}},
			Domains: []*registry.Domain{{Name: "campus.test"}},
		}
	}
	blocked := device(registry.StateActive)
	blocked.Blocks = []*registry.Block{{Subject: "10.2.3.0/24"}}
	var from words.ReversePath
	if err := from.UnmarshalText([]byte("x@inet.test")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		entries registry.Entries
		facts   authz.Facts
		rules   func(*authz.Rules)
		rule    string
		want    string
	}{
		{"unknown", registry.Entries{}, authz.Facts{Address: at, Helo: hostile}, nil, "not-registered", "postrider device request NAME --address 10.2.3.4 --owner OWNER --contact ADDRESS"},
		{"unknown with a name", registry.Entries{}, authz.Facts{Address: at, Helo: "PRN.campus.test"}, nil, "not-registered", "postrider device approve prn.campus.test"},
		{"requested", device(registry.StateRequested), authz.Facts{Address: at}, nil, "not-registered", "postrider device approve prn.campus.test"},
		{"retired", device(registry.StateRetired), authz.Facts{Address: at}, nil, "not-registered", "postrider device request prn.campus.test --address 10.2.3.4 --owner OWNER --contact ADDRESS"},
		{"suspended", device(registry.StateSuspended), authz.Facts{Address: at}, nil, "device-state", "postrider device resume prn.campus.test"},
		{"blocked", blocked, authz.Facts{Address: at}, nil, "blocked", "postrider block rm 10.2.3.0/24"},
		{"identity of nobody", registry.Entries{}, authz.Facts{Address: at, Identity: hostile, Authority: authz.LDAP}, nil, "not-registered", "postrider credential add NAME --device DEVICE"},
		{"no name", device(registry.StateActive), authz.Facts{Address: at}, func(r *authz.Rules) { r.FCrDNS = authz.Enforce }, "fcrdns", "10.2.3.4 PTR prn.campus.test, and prn.campus.test A 10.2.3.4; it has no confirmed name"},
		{"sender", device(registry.StateActive), authz.Facts{Address: at, ReversePath: from}, nil, "sender-allowed", "the registration of prn.campus.test has: scan@campus.test"},
		{"submission", device(registry.StateActive), authz.Facts{Address: at, Submission: true}, nil, "authentication", "postrider credential add NAME --device prn.campus.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := asker(c.entries)
			if c.rules != nil {
				c.rules(a.rules)
			}
			c.facts.Recipient = recipientAt("inet.test")
			o := a.decide(&c.facts, "rcpt")
			all := strings.Join(append(o.Commands, o.Fix...), "\n")
			if o.Rule != c.rule || !strings.Contains(all, c.want) || strings.Contains(all, "$") {
				t.Errorf("rule %s (%s) advises\n%s\nwant %s", o.Rule, o.Reason, all, c.want)
			}
			for _, command := range o.Commands {
				typed := strings.Fields(command)
				found, _, err := newRoot().Find(typed[1:3])
				if known := strings.Join(typed[:3], " "); err != nil || found.CommandPath() != known {
					if !slices.Contains(planned, known) {
						t.Errorf("there is no %q", known)
					}
				}
			}
		})
	}
}
