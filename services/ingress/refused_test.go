package ingress

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/queuetest"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/smtp"
)

// internal marks what no reply may show: names of devices, owners, people,
// reasons, scanners, other hosts.
const internal = "zzinternal"

const help = "https://relay.campus.test"

// offence is a case in which a rule refuses.
type offence struct {
	rules func(*authz.Rules)
	reg   func(*registry.Entries)
	facts func(*authz.Facts)
}

// offences has one for every rule that can refuse.
func offences() map[string]offence {
	device := func(change func(*registry.Device)) func(*registry.Entries) {
		return func(e *registry.Entries) { change(e.Devices[0]) }
	}
	network := func(kind registry.Kind) func(*registry.Entries) {
		return func(e *registry.Entries) {
			for _, p := range []string{"0.0.0.0/0", "::/0"} {
				e.Networks = append(e.Networks, &registry.Network{Range: netip.MustParsePrefix(p), Kind: kind, Note: internal})
			}
		}
	}
	identity := func(f *authz.Facts) { f.Identity = "app" }
	return map[string]offence{
		"session-limit": {rules: func(r *authz.Rules) { r.SessionRelay = 1 }, facts: func(f *authz.Facts) { f.Messages = 1 }},
		"size":          {rules: func(r *authz.Rules) { r.MessageSize = 50_000_000 }, facts: func(f *authz.Facts) { f.Size = 50_000_001 }},
		"recipients":    {rules: func(r *authz.Rules) { r.Recipients = 1000 }, facts: func(f *authz.Facts) { f.Recipients = 1000 }},
		"blocked": {reg: func(e *registry.Entries) {
			e.Blocks = append(e.Blocks, &registry.Block{Subject: "0.0.0.0/0"}, &registry.Block{Subject: "::/0"})
		}},
		"helo":           {rules: func(r *authz.Rules) { r.Helo = authz.Enforce }, facts: func(f *authz.Facts) { f.Helo += "&" }},
		"authentication": {facts: func(f *authz.Facts) { f.Submission = true }},
		"credential":     {reg: func(e *registry.Entries) { e.Credentials[0].Suspended, e.Credentials[0].Reason = true, internal }, facts: identity},
		"denied-network": {reg: network(registry.KindWorkstations)},
		"device-state":   {reg: device(func(d *registry.Device) { d.State = registry.StateSuspended })},
		"proof":          {reg: device(func(d *registry.Device) { d.Proof = registry.ProofCredential })},
		"address-lock":   {rules: func(r *authz.Rules) { r.AddressLock = authz.Enforce }, reg: device(func(d *registry.Device) { d.Addresses = registry.MustAddresses("10.99.99.99") }), facts: identity},
		"sender-allowed": {reg: device(func(d *registry.Device) { d.Senders = []string{internal + "@campus.test"} })},
		"internal-domain": {reg: func(e *registry.Entries) {
			e.Owners[0].External = true
			e.Domains = append(e.Domains, &registry.Domain{Name: "sender.test", Internal: true})
		}, facts: func(f *authz.Facts) { f.ReversePath.Domain = "sender.test" }},
		"sender":            {rules: func(r *authz.Rules) { r.SenderMustBeHosted = authz.Enforce }},
		"sender-exists":     {rules: func(r *authz.Rules) { r.SenderMustExist = authz.Enforce }, facts: func(f *authz.Facts) { f.Standing = authz.StandingUnknown }},
		"personal-sender":   {rules: func(r *authz.Rules) { r.PersonalSender = authz.Enforce }, facts: func(f *authz.Facts) { f.Standing = authz.StandingPersonal }},
		"header-from":       {reg: device(func(d *registry.Device) { d.Senders = []string{internal + "@campus.test"} }), facts: func(f *authz.Facts) { f.ReversePath = smtp.ReversePath{} }},
		"from-field":        {rules: func(r *authz.Rules) { r.FromField = authz.Enforce }, facts: func(f *authz.Facts) { f.FromFault = authz.FromDisguised }},
		"content":           {facts: func(f *authz.Facts) { f.Scan, f.Scanner = authz.Refuse, internal }},
		"must-authenticate": {rules: func(r *authz.Rules) { r.MustAuthenticate = authz.Enforce }},
		"nat":               {rules: func(r *authz.Rules) { r.NAT = authz.Enforce }, reg: network(registry.KindNAT)},
		"cloud":             {rules: func(r *authz.Rules) { r.Cloud = authz.Enforce }, reg: network(registry.KindCloud)},
		"bulk":              {rules: func(r *authz.Rules) { r.Bulk = authz.Enforce }, reg: device(func(d *registry.Device) { d.Traffic = registry.TrafficSurvey })},
		"fcrdns":            {rules: func(r *authz.Rules) { r.FCrDNS = authz.Enforce }, reg: narrow, facts: func(f *authz.Facts) { f.Name = internal + ".other.test" }},
		"routing": {
			reg: func(e *registry.Entries) {
				e.Devices, e.Domains = nil, append(e.Domains, &registry.Domain{Name: "hosted.test"})
			},
			facts: func(f *authz.Facts) {
				f.Recipient = &smtp.ForwardPath{Address: smtp.Address{Local: "x%inet.test", Domain: "hosted.test"}}
			},
		},
		"scope":          {reg: device(func(d *registry.Device) { d.Scope = registry.ScopeHosted })},
		"not-registered": {reg: func(e *registry.Entries) { e.Devices = nil }},
	}
}

