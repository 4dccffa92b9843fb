package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/timetest"
)

func TestDevice(t *testing.T) {
	r := start(t)
	const from = "127.1.0.9"
	send := func() error {
		_, err := submit(t, r.smtp, from, login{}, "a@inet.test")
		return err
	}
	refused := func() bool { return send() != nil }
	admitted := func() bool { return send() == nil }

	if !refused() {
		t.Error("an unregistered address is admitted")
	}
	const name = "lab-1.chem.campus.test"
	said := r.ok("device", "request", "LAB-1.chem.campus.test.", "--address", from, "--address", "10.7.0.0/24", "--owner", "chem", "--contact", "it@campus.test", "--class", "scan")
	if said != name+" is requested. Next: postrider device approve "+name+"\n" {
		t.Errorf("request says %q", said)
	}
	r.fails(5, "in the registry already", "device", "request", name)
	r.fails(5, "is requested: it cannot be suspended", "device", "suspend", name)
	r.fails(5, "is requested: it cannot be resumed", "device", "resume", name)
	if !refused() {
		t.Error("a requested device is admitted")
	}

	if got := r.ok("device", "approve", name); got != name+" is active\n" {
		t.Errorf("approve says %q", got)
	}
	timetest.Await(t, "it may send", admitted)
	r.fails(5, "is active: it cannot be approved", "device", "approve", name)
	r.fails(5, "an address of other.campus.test belongs to "+name+", which is active", "device", "request", "other.campus.test", "--address", from)

	r.ok("device", "suspend", name, "--reason", "prints spam")
	timetest.Await(t, "it is stopped", refused)
	r.fails(5, "is suspended: it cannot be approved", "device", "approve", name)
	var shown map[string]any
	if err := json.Unmarshal([]byte(r.ok("device", "show", strings.ToUpper(name), "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown["state"] != "suspended" || shown["reason"] != "prints spam" || shown["changed_by"] == "" || shown["class"] != "scan" || shown["scope"] != "anywhere" {
		t.Errorf("shown: %v", shown)
	}
	r.ok("device", "resume", name)
	timetest.Await(t, "it may send again", admitted)
	r.ok("device", "retire", name)
	timetest.Await(t, "its registration has ended", refused)
	r.fails(5, "is retired: it cannot be retired", "device", "retire", name)
	r.fails(5, "is retired: it cannot be resumed", "device", "resume", name)

	// Its address is free for the machine that replaces it.
	r.ok("device", "request", "zzz.chem.campus.test", "--address", from)
	r.ok("device", "approve", "zzz.chem.campus.test")
	timetest.Await(t, "the successor may send", admitted)
}

func TestDeviceRefusals(t *testing.T) {
	r := start(t)
	for _, verb := range []string{"show", "approve", "suspend", "resume", "retire"} {
		r.fails(3, "no device is called absent.campus.test", "device", verb, "absent.campus.test")
	}
	r.fails(5, "comes from the configuration file", "device", "suspend", "prn.campus.test")
	r.fails(5, "comes from the configuration file", "device", "retire", "prn.campus.test")
	r.fails(5, "comes from the configuration file", "device", "request", "prn.campus.test")
	r.fails(5, "belongs to prn.campus.test", "device", "request", "other.campus.test", "--address", "127.0.0.1")
	const name = "x.campus.test"
	for text, args := range map[string][]string{
		"fully qualified":           {"x"},
		"a device needs a name":     {""},
		"\"a b.campus.test\" is":    {"a b.campus.test"},
		"not a fully":               {"10.2.3.4"},
		"xn--":                      {"bücher.campus.test"},
		"neither an address":        {name, "--address", "prn"},
		"did you mean 10.2.3.0/24?": {name, "--address", "10.2.3.4/24"},
		"open relay":                {name, "--address", "0.0.0.0/0"},
		"every address":             {name, "--address", "::/0"},
		"contacts[0]":               {name, "--contact", "nobody"},
		"scope":                     {name, "--scope", "nowhere"},
		"class":                     {name, "--class", "fast"},
		"accepts 1 arg":             {name, "y.campus.test"},
		"unknown flag: --adress":    {name, "--adress", "10.2.3.4"},
	} {
		r.fails(2, text, append([]string{"device", "request"}, args...)...)
	}
	if rows := r.list("device", "ls"); len(rows) != 1 || rows[0]["name"] != "prn.campus.test" || rows[0]["origin"] != "file" {
		t.Errorf("devices: %v", rows)
	}
	if got := r.ok("device", "ls"); !strings.HasPrefix(got, "DEVICE") || !strings.Contains(got, "prn.campus.test  127.0.0.1  chem   anywhere  default  active  file    -\n") {
		t.Errorf("table:\n%s", got)
	}
}

// A request for the address of a working device must not stop it.
func TestRequestTakesNothing(t *testing.T) {
	r := start(t)
	const from = "127.1.0.7"
	send := func() bool {
		_, err := submit(t, r.smtp, from, login{}, "a@inet.test")
		return err == nil
	}
	// Both are requested before either is approved.
	r.ok("device", "request", "m.campus.test", "--address", from)
	r.ok("device", "request", "a.campus.test", "--address", from)
	r.ok("device", "approve", "m.campus.test")
	timetest.Await(t, "it may send", send)
	r.fails(5, "belongs to m.campus.test", "device", "approve", "a.campus.test")
	r.ok("device", "retire", "a.campus.test")
	if !send() {
		t.Error("stopped by the request of another")
	}
}

// An owner that is no unit of the registry is probably misspelt: its contacts
// would never hear.
func TestMisspeltOwner(t *testing.T) {
	r := start(t)
	r.ok("owner", "add", "chemistry", "--contact", "c@campus.test")
	if got := r.do("device", "request", "x.campus.test", "--owner", "chemisty"); got.code != 0 || !strings.Contains(got.err, "No unit chemisty is noted") {
		t.Errorf("%+v", got)
	}
	r.ok("device", "edit", "x.campus.test", "owner=chemistry")
	r.fails(5, "owner chemistry has 1 devices; retire them, or give them to another: postrider device ls owner:chemistry", "owner", "rm", "chemistry")
	r.ok("device", "retire", "x.campus.test")
	r.ok("owner", "rm", "chemistry")
	r.ok("owner", "add", "chemistry", "--contact", "c@campus.test")
	if got := r.do("device", "request", "y.campus.test", "--owner", "chemistry"); got.code != 0 || strings.Contains(got.err, "No unit") {
		t.Errorf("%+v", got)
	}
}

func TestCredential(t *testing.T) {
	r := start(t)
	r.ok("device", "request", "app.campus.test")
	r.ok("device", "approve", "app.campus.test")
	const name = "app/mail@campus.test"
	made := r.do("credential", "add", name, "--device", "APP.campus.test")
	secret := strings.TrimSuffix(made.stdout, "\n")
	if made.code != 0 || len(secret) != 26 || strings.ContainsAny(secret, " \n") || !strings.Contains(made.err, "shown this once") || strings.Contains(made.err, secret) {
		t.Fatalf("credential add: %+v", made)
	}
	send := func(as login) bool {
		_, err := submit(t, r.submission, "127.1.0.5", as, "a@inet.test")
		return err == nil
	}
	timetest.Await(t, "the secret lets it in", func() bool { return send(login{name, secret}) })
	if send(login{name, secret + "X"}) || send(login{"app", secret}) || send(login{}) {
		t.Error("something else lets it in, too")
	}
	r.fails(5, "in the registry already", "credential", "add", name, "--device", "app.campus.test")
	if !send(login{name, secret}) {
		t.Error("the refused second one replaced the secret")
	}
	if got := r.ok("credential", "rm", name); got != name+" is removed; nobody logs in with it for app.campus.test any more\n" {
		t.Errorf("%q", got)
	}
	timetest.Await(t, "the secret is void", func() bool { return !send(login{name, secret}) })
	r.fails(3, "no credential is called", "credential", "rm", name)
	r.fails(3, "no device is called", "credential", "add", name, "--device", "absent.campus.test")
	r.fails(2, "--device", "credential", "add", name)
	for _, bad := range []string{"", " x", "x\n", "x\x1b[2J", strings.Repeat("x", 256)} {
		r.fails(2, "is no name for a credential", "credential", "add", bad, "--device", "app.campus.test")
	}
	r.fails(2, "accepts 1 arg", "credential", "add")
}
