package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/porttest"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc", "postrider")
	got := postrider(t, "", "init", "--hostname", "SMTP-Relay.campus.test", dir)
	if got.code != 0 || got.err != "" {
		t.Fatalf("init: %+v", got)
	}
	file := filepath.Join(dir, "postrider.yaml")
	for _, text := range []string{
		"Wrote " + file + "\n", "a._domainkey.smtp-relay.campus.test. IN TXT \"v=DKIM1; k=rsa; p=", "e._domainkey.smtp-relay.campus.test. IN TXT \"v=DKIM1; k=ed25519; p=",
		"smtp-relay.campus.test. IN TXT \"v=spf1 a -all\"", "postrider up --config " + file,
	} {
		if !strings.Contains(got.stdout, text) {
			t.Errorf("no %q in\n%s", text, got.stdout)
		}
	}
	modes := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			modes[filepath.Ext(path)] |= info.Mode().Perm()
		}
		return err
	})
	if err != nil || len(modes) != 3 || modes[".pem"] != 0o600 || modes[".yaml"]&0o137 != 0 {
		t.Errorf("files have the modes %v: %v", modes, err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Relay.Hostname != "smtp-relay.campus.test" || len(cfg.DKIM.Keys) != 2 || len(cfg.Listeners) != 3 {
		t.Errorf("configuration: %v", cfg)
	}

	again := postrider(t, "", "init", "--hostname", "other.campus.test", dir)
	if again.code != 5 || again.stdout != "" || !strings.Contains(again.err, file+" is there already; it is not overwritten") {
		t.Errorf("init again: %+v", again)
	}
	if now, err := config.Load(file); err != nil || now.Relay.Hostname != cfg.Relay.Hostname {
		t.Errorf("it was overwritten: %v", err)
	}

	keys := postrider(t, "", "dkim", "ls", "--config", file, "-o", "csv")
	if keys.code != 0 || strings.Count(keys.stdout, "\n") != 3 || !strings.Contains(keys.stdout, "._domainkey.smtp-relay.campus.test,") {
		t.Errorf("dkim ls: %+v", keys)
	}
}

// What init wrote is a relay, once its ports and its data are places that a
// test may have.
func TestUpOfInit(t *testing.T) {
	dir := t.TempDir()
	if got := postrider(t, "", "init", "--hostname", "relay.campus.test", dir); got.code != 0 {
		t.Fatalf("init: %+v", got)
	}
	file := filepath.Join(dir, "postrider.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ports := porttest.Addresses(t, 3)
	r := &relay{t: t, file: file, smtp: ports[0]}
	replaced := strings.NewReplacer(
		`#data: /var/lib/postrider`, "data: "+filepath.Join(dir, "data"), `":25"`, `"`+r.smtp+`"`, `":587"`, `"`+ports[1]+`"`, `":465"`, `"`+ports[2]+`"`,
		`#address: "127.0.0.1:9464"`, `address: ""`,
	).Replace(string(text))
	for _, left := range []string{`":25"`, "#data:", `#address: "127.0.0.1:9464"`} {
		if strings.Contains(replaced, left) {
			t.Fatalf("%s was not replaced in\n%s", left, replaced)
		}
	}
	write(t, file, replaced)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	banner := run(t, cfg)
	if !strings.HasPrefix(banner, "Postrider relay.campus.test is ready.") || !strings.Contains(banner, r.smtp) || strings.Contains(banner, "sandbox") {
		t.Errorf("banner:\n%s", banner)
	}
	r.ok("status")
	if _, err := submit(t, r.smtp, "127.0.0.1", login{}, "anna@inet.test"); err == nil || !strings.Contains(err.Error(), "Not registered") {
		t.Errorf("a fresh relay admits: %v", err)
	}
}

func TestInitRefusals(t *testing.T) {
	for _, hostname := range []string{"two words", `x"}`, "a\nb: c", `back\slash`, "-x.test"} {
		dir := filepath.Join(t.TempDir(), "new")
		got := postrider(t, "", "init", "--hostname="+hostname, dir)
		if _, err := os.Stat(dir); got.code != 2 || got.stdout != "" || err == nil {
			t.Errorf("hostname %q: %+v; made %s: %v", hostname, got, dir, err == nil)
		}
	}
	if got := postrider(t, "", "init"); got.code != 2 {
		t.Errorf("no directory: %+v", got)
	}
	under := filepath.Join(t.TempDir(), "file")
	write(t, under, "")
	if got := postrider(t, "", "init", "--hostname", "a.test", filepath.Join(under, "dir")); got.code != 1 || strings.Contains(got.err, "is there already") {
		t.Errorf("below a file: %+v", got)
	}
	link := t.TempDir()
	if err := os.Symlink(filepath.Join(link, "elsewhere"), filepath.Join(link, "postrider.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := postrider(t, "", "init", "--hostname", "a.test", link); got.code != 5 {
		t.Errorf("a dangling link: %+v", got)
	}
}

// A listing makes no private keys: they would belong to whoever looked.
func TestDKIMWithoutKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "postrider.yaml")
	write(t, file, "relay: {hostname: relay.campus.test, data: "+dir+"}\n")
	if got := postrider(t, "", "dkim", "ls", "--config", file); got.code != 3 || got.stdout != "" || !strings.Contains(got.err, "no keys yet") {
		t.Errorf("dkim ls: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "dkim")); err == nil {
		t.Error("dkim ls made keys")
	}
	write(t, file, "relay: {hostname: relay.campus.test, data: "+dir+"}\ndkim: {keys: [{selector: a, algorithm: rsa-sha256, file: "+file+"}]}\n")
	if got := postrider(t, "", "dkim", "ls", "--config", file, "-o", "json"); got.code != 1 || got.stdout != "" || !strings.Contains(got.err, "selector a") {
		t.Errorf("a key that is none: %+v", got)
	}
}

func TestConfigCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "postrider.yaml")
	check := func(content string) result {
		write(t, file, content)
		return postrider(t, "", "config", "check", "--config", file)
	}
	if got := check("relay: {hostname: relay.campus.test}\nlisteners: [{address: \"127.0.0.1:2525\"}]\n"); got.code != 0 || got.stdout != file+": ok\n" || got.err != "" {
		t.Errorf("a good one: %+v", got)
	}
	got := check("relay: {hostname: relay}\nscan: {rspamd: \"http://192.0.2.11:11333\"}\n")
	if got.code != 0 || got.stdout != file+": ok\n" || !strings.Contains(got.err, "warning: "+file+":2:16: scan.rspamd: ") || !strings.Contains(got.err, "warning: "+file+":1:19: relay.hostname: ") {
		t.Errorf("a doubtful one: %+v", got)
	}
	got = check("relay: {hostnam: relay.campus.test}\nlimits: {recipients: none}\n")
	if got.code != 2 || got.stdout != "" || !strings.Contains(got.err, file+":1:9") || !strings.Contains(got.err, "hostname") || !strings.Contains(got.err, file+":2:") {
		t.Errorf("a bad one: %+v", got)
	}
	if got := postrider(t, "", "config", "check", "--config", file+".absent"); got.code != 2 || got.stdout != "" {
		t.Errorf("none: %+v", got)
	}
	t.Setenv(config.Variable, file+".absent")
	if got := postrider(t, "", "config", "check"); got.code != 2 || !strings.Contains(got.err, "$"+config.Variable) {
		t.Errorf("none by the environment: %+v", got)
	}
	t.Setenv(config.Variable, "")
	t.Chdir(t.TempDir())
	if got := postrider(t, "", "config", "check"); got.code != 0 || got.stdout != "no configuration file: the sandbox: ok\n" {
		t.Errorf("the sandbox: %+v", got)
	}
}
