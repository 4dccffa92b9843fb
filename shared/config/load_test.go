package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/mail"
	"github.com/postrider/postrider/shared/registry"
)

// Each broken file has a .want beside it with every problem in it.
func TestBrokenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(path), data)
			var problems Problems
			if !errors.As(err, &problems) || c != nil {
				t.Fatalf("Parse gave %v, %v; want Problems", c, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows a credential")
			}
			golden(t, strings.TrimSuffix(path, "yaml")+"want", err.Error()+"\n")
		})
	}
}

func TestDesignExample(t *testing.T) {
	c, err := Load("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Path != "testdata/design.yaml" || c.Sandbox {
		t.Errorf("Path %q, Sandbox %v", c.Path, c.Sandbox)
	}
	var warned []string
	for _, w := range c.Warnings() {
		if w.Line == 0 || w.File == "" {
			t.Errorf("no place: %v", w)
		}
		warned = append(warned, w.Key)
	}
	if want := []string(nil); !slices.Equal(warned, want) {
		t.Errorf("warned of %v, want %v", warned, want)
	}
	if got := c.Delivery.Lifetime.Of(mail.ClassScan); got != 48*time.Hour {
		t.Errorf("lifetime of scans %v", got)
	}
	if got := c.Listeners[0]; got.TLSMinimum != "1.2" || got.Limits.PerAddress != 100 {
		t.Errorf("listener %+v", got)
	}
}

func TestEmptyFileIsDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n", "relay:\nlisteners: ~\n"} {
		c, err := Parse("", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := Defaults()
		want.complete()
		c.where = nil
		if !reflect.DeepEqual(c, want) {
			t.Errorf("%q: %v", text, c)
		}
	}
}

