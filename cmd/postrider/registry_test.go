package main

import (
	"encoding/json"
	"io"
	"net"
	"net/smtp"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
	"github.com/postrider/postrider/shared/timetest"
)

// admits reports whether mail from an unregistered address goes through.
func (r *relay) admits(from, rcpt string) func() bool {
	return func() bool {
		_, err := submit(r.t, r.smtp, from, login{}, rcpt)
		return err == nil
	}
}

func not(is func() bool) func() bool { return func() bool { return !is() } }

// A domain, a network and a block have effect at once, on open sessions, too.
func TestEntriesHaveEffect(t *testing.T) {
	r := start(t)
	campus := r.admits("127.2.0.1", "a@hosted.test")
	if campus() {
		t.Fatal("admitted before anything is hosted")
	}
	r.ok("network", "add", "campus", "127.0.0.0/8", "--note", "loopback")
	if got := r.ok("domain", "add", "HOSTED.test.", "--route", "smtp://"+r.mx.Addr(), "--reason", "moved here"); got != "domain hosted.test is added\n" {
		t.Errorf("%q", got)
	}
	timetest.Await(t, "the domain is hosted", campus)
	r.fails(5, "in the registry already", "domain", "add", "hosted.test")
	r.ok("domain", "add", "hosted.test", "--internal", "--replace")
	if rows := r.list("domain", "ls"); len(rows) != 1 || rows[0]["internal"] != true || rows[0]["changed_by"] == "" {
		t.Errorf("%v", rows)
	}

	open := session(t, r.smtp, "127.2.0.1")
	if err := open(); err != nil {
		t.Fatal(err)
	}
	r.fails(2, "say why", "block", "add", "127.2.0.1")
	r.ok("block", "add", "127.2.0.0/24", "--reason", "floods", "--until", "2h", "--ticket", "4711")
	timetest.Await(t, "the block holds on the open session", func() bool { return open() != nil })
	if rows := r.list("block", "ls"); len(rows) != 1 || rows[0]["subject"] != "127.2.0.0/24" || rows[0]["ticket"] != "4711" || rows[0]["reason"] != "floods" {
		t.Errorf("%v", rows)
	}
	if !r.admits("127.2.1.1", "a@hosted.test")() {
		t.Error("another address is blocked, too")
	}
	r.ok("block", "rm", "127.2.0.0/24")
	timetest.Await(t, "the block is gone", campus)
	r.ok("block", "add", "PRN@campus.test", "--reason", "forged")
	timetest.Await(t, "the sender is blocked", not(campus))
	r.ok("block", "rm", "prn@campus.test")
	timetest.Await(t, "the sender is free", campus)

	r.ok("domain", "rm", "hosted.test")
	timetest.Await(t, "the domain is hosted no more", not(campus))
	r.fails(3, "there is no domain hosted.test", "domain", "rm", "hosted.test")
	for _, row := range r.list("registry", "log") {
		if row["by"] == "" || row["at"] == "" {
			t.Errorf("%v", row)
		}
	}
	if log := r.ok("registry", "log"); !strings.Contains(log, "domain hosted.test") || !strings.Contains(log, "removed") || !strings.Contains(log, "moved here") {
		t.Errorf("log:\n%s", log)
	}
}

// session sends MAIL again and again in one session.
func session(t *testing.T, to, from string) func() error {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return func() error {
		if err := c.Mail("prn@campus.test"); err != nil {
			return err
		}
		defer c.Reset()
		return c.Rcpt("a@hosted.test")
	}
}

