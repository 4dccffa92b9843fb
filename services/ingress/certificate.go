package ingress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/durable"
)

// Certificate is what the listeners show. It is read again when its file
// changes; a new file that cannot be read leaves the old one in use.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	modified          time.Time
	log               zerolog.Logger
}

// reread is how often the files are looked at.
const reread = 10 * time.Second

// OpenCertificate reads the certificate of the configuration, or makes one
// under relay.data.
func OpenCertificate(cfg *config.Config, log zerolog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: cfg.TLS.Certificate, keyFile: cfg.TLS.Key, log: log}
	if c.certFile == "" {
		dir := filepath.Join(cfg.Relay.Data, "tls")
		c.certFile, c.keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		if err := makeCertificate(dir, c.certFile, c.keyFile, cfg.Relay.Hostname); err != nil {
			return nil, err
		}
		if !cfg.Sandbox {
			log.Warn().Str("certificate", c.certFile).Msg("tls.certificate is empty: listeners show a made certificate that no client trusts")
		}
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config is the server side of TLS, before a listener says which versions it
// speaks: 1.2 or better.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// RSA reports a certificate with an RSA key.
func (c *Certificate) RSA() bool { return c.current.Load().Leaf.PublicKeyAlgorithm == x509.RSA }

// Watch reads the files again when they change, until ctx ends.
func (c *Certificate) Watch(ctx context.Context) error {
	tick := time.NewTicker(reread)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			info, err := os.Stat(c.certFile)
			if err != nil || info.ModTime().Equal(c.modified) {
				continue
			}
			if err := c.load(); err != nil {
				c.log.Error().Err(err).Msg("new certificate cannot be read; the old one stays in use")
				continue
			}
			c.log.Info().Time("not_after", c.current.Load().Leaf.NotAfter).Msg("certificate replaced")
		}
	}
}

func (c *Certificate) load() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return fmt.Errorf("read tls.certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read tls.certificate and tls.key: %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("read tls.certificate: %w", err)
		}
	}
	c.modified = info.ModTime()
	c.current.Store(&pair)
	return nil
}

// makeCertificate makes a self-signed certificate for ten years, once. Several
// processes may try at the same time.
func makeCertificate(dir, certFile, keyFile, hostname string) error {
	if _, err := os.Stat(certFile); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName(hostname)}, DNSNames: []string{hostname, "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	err = durable.Dir(dir, map[string][]byte{
		filepath.Base(keyFile):  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		filepath.Base(certFile): pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	})
	if _, there := os.Stat(certFile); err != nil && there == nil {
		return nil // another process was faster: its key and its certificate belong together
	}
	return err
}

// commonName is the host name where it fits (RFC 5280 appendix A: 64).
func commonName(hostname string) string { return hostname[:min(len(hostname), 64)] }
