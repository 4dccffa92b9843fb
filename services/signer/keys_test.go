package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queuetest"
)

var year = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// contents are the files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(content)
	}
	return out
}

// Processes that start at once on one directory get the same pair of keys, and
// the records that belong to it.
func TestKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "dkim")
	made := make([][]config.DKIMKey, 6)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = MakeKeys(dir, "relay.campus.test", year); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, m := range made {
		if !slices.Equal(m, made[0]) || len(m) != 2 || m[0].Selector != "2026a" || m[0].Algorithm != RSA || m[1].Selector != "2026e" || m[1].Algorithm != Ed25519 {
			t.Errorf("keys %v", m)
		}
	}
	files := contents(t, dir)
	if len(files) != 3 {
		t.Errorf("files %v", files)
	}
	for _, k := range made[0] {
		key, err := LoadKey(k.File)
		if err != nil {
			t.Fatal(err)
		}
		record, err := key.Record()
		if err != nil || !strings.Contains(files["dns.txt"], k.Selector+"._domainkey.relay.campus.test. IN TXT "+quoted(record)+"\n") {
			t.Errorf("dns.txt does not have %s: %v\n%s", record, err, files["dns.txt"])
		}
		if info, err := os.Stat(k.File); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s: %v %v", k.File, info.Mode(), err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("left behind beside it: %v %v", entries, err)
	}
}

// Keys that are there stay, whatever else happens to the directory: a key that
// is published must not change at a start.
func TestKeysStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dkim")
	first, err := MakeKeys(dir, "relay.campus.test", year)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func() error
		keys   int
	}{
		{"a year later", func() error { return nil }, 2},
		{"a third key", func() error {
			pem, err := os.ReadFile(first[1].File)
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "extra.pem"), pem, 0o600))
		}, 3},
		{"without dns.txt", func() error { return os.Remove(filepath.Join(dir, "dns.txt")) }, 3},
		{"one taken away", func() error { return os.Remove(first[0].File) }, 2},
		{"one damaged", func() error { return os.WriteFile(first[1].File, nil, 0o600) }, 2},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		before := contents(t, dir)
		again, err := MakeKeys(dir, "relay.campus.test", year.AddDate(1, 0, 0))
		if err != nil || len(again) != c.keys {
			t.Errorf("%s: %d keys, %v", c.name, len(again), err)
		}
		for name, content := range contents(t, dir) {
			if before[name] != content {
				t.Errorf("%s: %s changed", c.name, name)
			}
		}
	}
}

func TestQuoted(t *testing.T) {
	long := strings.Repeat("x", 300)
	if got := quoted(long); got != `"`+long[:255]+`" "`+long[255:]+`"` || quoted("a") != `"a"` {
		t.Errorf("quoted %s", got)
	}
}

func TestLoadKey(t *testing.T) {
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"PKCS #1", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(strong)})), ""},
		{"ECDSA", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other})), "cannot sign for DKIM"},
		{"empty", "", "no PEM block"},
		{"not a key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})), "parse private key"},
	} {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The algorithm of the configuration and that of the file must agree.
func TestAlgorithmMismatch(t *testing.T) {
	made, err := MakeKeys(filepath.Join(t.TempDir(), "dkim"), "relay.campus.test", year)
	if err != nil {
		t.Fatal(err)
	}
	made[0].Algorithm = Ed25519
	keys, err := OpenKeys(&config.Config{DKIM: config.DKIM{Domain: "relay.campus.test", Keys: made}}, queuetest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Active(); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v", err)
	}
}
