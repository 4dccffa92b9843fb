package ingress

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/timetest"
)

// rsaCertificate has the configuration show a certificate with an RSA key, as
// the oldest devices need.
func rsaCertificate(t *testing.T) func(*config.Config) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.campus.test"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := config.TLS{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	for name, block := range map[string]*pem.Block{
		files.Certificate: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *config.Config) { c.TLS = files }
}

// Old TLS is spoken to the sources and devices that are named, and to nobody else.
func TestTLSFloor(t *testing.T) {
	const lab, oldest, newest, flagged = "127.0.0.9", "127.0.0.10", "127.0.0.11", "127.0.0.12"
	r := start(t, rsaCertificate(t), func(c *config.Config) {
		l := &c.Listeners[0]
		l.TLSMinimum, l.Ciphers = "1.2", config.CiphersDefault
		l.TLSFloorBySource = []config.TLSFloor{
			{From: netip.MustParsePrefix("127.0.0.8/30"), Minimum: "1.1", Ciphers: config.CiphersDefault},
			{From: netip.MustParsePrefix(oldest + "/32"), Minimum: "1.0", Ciphers: config.CiphersLegacy},
			{From: netip.MustParsePrefix(newest + "/32"), Minimum: "1.3", Ciphers: config.CiphersDefault},
		}
	})
	d := &registry.Device{Name: "old.campus.test", Addresses: registry.MustAddresses(flagged), State: registry.StateActive, Quirks: registry.Quirks{LegacyTLS: true}, Entry: by}
	if err := r.store.Put(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	speaks := func(from string, version uint16, suites ...uint16) error {
		c := r.dial(from)
		defer c.conn.Close()
		c.say("EHLO old.test", "250")
		c.say("STARTTLS", "220")
		return tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: suites}).HandshakeContext(t.Context())
	}
	timetest.Await(t, "the device to be known", func() bool { return speaks(flagged, tls.VersionTLS10) == nil })
	const rsaOnly, triple, rc4 = tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_RC4_128_SHA
	for _, c := range []struct {
		from    string
		version uint16
		suite   uint16
		want    bool
	}{
		{campus, tls.VersionTLS11, 0, false}, {campus, tls.VersionTLS12, 0, true}, {campus, tls.VersionTLS12, rsaOnly, false},
		{lab, tls.VersionTLS10, 0, false}, {lab, tls.VersionTLS11, 0, true}, {lab, tls.VersionTLS11, rsaOnly, false},
		{oldest, tls.VersionTLS10, 0, true}, {oldest, tls.VersionTLS10, rsaOnly, true}, {oldest, tls.VersionTLS10, triple, true}, {oldest, tls.VersionTLS13, 0, true},
		{newest, tls.VersionTLS12, 0, false}, {newest, tls.VersionTLS13, 0, true},
		{flagged, tls.VersionTLS10, triple, true}, {flagged, tls.VersionTLS10, rc4, true}, {campus, tls.VersionTLS12, triple, false}, {campus, tls.VersionTLS12, rc4, false},
	} {
		var suites []uint16
		if c.suite != 0 {
			suites = []uint16{c.suite}
		}
		if err := speaks(c.from, c.version, suites...); (err == nil) != c.want {
			t.Errorf("%s with %s, suite %s: %v", c.from, tls.VersionName(c.version), tls.CipherSuiteName(c.suite), err)
		}
	}
	// The list of UW-Madison (S37), but for ECDHE-RSA-AES256-SHA384 and
	// AES256-SHA256, which the library does not have.
	for _, suite := range []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		rc4, triple,
	} {
		if err := speaks(oldest, tls.VersionTLS12, suite); err != nil {
			t.Errorf("%s is not spoken to old devices: %v", tls.CipherSuiteName(suite), err)
		}
	}
}