// narrow gives the device its addresses one by one: ranges need no name.
func narrow(e *registry.Entries) {
	e.Devices[0].Addresses = nil
	for _, a := range clients {
		e.Devices[0].Addresses = append(e.Devices[0].Addresses, registry.MustAddresses(a)...)
	}
}

// clients are addresses with the longest texts among them.
var clients = []string{"10.2.3.4", "255.255.255.254", "2001:db8:1234:5678:9abc:def0:1234:5678", "::ffff:10.2.3.4", "fe80:1111:2222:3333:4444:5555:6666:7777"}

// hostile is text that a client may choose.
func hostile(t *rapid.T, name string, most int) string {
	piece := rapid.SampledFrom([]string{"a", "printer", "\r\n250 ok", "\x00", "\x1b[2J", "ü", "\u202e", "R7K2-9QF3 ", "https://evil.test ", "%", "\"", " ", "@", ".", strings.Repeat("x", 64)})
	s := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, name), "")
	return s[:min(len(s), most)]
}

func hostileFacts(t *rapid.T) *authz.Facts {
	return &authz.Facts{
		Listener: "devices", Address: netip.MustParseAddr(rapid.SampledFrom(clients).Draw(t, "client")), Helo: hostile(t, "helo", 255), At: time.Now(),
		ReversePath: smtp.ReversePath{Address: smtp.Address{Local: "x" + hostile(t, "local", 63), Domain: "d" + hostile(t, "domain", 200)}},
		HeaderFrom:  []string{hostile(t, "from", 500) + "@" + hostile(t, "from domain", 200)},
		Recipient:   &smtp.ForwardPath{Address: smtp.Address{Local: "r" + hostile(t, "rcpt", 63), Domain: "inet.test"}},
	}
}

// A refusal of any rule, whatever the client says of itself, begins with a
// reference that fits the first 20 characters, is one line of printable ASCII
// under 200 octets, and shows nothing but what the client knows.
func TestTextOfEveryRule(t *testing.T) {
	// The first five only admit; a limit holds what a device sends, and whoever
	// is none is refused beyond the hosted domains anyway.
	silent := []string{"sandbox", "report", "registered", "campus-to-hosted", "postmaster", "limit"}
	cases := offences()
	for _, rule := range authz.Catalog() {
		c, ok := cases[rule.Name]
		if !ok && !slices.Contains(silent, rule.Name) {
			t.Errorf("no case in which %s refuses", rule.Name)
		}
		if !ok {
			continue
		}
		t.Run(rule.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				f, rules, entries := hostileFacts(t), &authz.Rules{}, estate()
				for i, change := range []func(){
					func() { c.rules(rules) }, func() { c.reg(&entries) }, func() { c.facts(f) },
				} {
					if given := []bool{c.rules != nil, c.reg != nil, c.facts != nil}[i]; given {
						change()
					}
				}
				v := authz.Decide(rules, registry.NewSnapshot(1, entries), f)
				if v.Rule != rule.Name || v.Passes() {
					t.Fatalf("%s by %s: %s", v.Outcome, v.Rule, v.Reason)
				}
				r := answered(t, *f, event.Refusal{Stage: "rcpt", Rule: v.Rule, Reason: v.Reason, Reply: v.Reply})
				checkText(t, r)
				if !strings.HasSuffix(r.Message, " "+help+"/w/"+string(refOf(r.Message))) {
					t.Fatalf("no help in %q", r.Message)
				}
			})
		})
	}
}

