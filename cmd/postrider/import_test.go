package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/registry/translate"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

var planID = regexp.MustCompile(`--confirm ([a-z2-7]{10})\n`)

// postfixDir writes a Postfix directory; files are name, content, name, content.
func postfixDir(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	return dir
}

const importedMain = `
myhostname = relay.campus.test
mynetworks = 127.9.0.0/28 cidr:/etc/postfix/senders
relay_domains = imported.test
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_client_restrictions = check_client_access hash:/etc/postfix/access
smtpd_sasl_auth_enable = yes
relayhost = [gw.campus.test]
header_checks = regexp:/etc/postfix/checks
`

func TestImport(t *testing.T) {
	r := start(t)
	dir := postfixDir(t, "main.cf", importedMain, "master.cf", "smtp inet n - y - - smtpd\n",
		"senders", "127.9.1.1 lab-1.campus.test\n127.9.1.2 x\n", "access", "127.9.0.3 REJECT\nold.campus.test OK\n", "checks", "/^X:/ IGNORE\n")
	command := []string{"device", "import", "postfix", dir}
	sends := func(from, to string) bool {
		_, err := submit(t, r.smtp, from, login{}, to)
		return err == nil
	}

	shown := r.ok(command...)
	for _, want := range []string{
		"registry: 6 to add, 0 to change, 0 the same, 0 refused", "+ device lab-1.campus.test", "+ block of 127.9.0.3",
		"access:2", "old.campus.test OK", "checks:1", `- {domain: "*", to: "smtp://gw.campus.test"}`,
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("the plan does not say %q:\n%s", want, shown)
		}
	}
	if sends("127.9.1.1", "a@inet.test") {
		t.Error("a dry run changed the registry")
	}
	r.fails(5, "is not what would be done now", append(command, "--confirm", "aaaaaaaaaa")...)

	out := filepath.Join(t.TempDir(), "plan")
	id := planID.FindStringSubmatch(shown)[1]
	done := r.do(append(command, "--confirm", id, "--out", out)...)
	if done.code != 0 || !strings.Contains(done.stdout, "It is done") || !strings.Contains(done.err, "6 of 6 entries") {
		t.Fatalf("confirmed: %+v", done)
	}
	if d := r.device("lab-1.campus.test"); d.By != actor() || d.Told["activated"].IsZero() || d.Told["activated 127.9.1.1"].IsZero() {
		t.Errorf("the contacts of thousands would hear of each: %+v", d)
	}
	timetest.Await(t, "the imported device may send", func() bool { return sends("127.9.1.1", "a@inet.test") })
	for _, tt := range []struct {
		from, to string
		want     bool
	}{
		{"127.9.1.2", "a@inet.test", true}, {"127.9.0.2", "a@inet.test", true}, {"127.9.0.3", "a@imported.test", false},
		{"127.9.3.3", "a@inet.test", false},
	} {
		if got := sends(tt.from, tt.to); got != tt.want {
			t.Errorf("%s to %s: admitted %v, want %v", tt.from, tt.to, got, tt.want)
		}
	}
	if d := r.ok("device", "show", "lab-1.campus.test", "-o", "json"); !strings.Contains(d, "imported from postfix") || !strings.Contains(d, `"origin": "command"`) || !strings.Contains(d, `"activated"`) {
		t.Errorf("the device:\n%s", d)
	}

	// What it wrote can be read again.
	fragment, err := os.ReadFile(filepath.Join(out, "postrider-fragment.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("fragment", fragment); err != nil {
		t.Errorf("the fragment: %v\n%s", err, fragment)
	}
	var document struct{ Devices, Domains, Blocks []map[string]any }
	text, err := os.ReadFile(filepath.Join(out, "registry.json"))
	if err != nil || json.Unmarshal(text, &document) != nil || len(document.Devices) != 3 || len(document.Domains) != 2 || len(document.Blocks) != 1 {
		t.Errorf("registry.json: %v %+v\n%s", err, document, text)
	}
	if list, err := os.ReadFile(filepath.Join(out, "untranslated.txt")); err != nil || !strings.Contains(string(list), "access:2\n    old.campus.test OK\n") {
		t.Errorf("untranslated.txt: %v\n%s", err, list)
	}
	r.fails(2, "--out", append(command, "--out", out)...)

	if again := r.ok(command...); !strings.Contains(again, "0 to add, 0 to change, 6 the same") || !strings.Contains(again, "Nothing to do") {
		t.Errorf("imported again:\n%s", again)
	}
	r.fails(5, "nothing to do any more", append(command, "--confirm", id)...)
}

