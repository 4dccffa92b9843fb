package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/books"
	"github.com/postrider/postrider/shared/event"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// A sender is stopped at once, whatever it is, and its mail is in the report.
func TestContain(t *testing.T) {
	r := start(t)
	const name, from = "bad.campus.test", "127.8.0.1"
	r.ok("device", "request", name, "--address", from)
	r.ok("device", "approve", name)
	secret := strings.TrimSpace(r.ok("credential", "add", "bad", "--device", name))
	sends := r.admits(from, "went@inet.test")
	timetest.Await(t, "it may send", sends)
	for _, rcpt := range []string{"went-2@inet.test", "once-450+1@inet.test"} {
		if _, err := submit(t, r.smtp, from, login{}, rcpt); err != nil {
			t.Fatal(err)
		}
	}
	authenticated := func() bool {
		_, err := submit(t, r.submission, "127.8.0.77", login{"bad", secret}, "auth@inet.test")
		return err == nil
	}
	timetest.Await(t, "the credential holds", authenticated)
	timetest.Await(t, "all but one went out", func() bool {
		return len(r.list("ledger", "export", "--device", name, "--state", "delivered")) >= 3 && len(r.list("queue", "ls", "state:deferred", "device:"+name)) == 1
	})

	r.fails(2, "say why", "contain", name)
	r.fails(3, "is neither an address, nor a device, nor a credential", "contain", "absent", "--reason", "x")
	contain := func(what string) (c containment) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.ok("contain", what, "--reason", "phishing", "--ticket", "9", "-o", "json")), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	has := func(c containment, queued string, sent ...string) {
		t.Helper()
		var to []string
		for _, row := range c.Sent {
			to = append(to, row.Recipient)
		}
		all := strings.Join(to, " ")
		for _, s := range sent {
			if !strings.Contains(all, s) {
				t.Errorf("%s: %s did not go out: %q", c.Sender, s, all)
			}
		}
		for _, row := range c.Queued { // also what was on its way when it was stopped
			if found := row.Recipient; found != queued && found != "went@inet.test" {
				t.Errorf("%s: queued %+v", c.Sender, row)
			}
		}
		if queued != "" && !slices.ContainsFunc(c.Queued, func(row books.Row) bool { return row.Recipient == queued }) {
			t.Errorf("%s: %s is not queued: %+v", c.Sender, queued, c.Queued)
		}
	}

	c := contain("bad")
	has(c, "", "auth@inet.test")
	if len(c.Sent) != 1 || c.Stopped[0] != "credential bad" || !slices.Equal(c.Open, []string{name}) {
		t.Errorf("%+v", c)
	}
	timetest.Await(t, "the credential is void", not(authenticated))
	if !sends() {
		t.Error("the device is stopped with its credential")
	}
	c = contain(from)
	has(c, "once-450+1@inet.test", "went-2@inet.test")
	timetest.Await(t, "the address is blocked", not(sends))
	if text := r.ok("contain", from, "--reason", "phishing"); !strings.Contains(text, "+ "+from+" is blocked\n") { // again
		t.Errorf("%s", text)
	}
	if len(c.Open) != 0 {
		t.Errorf("its only credential is suspended: %+v", c.Open)
	}
	if rows := r.list("block", "ls"); len(rows) != 1 || rows[0]["subject"] != from || rows[0]["reason"] != "phishing" {
		t.Errorf("%v", rows)
	}
	r.ok("block", "rm", from)
	timetest.Await(t, "the address is free", sends)
	has(contain(name), "once-450+1@inet.test", "went-2@inet.test", "auth@inet.test")
	timetest.Await(t, "the device is suspended", not(sends))
	if d := r.device(name); d.State != registry.StateSuspended || d.Suspension.Cause != "abuse" || !d.Suspension.NeedsTicket || d.Ticket != "9" {
		t.Errorf("%+v", d)
	}
	text := r.ok("contain", name, "--reason", "phishing")
	if !strings.Contains(text, "+ device "+name+" is stopped") || !strings.Contains(text, "messages are queued, and held") || !strings.Contains(text, "went-2@inet.test") {
		t.Errorf("%s", text)
	}

	// A device of the configuration file is stopped by its addresses.
	prn := r.admits("127.0.0.1", "a@inet.test")
	if !prn() {
		t.Fatal("the device of the file does not send")
	}
	if c := contain("prn.campus.test"); len(c.Stopped) != 1 || c.Stopped[0] != "block of 127.0.0.1" {
		t.Errorf("%+v", c)
	}
	timetest.Await(t, "its address is blocked", not(prn))
	r.ok("device", "request", "idle.campus.test")
	r.fails(5, "is requested: it sends nothing", "contain", "idle.campus.test", "--reason", "x")
}