// estate is a registry of one device that has every client's address.
func estate() registry.Entries {
	audit := registry.Entry{By: internal, Reason: internal, Ticket: internal}
	return registry.Entries{
		Devices: []*registry.Device{{
			Name: internal + ".campus.test", Owner: internal, Contacts: []string{internal + "@campus.test"}, State: registry.StateActive,
			Scope: registry.ScopeAnywhere, Addresses: registry.MustAddresses("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"), Entry: audit,
		}},
		Credentials: []*registry.Credential{{Name: "app", Device: internal + ".campus.test", Entry: audit}},
		Domains:     []*registry.Domain{{Name: "campus.test"}},
		Owners:      []*registry.Owner{{Name: internal, Contacts: []string{internal + "@campus.test"}, Contract: internal}},
	}
}

// answered is what a session says to a refusal.
func answered(t *rapid.T, f authz.Facts, r event.Refusal) *gosmtp.SMTPError {
	in := &Ingress{cfg: &config.Config{Relay: config.Relay{HelpURL: help}}, metrics: newMetrics(prometheus.NewRegistry())}
	in.evidence = newEvidence(func(context.Context, event.Refusal) error { return nil }, queuetest.Log(new(testing.T)), in.metrics.dropped)
	var said *gosmtp.SMTPError
	if err := (&session{in: in, facts: f}).answer(r); !errors.As(err, &said) {
		t.Fatalf("%v is no reply", err)
	}
	return said
}

func refOf(text string) mail.Ref {
	ref, _ := mail.Referred(text)
	return ref
}

// checkText holds a refusal to what every one must be.
func checkText(t interface{ Fatalf(string, ...any) }, e *gosmtp.SMTPError) {
	line := strconv.Itoa(e.Code) + " 5.7.25 " + e.Message + "\r\n"
	if refOf(e.Message) == "" {
		t.Fatalf("%q does not begin with a reference", e.Message)
	}
	if len(line) >= 200 {
		t.Fatalf("%d octets: %q", len(line), line)
	}
	for _, b := range []byte(e.Message) {
		if b < ' ' || b > '~' {
			t.Fatalf("octet %#x in %q", b, e.Message)
		}
	}
	if strings.Contains(e.Message, internal) || strings.Contains(e.Message, "/etc/") || strings.Contains(e.Message, ".go") {
		t.Fatalf("%q shows what is ours", e.Message)
	}
	for _, rule := range authz.Catalog() {
		if strings.Contains(rule.Name, "-") && strings.Contains(e.Message, rule.Name) {
			t.Fatalf("%q names the rule %s", e.Message, rule.Name)
		}
	}
}

