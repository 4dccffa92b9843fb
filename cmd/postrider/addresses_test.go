package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// The list of addresses names each once, and owners hear of a change before it.
func TestAddresses(t *testing.T) {
	r := start(t)
	r.fails(3, "no addresses are published", "addresses")
	r.fails(3, "no change", "notify", "addresses", "--all")
	soon := time.Now().AddDate(0, 0, 20).Format(time.DateOnly)
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.file, strings.Replace(string(text), "{hostname: relay.campus.test,", `{hostname: relay.campus.test, help_url: "https://help.campus.test", addresses: [{address: 192.0.2.7}, {address: 192.0.2.1}, {address: 192.0.2.7}, {address: 192.0.2.9, from: `+soon+`}],`, 1))
	var got published
	if err := json.Unmarshal([]byte(r.ok("addresses", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Addresses) != 3 || got.Addresses[0].Address != "192.0.2.1" || len(got.Version) != 12 || got.Next == nil || got.Next.Day != soon || len(got.Help) != 2 {
		t.Errorf("%+v", got)
	}
	if got.Version != config.VersionOf(got.Addresses) || !strings.Contains(r.ok("addresses"), "192.0.2.9  "+soon) {
		t.Errorf("%+v", got)
	}
	if status := r.do("status"); !strings.Contains(status.stdout, "nobody was told") {
		t.Errorf("%+v", status)
	}
	r.register("prn-1.campus.test", "chem", "--contact", "anna@campus.test")
	r.ok("notify", "addresses", "--all", "--yes")
	id := "addresses-" + soon + "-" + got.Version[:6]
	timetest.Await(t, "it is proven", func() bool { _, code := r.shown(id); return code == 0 })
	mail := r.noticed("relay.campus.test: its addresses change on " + soon)["anna@campus.test"]
	for _, want := range []string{"Begins:   " + soon, "Comes:    192.0.2.9", "192.0.2.9  from " + soon, got.Version} {
		if len(mail) != 1 || !strings.Contains(string(mail[0].Content), want) {
			t.Errorf("no %q in %v", want, mail)
		}
	}
	if status := r.do("status"); strings.Contains(status.stdout, "nobody was told") {
		t.Errorf("%+v", status)
	}
}

// Requests are answered within three working days, and those that are not are
// shown (S28).
func TestOverdueRequests(t *testing.T) {
	r := start(t)
	r.ok("device", "request", "new.campus.test", "--owner", "chem", "--contact", "a@campus.test,b@campus.test")
	old := registry.Device{Name: "old.campus.test", Scope: "anywhere", Class: "default", State: registry.StateRequested}
	now := time.Now()
	old.Dates.Requested = now.AddDate(0, 0, -8)
	r.put(&old)
	if got := r.list("device", "ls", "--overdue"); len(got) != 1 || got[0]["name"] != "old.campus.test" {
		t.Errorf("%v", got)
	}
	if table := r.ok("device", "ls"); !strings.Contains(table, "overdue since") || !strings.Contains(table, registry.AfterWorkingDays(now, 3).Format(time.DateOnly)) {
		t.Errorf("%s", table)
	}
	status := r.do("status")
	if !strings.Contains(status.stdout, "2 requests wait for an answer, 1 for more than three working days") {
		t.Errorf("%+v", status)
	}
	r.ok("device", "contact", "old.campus.test", "--reason", "telephone")
	if got := r.list("device", "ls", "--overdue"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	r.fails(5, "cannot be contacted", "device", "contact", "prn.campus.test")
}

// One person alone should not be who hears of trouble (M13, M14).
func TestContactAdvice(t *testing.T) {
	r := start(t)
	says := func(want string, args ...string) {
		t.Helper()
		if got := r.do(args...); got.code != 0 || (want == "") != (got.err == "") || !strings.Contains(got.err, want) {
			t.Errorf("%q: %+v, want %q", args, got, want)
		}
	}
	request := func(name, by string, contacts ...string) []string {
		return []string{"device", "request", name, "--owner", "chem", "--by", by, "--contact", strings.Join(contacts, ",")}
	}
	says("is the only contact of a.campus.test", request("a.campus.test", "Kim Kaa", "it@campus.test")...)
	says("is the only contact, and a person's address", request("b.campus.test", "Kim Kaa", "kim.kaa@campus.test")...)
	says("", request("c.campus.test", "Kim Kaa", "kim.kaa@campus.test", "it@campus.test")...)
	r.ok("group", "add", "team@campus.test", "kim.kaa@campus.test")
	says("team@campus.test has 1 members", request("d.campus.test", "Kim Kaa", "team@campus.test")...)
	r.ok("group", "add", "team@campus.test", "lee@campus.test")
	says("", request("e.campus.test", "Kim Kaa", "team@campus.test")...)
	says("is the only contact of e.campus.test", "device", "edit", "e.campus.test", "contacts=lee@campus.test")
}