func TestForms(t *testing.T) {
	c, err := Parse("f.yaml", []byte(`
relay: {hostname: Relay.Campus.TEST., help_url: "https://help.test/"}
listeners: [{address: ":587"}, {address: "10.0.0.1:25"}, {address: "10.0.0.2:25"}, {address: ":0", tls_minimum: 1.0, limits: {connections: 5}}]
domains: {hosted: [{name: BÜCHER.example}]}
networks: {campus: [10.2.3.4, "::ffff:10.3.0.0/112", fc00::/7]}
policy: {fcrdns: observe, hosted_from_campus: false, sender_must_be_hosted: true}
limits: {message_size: 1048576, recipients: "500"}
delivery: {lifetime: 36h, retry: [1s, 2s], require_tls: [{domain: .Health.test}]}
dkim: {keys: [{selector: 2026e1, algorithm: rsa-sha256, file: f}]}
auth: {local: false, kerberos: {realm: R, keytab: k}, ldap: {url: "ldap://[::1]:10389", clear: true, user_dn: "cn=%s"}}
devices: [{name: Prn-1.campus.test, addresses: [10.2.3.4]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.2.3.4/32"), netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("fc00::/7")}
	var names []string
	for _, l := range c.Listeners {
		names = append(names, l.Name)
	}
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"hostname", c.Relay.Hostname, "relay.campus.test"},
		{"help_url", c.Relay.HelpURL, "https://help.test"},
		{"signing domain", c.DKIM.Domain, "relay.campus.test"},
		{"names", names, []string{"submission-587", "relay-25", "relay-25-2", "relay-0"}},
		{"mode by port", c.Listeners[0].Mode, ModeSubmission},
		{"a number as text", c.Listeners[3].TLSMinimum, "1.0"},
		{"partial limits", *c.Listeners[3].Limits, ConnectionLimit{Connections: 5, PerAddress: 100}},
		{"hosted", c.Domains.Hosted[0].Name, "xn--bcher-kva.example"},
		{"campus", c.Networks.Campus, prefixes},
		{"fcrdns", c.Policy.FCrDNS, Mode(authz.Observe)},
		{"false", c.Policy.HostedFromCampus, Mode(authz.Off)},
		{"true", c.Policy.SenderMustBeHosted, Mode(authz.Enforce)},
		{"size", c.Limits.MessageSize, Size(1 << 20)},
		{"quoted number", c.Limits.Recipients, 500},
		{"kept default", c.Limits.MessagesPerSession.Relay, 1000},
		{"one lifetime", c.Delivery.Lifetime.Report, Duration(36 * time.Hour)},
		{"replaced list", c.Delivery.Retry, []Duration{Duration(time.Second), Duration(2 * time.Second)}},
		{"level", c.Delivery.RequireTLS[0], RequireTLS{".health.test", TLSVerify}},
		{"selector", c.DKIM.Keys[0].Selector, "2026e1"},
		{"local", c.Auth.Local, false},
		{"service", *c.Auth.Kerberos, Kerberos{Realm: "R", Keytab: "k", Service: "smtp/relay.campus.test"}},
		{"directory", *c.Auth.LDAP, LDAP{URL: "ldap://[::1]:10389", Clear: true, UserDN: "cn=%s", Filter: "(uid=%s)", Identity: "uid"}},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: %v, want %v", check.what, check.got, check.want)
		}
	}

	rules := c.Rules()
	if rules.FCrDNS != authz.Observe {
		t.Errorf("rules %+v", rules)
	}
	want := &registry.Device{Name: "prn-1.campus.test", Addresses: []registry.Address{{Range: prefixes[0]}}, Scope: registry.ScopeAnywhere,
		Class: mail.ClassDefault, State: registry.StateActive, Entry: registry.Entry{Origin: registry.OriginFile}}
	file := c.FileEntries()
	if len(file.Devices) != 1 || !reflect.DeepEqual(file.Devices[0], want) {
		t.Errorf("devices %+v, want %+v", file.Devices[0], want)
	}
	if s := registry.NewSnapshot(0, file); !s.Hosted("xn--bcher-kva.example") || !s.KindsOf(prefixes[0].Addr()).Has(registry.KindCampus) {
		t.Errorf("entries %+v", file)
	}
}

// The lexer takes some of these for keys when they stand within braces.
func TestIPv6InLists(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"networks: {deny: [2001:db8::/32, fc00::/7, 10.0.0.0/8]}", "[2001:db8::/32 fc00::/7 10.0.0.0/8]"},
		{"networks: {deny: [::/0, ::1, 1::, '::2']}", "[::/0 ::1/128 1::/128 ::2/128]"},
		{"networks: {deny: [\n  ab:cd:ef::1,\n ::1\n ]}", "[ab:cd:ef::1/128 ::1/128]"},
		{"networks:\n  deny:\n  - fe80::/10\n  - ::1\n", "[fe80::/10 ::1/128]"},
		{"networks:\n  deny: [0:1::, 0::1]\n", "[0:1::/128 ::1/128]"},
		{"networks: {deny: [0:1::, 0::1]}", "[0:1::/128 ::1/128]"},
	} {
		c, err := Parse("f.yaml", []byte(test.text))
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got := fmt.Sprint(c.Networks.Deny); got != test.want {
			t.Errorf("%s: %s, want %s", test.text, got, test.want)
		}
	}
}

func TestSandbox(t *testing.T) {
	c := Sandbox("")
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warnings %v", w)
	}
	if !c.Sandbox || !c.Rules().Sandbox || c.Relay.Data != "./postrider-data" || len(c.Listeners) != 3 {
		t.Errorf("%v", c)
	}
	for _, l := range c.Listeners {
		if addr, err := netip.ParseAddrPort(l.Address); err != nil || !addr.Addr().IsLoopback() {
			t.Errorf("%s listens on %s", l.Name, l.Address)
		}
	}
}

// What the template shows commented out are the defaults.
func TestTemplate(t *testing.T) {
	text := Template("relay.campus.test")
	c, err := Parse("template.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %v", w)
	}
	open := regexp.MustCompile(`(?m)^( *)#([^ \n])`).ReplaceAll(text, []byte("$1$2"))
	all, err := Parse("template.yaml", open)
	if err != nil {
		t.Fatalf("with every key: %v", err)
	}
	// Every key is written; those of the entries of lists at least named.
	for _, path := range allKeys(reflect.TypeFor[Config](), "") {
		if _, ok := all.where[path]; ok {
			continue
		}
		if key := path[strings.LastIndexByte(path, '.')+1:]; !bytes.Contains(text, []byte(key)) {
			t.Errorf("%s is missing", path)
		}
	}
	if a, b := c.String(), all.String(); a != b {
		t.Errorf("commented keys change something:\n%s\n%s", a, b)
	}
}

func allKeys(t reflect.Type, path string) (paths []string) {
	for i := range t.NumField() {
		key := keyOf(t.Field(i))
		if key == "" {
			continue
		}
		at := member(path, key)
		paths = append(paths, at)
		if e := element(t.Field(i).Type); e.Kind() == reflect.Struct && !isOneWord(reflect.Zero(e)) {
			paths = append(paths, allKeys(e, at)...)
		}
	}
	return paths
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	here, etc := filepath.Join(dir, "here.yaml"), filepath.Join(dir, "etc.yaml")
	for _, path := range []string{here, etc} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(dir, "none.yaml")
	for _, test := range []struct {
		name, flag, variable string
		places               []string
		want                 string
		missing              bool
	}{
		{"flag first", here, none, []string{etc}, here, false},
		{"then variable", "", here, []string{etc}, here, false},
		{"then places", "", "", []string{none, etc}, etc, false},
		{"in order", "", "", []string{here, etc}, here, false},
		{"sandbox", "", "", []string{none}, "", false},
		{"named by flag", none, here, []string{etc}, "", true},
		{"named by variable", "", none, []string{etc}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := find(test.flag, test.variable, test.places)
			if errors.Is(err, fs.ErrNotExist) != test.missing || err == nil && got != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
	// Below a file there is nothing, but it is not known to be absent.
	if _, err := find("", "", []string{filepath.Join(here, "postrider.yaml")}); err == nil {
		t.Error("a place that cannot be looked at was passed over")
	}
}

func TestLoadOrSandbox(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv(Variable, "")
	if err := os.WriteFile("postrider.yaml", Template("relay.campus.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadOrSandbox("")
	if err != nil || c.Sandbox || c.Relay.Hostname != "relay.campus.test" {
		t.Errorf("%v, %v", c, err)
	}
	t.Setenv(Variable, "absent.yaml")
	if c, err := LoadOrSandbox(""); !errors.Is(err, fs.ErrNotExist) || c != nil {
		t.Errorf("%v, %v; want a missing file", c, err)
	}
	if _, err := Load("."); err == nil {
		t.Error("a directory was loaded")
	}
}

func TestErrorIsBounded(t *testing.T) {
	_, err := Parse("f.yaml", []byte("delivery: {retry: ["+strings.Repeat("x, ", 500)+"]}"))
	if lines := strings.Count(err.Error(), "\n") + 1; lines != maxShown+1 {
		t.Errorf("%d lines", lines)
	}
}

// A file of brackets must not keep a reload busy.
func TestDeepNestingIsRefused(t *testing.T) {
	_, err := Parse("f.yaml", []byte(strings.Repeat("[", 200_000)))
	if err == nil || err.Error() != "f.yaml:1:33: brackets are nested too deeply" {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Template("relay.campus.test"))
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "testdata/design.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.yaml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("a problem without text")
			}
			return
		}
		// What was accepted is complete, and stays so.
		before := c.String()
		if err := c.Validate(); err != nil {
			t.Fatalf("not stable: %v", err)
		}
		if after := c.String(); after != before {
			t.Fatalf("not canonical:\n%s\n%s", before, after)
		}
		c.Warnings()
		c.Rules()
		c.FileEntries()
	})
}