// What a sender sends while it is being stopped is held, and not refused: what
// is to be held covers it before the registry stops anybody.
func TestContainWhileItSends(t *testing.T) {
	target := &suspect{device: &registry.Device{Name: "bad.campus.test"}}
	h := newContainment(target, time.Now(), registry.NewSnapshot(40, registry.Entries{}), 3).holding(target, registry.Change{By: "anna"})
	for revision, want := range map[uint64]bool{40: true, 42: true, 43: false} {
		m := &event.Admitted{Device: "bad.campus.test", AcceptedAt: h.At.Add(time.Second), Origin: event.Origin{Revision: revision}}
		if h.CoversMessage(m) != want {
			t.Errorf("admitted by revision %d: held %v", revision, !want)
		}
	}
}

// Two secrets hold while one is rotated, and a third there is not.
func TestCredentialRotate(t *testing.T) {
	r := start(t)
	r.ok("device", "request", "app.campus.test", "--sender", "prn@campus.test")
	r.ok("device", "approve", "app.campus.test")
	first := strings.TrimSpace(r.ok("credential", "add", "app", "--device", "app.campus.test"))
	holds := func(secret string) func() bool {
		return func() bool {
			_, err := submit(t, r.submission, "127.9.0.1", login{"app", secret}, "a@inet.test")
			return err == nil
		}
	}
	timetest.Await(t, "the first holds", holds(first))
	rotated := r.do("credential", "rotate", "app", "--end", "2d")
	second := strings.TrimSpace(rotated.stdout)
	if rotated.code != 0 || len(second) != 26 || second == first || !strings.Contains(rotated.err, "The one before holds until") {
		t.Fatalf("%+v", rotated)
	}
	timetest.Await(t, "the second holds", holds(second))
	if !holds(first)() {
		t.Error("the first ended at once")
	}
	if rows := r.list("credential", "ls"); len(rows) != 1 || rows[0]["state"] != "rotating" || rows[0]["secrets"] != nil {
		t.Errorf("%v", rows)
	}
	r.fails(5, "is being rotated", "credential", "rotate", "app")
	third := strings.TrimSpace(r.ok("credential", "rotate", "app", "--now"))
	timetest.Await(t, "the third holds", holds(third))
	if holds(first)() || holds(second)() {
		t.Error("an earlier secret holds")
	}
	r.ok("credential", "suspend", "app", "--reason", "lost laptop")
	timetest.Await(t, "it is suspended", not(holds(third)))
	r.fails(5, "is suspended already", "credential", "suspend", "app")
	if rows := r.list("credential", "ls", "app.campus.test"); rows[0]["state"] != "suspended" {
		t.Errorf("%v", rows)
	}
	r.ok("credential", "resume", "app")
	timetest.Await(t, "it is resumed", holds(third))
	r.fails(2, "a name of its own", "credential", "add", "prn@campus.test", "--device", "app.campus.test")
	r.ok("credential", "add", "smtp-relay/app.campus.test", "--device", "app.campus.test", "--outside")
	r.fails(5, "checks it", "credential", "rotate", "smtp-relay/app.campus.test")
	r.fails(2, "--end", "credential", "rotate", "app", "--end", "soon")
	r.fails(3, "no credential is called", "credential", "rotate", "absent")
}

func TestRotate(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	c := &registry.Credential{Name: "x", Secrets: []registry.Secret{
		{Hash: "gone", Made: now.AddDate(0, -2, 0), Until: now.AddDate(0, -1, 0)},
		{Hash: "old", Made: now.AddDate(0, -1, 0), Until: now.Add(time.Hour)},
	}}
	if _, err := rotate(c, now, now.AddDate(0, 0, 7)); err != nil {
		t.Fatal(err)
	}
	if len(c.Secrets) != 2 || c.Secrets[0].Hash != "old" || !c.Secrets[0].Until.Equal(now.Add(time.Hour)) || !c.Secrets[1].Until.IsZero() {
		t.Errorf("an end came later, or a secret that ended is kept: %+v", c.Secrets)
	}
	c.Secrets = []registry.Secret{{Hash: "old", Made: now}}
	if secret, err := rotate(c, now, now.AddDate(0, 0, 7)); err != nil || len(c.Secrets) != 2 || !c.Secrets[0].Until.Equal(now.AddDate(0, 0, 7)) || !c.Check(secret, now) {
		t.Errorf("%v: the one before has no end: %+v", err, c.Secrets)
	}
	if secret, err := rotate(c, now, now); err != nil || len(c.Secrets) != 1 || !c.Check(secret, now) {
		t.Errorf("%v: at once: %+v", err, c.Secrets)
	}
}