func TestEntryErrors(t *testing.T) {
	r := start(t)
	for text, args := range map[string][]string{
		"stands for many domains":      {"domain", "add", "*.campus.test"},
		"is not a domain name":         {"domain", "add", "bücher.test"},
		"route":                        {"domain", "add", "x.test", "--route", "gopher://x"},
		"is none of campus":            {"network", "add", "moon", "10.0.0.0/8"},
		"did you mean 10.0.0.0/8":      {"network", "add", "campus", "10.0.0.1/8"},
		"would make an open relay":     {"network", "add", "campus", "0.0.0.0/0"},
		"neither an address":           {"block", "add", "everybody", "--reason", "x"},
		"every address":                {"block", "add", "0.0.0.0/0", "--reason", "x"},
		"wildcard":                     {"block", "add", "*@x.test", "--reason", "x"},
		"--until":                      {"block", "add", "10.0.0.1", "--reason", "x", "--until", "soon"},
		"is not an e-mail address":     {"owner", "add", "chem", "--contact", "nobody"},
		"\"nobody\" is not":            {"group", "add", "updates", "nobody"},
		"no name for a unit":           {"owner", "add", " "},
		"requires at least 2 arg":      {"group", "add", "updates"},
		"there is no file absent.yaml": {"registry", "apply", "absent.yaml"},
	} {
		r.fails(2, text, args...)
	}
	r.fails(3, "there is no network", "network", "rm", "nat", "10.0.0.0/8")
	r.fails(3, "there is no owner", "owner", "rm", "chem")
	r.fails(3, "not in the registry", "group", "rm", "updates")

	r.ok("group", "add", "updates", "a@campus.test", "b@campus.test")
	r.ok("group", "add", "updates", "b@campus.test", "c@campus.test")
	r.fails(3, "is not in group updates", "group", "rm", "updates", "x@campus.test")
	if got := r.ok("group", "rm", "updates", "a@campus.test"); got != "group updates has 2 members\n" {
		t.Errorf("%q", got)
	}
	r.ok("owner", "add", "chem", "--contact", "it@campus.test", "--external")
	if rows := r.list("owner", "ls"); len(rows) != 1 || rows[0]["external"] != true {
		t.Errorf("%v", rows)
	}
	r.ok("group", "rm", "updates")
	if rows := r.list("group", "ls"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
}

// What one relay exported makes the same registry of another, once.
func TestRegistryApply(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "chem", "--contact", "it@campus.test")
	r.ok("network", "add", "campus", "127.0.0.0/8")
	r.ok("device", "request", "a.campus.test", "--address", "127.5.0.1", "--owner", "chem", "--sender", "prn@campus.test")
	r.ok("device", "approve", "a.campus.test")
	r.ok("credential", "add", "a", "--device", "a.campus.test")
	r.ok("block", "add", "@spam.test", "--reason", "spam")
	text := r.ok("registry", "export", "--with-secrets")
	file := filepath.Join(t.TempDir(), "registry.yaml")
	write(t, file, text)
	if got := r.ok("registry", "diff", file, "--prune"); got != "The registry is as the file says.\n" {
		t.Errorf("diff to itself: %q", got)
	}
	if strings.Contains(r.ok("registry", "export"), "argon2id") || strings.Contains(text, "prn.campus.test") || !strings.Contains(r.ok("registry", "export", "--with-file"), "prn.campus.test") {
		t.Error("export has what it should not, or not what it should")
	}

	there := start(t)
	diff := there.do("registry", "diff", file)
	if diff.code != service.ExitNo || !strings.Contains(diff.stdout, "+ device a.campus.test\n") {
		t.Errorf("%+v", diff)
	}
	id := there.plan(file)
	there.fails(5, "the plan has changed", "registry", "apply", file, "--confirm", "other")
	if got := there.ok("registry", "apply", file, "--confirm", id); got != "5 changes are made\n" {
		t.Errorf("%q", got)
	}
	timetest.Await(t, "the device sends there", there.admits("127.5.0.1", "a@inet.test"))
	if got := there.ok("registry", "apply", file, "--prune"); got != "The registry is as the file says.\n" {
		t.Errorf("a second time: %q", got)
	}
	there.fails(5, "the plan has changed", "registry", "apply", file, "--confirm", id)

	// Edited by hand; entries of the configuration file are left alone.
	edited := strings.Replace(text, "owner: chem", "owner: physics", 1) + "\n"
	edited = strings.Replace(edited, "devices:\n", "devices:\n  - {name: prn.campus.test, owner: other}\n  - {name: b.campus.test, addresses: [127.5.0.2]}\n", 1)
	edited = strings.Replace(edited, `  - subject: "@spam.test"`+"\n    reason: spam\n", "", 1)
	write(t, file, edited)
	shown := there.do("registry", "apply", file, "--prune")
	for _, want := range []string{"~ device a.campus.test", `owner "chem" -> "physics"`, "+ device b.campus.test", "- block of @spam.test", "1 entries are left alone"} {
		if !strings.Contains(shown.stdout, want) {
			t.Errorf("no %q in\n%s", want, shown.stdout)
		}
	}
	there.ok("registry", "apply", file, "--prune", "--confirm", there.plan(file, "--prune"), "--reason", "spring cleaning")
	var d registry.Device
	if err := json.Unmarshal([]byte(there.ok("device", "show", "b.campus.test", "-o", "json")), &d); err != nil || d.State != registry.StateActive || d.Approver != actor() || d.Dates.Approved.IsZero() || d.Reason != "spring cleaning" {
		t.Errorf("%v %+v", err, d)
	}
	if rows := there.list("block", "ls"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
	if got := there.ok("registry", "diff", file, "--prune"); !strings.HasPrefix(got, "The registry is as the file says.\n") {
		t.Errorf("after it: %q", got)
	}

	write(t, file, "devices: [{name: c.campus.test, addresses: [127.5.0.2]}, {name: d.campus.test, addresses: [192.0.2.1]}]\ndomains: [{name: x.test, route: 'gopher://x'}]")
	got := there.do("registry", "apply", file)
	if got.code != 2 || !strings.Contains(got.stdout, "belongs to b.campus.test") || !strings.Contains(got.stdout, "outside the campus") || !strings.Contains(got.stdout, "route") || !strings.Contains(got.err, "3 faults") {
		t.Errorf("%+v", got)
	}
}

// plan is the id of what a file would change.
func (r *relay) plan(file string, args ...string) string {
	r.t.Helper()
	var p document.Plan
	if err := json.Unmarshal([]byte(r.ok(append([]string{"registry", "apply", file, "-o", "json"}, args...)...)), &p); err != nil || p.ID == "" {
		r.t.Fatalf("%v, %+v", err, p)
	}
	return p.ID
}

// Somebody else's change in the midst of it stops an apply.
func TestApplyMeetsAnother(t *testing.T) {
	r := start(t)
	for _, name := range []string{"a", "b", "c"} {
		r.ok("owner", "add", name)
	}
	d, err := document.Read([]byte("owners: [{name: a, external: true}, {name: b, external: true}, {name: c, external: true}]"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(io.Discard)
	err = withRegistry(t.Context(), &flags{config: r.file}, func(s *store.Store, snapshot *registry.Snapshot) error {
		p, err := document.Diff(snapshot.Entries(), d, document.Options{})
		if err != nil {
			return err
		}
		r.ok("owner", "add", "b", "--contact", "b@campus.test", "--replace")
		return carryOut(cmd, s, p, registry.Change{By: "tester", At: time.Now()})
	})
	if service.ExitCode(err) != service.ExitPartly || !strings.Contains(err.Error(), "1 of 3 are done") {
		t.Errorf("%v", err)
	}
	rows := r.list("owner", "ls")
	if rows[0]["external"] != true || rows[1]["external"] == true || rows[2]["external"] == true || rows[1]["contacts"] == nil {
		t.Errorf("%v", rows)
	}
}