// An import must not let a device send that somebody has stopped here, nor
// forget what only the registry knows.
func TestImportKeeps(t *testing.T) {
	r := start(t)
	r.ok("device", "request", "lab.campus.test", "--address", "127.9.5.5", "--owner", "bio", "--contact", "it@campus.test")
	r.ok("device", "approve", "lab.campus.test")
	r.ok("device", "edit", "lab.campus.test", "follow_dns=true")
	r.ok("device", "suspend", "lab.campus.test", "--reason", "prints spam")
	table := filepath.Join(t.TempDir(), "devices.csv")
	write(t, table, "name,addresses,class\nlab.campus.test,127.9.5.5 127.9.5.6,scan\nprn.campus.test,127.0.0.9,\nthief.campus.test,127.9.5.5,\nbad,127.9.5.7,\n")
	shown := r.ok("device", "import", "csv", table)
	for _, want := range []string{"~ device lab.campus.test", "x device prn.campus.test: the configuration file has it", "devices.csv:4", "devices.csv:5", "0 to add, 1 to change"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the plan does not say %q:\n%s", want, shown)
		}
	}
	r.ok("device", "import", "csv", table, "--confirm", planID.FindStringSubmatch(shown)[1])
	d := r.ok("device", "show", "lab.campus.test", "-o", "json")
	for _, want := range []string{`"state": "suspended"`, `"owner": "bio"`, "127.9.5.6", `"class": "scan"`, `"follow_dns": true`, `"approver"`, "it@campus.test"} {
		if !strings.Contains(d, want) {
			t.Errorf("%s is gone:\n%s", want, d)
		}
	}
	write(t, table, "name,addresses\nthief.campus.test,127.9.5.5\n")
	if shown := r.ok("device", "import", "csv", table); !strings.Contains(shown, "x device thief.campus.test: an address of it belongs to lab.campus.test") {
		t.Errorf("it takes an address:\n%s", shown)
	}
}

// To import again what is there changes nothing, also once the relay has told the
// contacts: they would hear everything a second time.
func TestImportAgain(t *testing.T) {
	said := registry.Device{Name: "lab.campus.test", Scope: registry.ScopeAnywhere, State: registry.StateActive}
	had := said
	had.Told, had.Approver, had.Decision, had.FollowDNS = map[string]time.Time{"activated": time.Unix(0, 0).UTC()}, "lee", "fine", true
	keep(&said, &had)
	if !bytes.Equal(bare(&said), bare(&had)) {
		t.Errorf("%s is to become %s", bare(&had), bare(&said))
	}
}

// What was stored in part is not called done.
func TestImportInPart(t *testing.T) {
	r := start(t)
	cfg, bus, err := connect(t.Context(), &flags{config: r.file})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), bus, cfg.FileEntries())
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lab := &registry.Device{Name: "lab.campus.test", State: registry.StateActive}
	p := compareImport("csv", "x", &translate.Result{Entries: registry.Entries{Devices: []*registry.Device{lab}}}, snapshot)
	bus.Close()
	err = p.apply(t.Context(), s, io.Discard)
	var out strings.Builder
	if printed := p.print(&out); printed != nil || service.ExitCode(err) != service.ExitPartly || p.Done || !strings.Contains(out.String(), "x It is done in part: 0 of 1 entries") || strings.Contains(out.String(), "+ It is done") {
		t.Errorf("%v, %v:\n%s", err, printed, out.String())
	}
}

func TestImportRefusals(t *testing.T) {
	r := start(t)
	file := filepath.Join(t.TempDir(), "x.yaml")
	write(t, file, "devices: [{name: a.campus.test}]\n")
	r.fails(2, "accepts 2 arg", "device", "import", "postfix")
	r.fails(2, "none of postfix, exchange, csv, yaml", "device", "import", "sendmail", file)
	r.fails(2, "is no directory", "device", "import", "postfix", file)
	r.fails(2, "main.cf", "device", "import", "postfix", filepath.Dir(file))
	r.fails(2, "no such file", "device", "import", "csv", file+".csv")
	r.fails(2, "no receive connector", "device", "import", "exchange", file)
	r.fails(2, "--hosts", "device", "import", "yaml", file, "--hosts", file)
	var p struct {
		Plan  string
		Added []string
		Lines []map[string]any
	}
	if err := json.Unmarshal([]byte(r.ok("device", "import", "yaml", file, "-o", "json")), &p); err != nil || p.Plan == "" || fmt.Sprint(p.Added) != "[device a.campus.test]" || len(p.Lines) == 0 {
		t.Errorf("as JSON: %v %+v", err, p)
	}
}