// Whatever a client does wrong, and whoever notices, the refusal has a
// reference in front and the evidence says which rule it was, and that one has
// a fix.
func TestEveryRefusalHasItsReference(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Limits.Recipients = 2 })
	hello := []string{"EHLO host.campus.test"}
	begun := append(slices.Clone(hello), "MAIL FROM:<prn@campus.test>")
	full := append(slices.Clone(begun), "RCPT TO:<anna@campus.test>", "RCPT TO:<bert@campus.test>")
	for _, conversation := range [][]string{
		{"MAIL FROM:<a@campus.test>"},
		append(hello, "NONSENSE"),
		append(hello, "RCPT TO:<a@campus.test>"),
		append(hello, "DATA"),
		append(hello, "MAIL FROM:<no address>"),
		append(hello, "MAIL FROM:<a@campus.test> XYZZY=1"),
		append(hello, "MAIL FROM:<a@campus.test> SIZE=99999999999"),
		append(hello, "MAIL FROM:<a@campus.test> BODY=9BIT"),
		append(hello, "AUTH PLAIN AHBybgBzZWNyZXQ="),
		append(hello, "EHLO "+strings.Repeat("x", 300)),
		append(hello, "NOOP "+strings.Repeat("x", 3000)),
		append(begun, "MAIL FROM:<b@campus.test>"),
		append(begun, "RCPT TO:<x@example.test>"),
		append(begun, "RCPT TO:<no address>"),
		append(begun, "RCPT TO:<a@campus.test> NOTIFY=PERHAPS"),
		append(full, "RCPT TO:<carl@campus.test>"),
		append(full, "BDAT x"),
		append(full, "DATA now"),
	} {
		c := r.dial(campus)
		for i, command := range conversation {
			got := c.ask(command)
			if i < len(conversation)-1 {
				if got[0] > '3' {
					t.Fatalf("%q: %q", command, got)
				}
				continue
			}
			checkReply(t, command, got)
		}
		c.conn.Close()
	}
	c := r.begin(campus, "anna@campus.test")
	checkReply(t, "bare LF in content", c.data("Subject: x\r\n\r\nbare\nline\r\n"))
	c = r.begin(campus, "anna@campus.test")
	checkReply(t, "a loop", c.data(strings.Repeat("Received: from a by b; now\r\n", 200)+"\r\nx\r\n"))
	secure := r.connect(campus, r.cfg.Listeners[1].Address)
	secure.expect("220")
	secure.say("EHLO host.campus.test", "250")
	secure.startTLS()
	checkReply(t, "AUTH CRAM-MD5", secure.ask("AUTH CRAM-MD5"))
	checkReply(t, "MAIL without AUTH", secure.ask("MAIL FROM:<prn@campus.test>"))
	plain := r.connect(campus, r.cfg.Listeners[2].Address)
	plain.write("EHLO plain text on the port of implicit TLS\r\n")
	checkReply(t, "plain text on 465", plain.reply())
	seen := map[string]bool{}
	for _, e := range r.refusals() {
		seen[e.Rule] = true
		if cause, ok := e.Cause(); !ok || cause.Fix == "" || cause.About == "" {
			t.Errorf("rule %q at %s has no fix", e.Rule, e.Stage)
		}
	}
	for _, want := range []string{event.CauseSequence, event.CauseSyntax, event.CausePath, event.CauseAuth, event.CauseNewlines, event.CauseLoop, event.CauseMechanism, event.CauseTLSMismatch, "not-registered", "authentication"} {
		if !seen[want] {
			t.Errorf("no evidence of %s in %v", want, seen)
		}
	}
}

// checkReply is checkText for a reply as the client read it.
func checkReply(t *testing.T, what, got string) {
	t.Helper()
	code, rest, _ := strings.Cut(got, " ")
	status, text, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 400 || strings.Count(status, ".") != 2 {
		t.Errorf("%s: %q is no refusal", what, got)
		return
	}
	checkText(t, &gosmtp.SMTPError{Code: n, Message: text})
}

// Every word that a refusal can have as its rule is in the catalog: the kinds of
// wire, and what this package writes.
func TestCatalogOfCauses(t *testing.T) {
	known := map[string]bool{}
	for _, list := range [][]authz.Rule{authz.Catalog(), event.Causes()} {
		for _, rule := range list {
			known[rule.Name] = true
			if len(rule.About) == 0 {
				t.Errorf("%s does not say what it wants", rule.Name)
			}
		}
	}
	found := 0
	expect := func(lit ast.Expr) {
		if b, ok := lit.(*ast.BasicLit); ok && b.Kind == token.STRING {
			found++
			if name, _ := strconv.Unquote(b.Value); !known[name] && name != "shutdown" { // nobody's fault, and no evidence
				t.Errorf("%s is in no catalog", b.Value)
			}
		}
	}
	for _, file := range []string{"wire/config.go", "session.go", "accept.go", "auth.go", "refused.go", "evidence.go"} {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if strings.HasPrefix(n.Names[0].Name, "Kind") && len(n.Values) == 1 {
					expect(n.Values[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Rule" {
					expect(n.Value)
				}
			}
			return true
		})
	}
	if found < 10 {
		t.Errorf("only %d found", found)
	}
}
