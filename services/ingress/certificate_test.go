package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/queuetest"
)

// shown is the certificate that a handshake would show.
func shown(t *testing.T, c *Certificate) []byte {
	t.Helper()
	got, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Certificate[0]
}

// A certificate that changes is shown without a restart; one that cannot be
// read, or does not fit its key yet, leaves the old one in use.
func TestCertificateIsReplaced(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls", "tls.crt"), filepath.Join(dir, "tls", "tls.key")
	newCert, newKey := filepath.Join(dir, "new", "tls.crt"), filepath.Join(dir, "new", "tls.key")
	for _, err := range []error{
		makeCertificate(filepath.Dir(cert), cert, key, "relay.campus.test"),
		makeCertificate(filepath.Dir(newCert), newCert, newKey, "relay.campus.test"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := OpenCertificate(&config.Config{TLS: config.TLS{Certificate: cert, Key: key}}, queuetest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	old := shown(t, c)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go c.Watch(ctx)
		copyFile(t, newCert, cert, 1)
		time.Sleep(2 * reread)
		synctest.Wait()
		if !bytes.Equal(shown(t, c), old) {
			t.Error("shows a certificate without its key")
		}
		copyFile(t, newKey, key, 1)
		time.Sleep(2 * reread)
		synctest.Wait()
		replaced := shown(t, c)
		if bytes.Equal(replaced, old) {
			t.Error("still shows the old one")
		}
		if err := os.WriteFile(cert, nil, 0o600); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * reread)
		synctest.Wait()
		if !bytes.Equal(shown(t, c), replaced) {
			t.Error("an empty file took the certificate away")
		}
		cancel()
		synctest.Wait()
	})
}

// copyFile copies with a time of change that differs whatever the file system's
// clock.
func copyFile(t *testing.T, from, to string, hours int) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err == nil {
		at := time.Unix(1_600_000_000, 0).Add(time.Duration(hours) * time.Hour)
		err = os.Chtimes(to, at, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Processes that start at once on one directory get one certificate with its
// key, and it stays.
func TestCertificateIsMadeOnce(t *testing.T) {
	cfg := &config.Config{Sandbox: true, Relay: config.Relay{Hostname: "relay.campus.test", Data: t.TempDir()}}
	made := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			c, err := OpenCertificate(cfg, queuetest.Log(t))
			if err != nil {
				t.Error(err)
				return
			}
			made[i] = c.current.Load().Certificate[0]
		})
	}
	all.Wait()
	for _, m := range made {
		if !bytes.Equal(m, made[0]) {
			t.Error("two certificates were made")
		}
	}
	entries, err := os.ReadDir(cfg.Relay.Data)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}
