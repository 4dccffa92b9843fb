package signer

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/durable"
)

// Algorithms of DKIM keys, as configured and as in the a= tag.
const (
	RSA     = "rsa-sha256"
	Ed25519 = "ed25519-sha256"
)

// Key is one private key with the names it signs under.
type Key struct {
	Domain    string // d=
	Selector  string // s=
	Algorithm string // a=
	private   crypto.Signer
	slow      error // why crypto/rsa signs and not OpenSSL
}

// String is the key as the ledger records it.
func (k *Key) String() string { return "d=" + k.Domain + " s=" + k.Selector + " a=" + k.Algorithm }

// Record is the TXT record to publish at <selector>._domainkey.<domain>.
func (k *Key) Record() (string, error) {
	switch public := k.private.Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return "", fmt.Errorf("write public key: %w", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey: // RFC 8463 §4: the bare key
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public), nil
	}
	return "", fmt.Errorf("key of %s has an unknown type", k)
}

// Keys are the keys of the configuration. Files that cannot be read are tried
// again, so that a key that is being replaced delays mail and no more.
type Keys struct {
	domain string
	files  []config.DKIMKey

	mu     sync.Mutex
	loaded []*Key
	at     time.Time // when they were loaded
}

// recheck is how long loaded keys are used before their files are looked at.
const recheck = 10 * time.Second

// OpenKeys prepares the keys of the configuration. Without any, a pair is made
// under relay.data, and the DNS records to publish are written beside them.
func OpenKeys(cfg *config.Config, log zerolog.Logger) (*Keys, error) {
	k := &Keys{domain: cfg.DKIM.Domain, files: cfg.DKIM.Keys}
	if k.domain == "" {
		k.domain = cfg.Relay.Hostname
	}
	if len(k.files) == 0 {
		made, err := MakeKeys(filepath.Join(cfg.Relay.Data, "dkim"), k.domain, time.Now())
		if err != nil {
			return nil, err
		}
		if !cfg.Sandbox {
			log.Warn().Str("directory", filepath.Join(cfg.Relay.Data, "dkim")).Msg("dkim.keys is empty: signing with keys made there; publish their DNS records")
		}
		k.files = made
	}
	active, err := k.Active()
	if err != nil {
		log.Error().Err(err).Msg("mail is delayed until the DKIM keys can be read")
	}
	for _, key := range active {
		log.Info().Stringer("key", key).AnErr("not_by_openssl", key.slow).Msg("signing")
	}
	return k, nil
}

// ErrNoKey reports that a key cannot be read now.
var ErrNoKey = errors.New("a DKIM key cannot be read")

// Active is every configured key. All must be readable: a signature that
// receivers expect must not go missing silently.
func (k *Keys) Active() ([]*Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loaded != nil && time.Since(k.at) < recheck {
		return k.loaded, nil
	}
	var keys []*Key
	for _, f := range k.files {
		key, err := LoadKey(f.File)
		if err != nil {
			return nil, fmt.Errorf("%w: selector %s: %w", ErrNoKey, f.Selector, err)
		}
		key.Domain, key.Selector = k.domain, f.Selector
		if f.Algorithm != "" && f.Algorithm != key.Algorithm {
			return nil, fmt.Errorf("%w: selector %s: file holds a key for %s, not %s", ErrNoKey, f.Selector, key.Algorithm, f.Algorithm)
		}
		keys = append(keys, key)
	}
	k.loaded, k.at = keys, time.Now()
	return keys, nil
}

// LoadKey reads a private key in PEM: PKCS #8, or PKCS #1 for RSA.
func LoadKey(file string) (*Key, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block in the key file")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return newKey(key)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	return newKey(key)
}

func newKey(private any) (*Key, error) {
	switch p := private.(type) {
	case *rsa.PrivateKey:
		if p.N.BitLen() < 1024 {
			return nil, fmt.Errorf("RSA key of %d bits is too short (RFC 8301 §3.2)", p.N.BitLen())
		}
		key := &Key{Algorithm: RSA, private: p}
		if faster, err := fasterRSA(p); err != nil {
			key.slow = err
		} else {
			key.private = faster
		}
		return key, nil
	case ed25519.PrivateKey:
		return &Key{Algorithm: Ed25519, private: p}, nil
	}
	return nil, fmt.Errorf("private key of type %T cannot sign for DKIM", private)
}

// MakeKeys makes an RSA-2048 and an Ed25519 key in dir with the DNS records to
// publish in dir/dns.txt. Selectors are the year with "a" and "e". Keys that
// are there are never replaced: whatever .pem files dir holds are the keys.
// Several processes may make them at the same time; all get the same ones.
func MakeKeys(dir, domain string, now time.Time) ([]config.DKIMKey, error) {
	if keys, err := madeKeys(dir); err != nil || len(keys) > 0 {
		return keys, err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make RSA key: %w", err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make Ed25519 key: %w", err)
	}
	files := map[string][]byte{}
	records := ""
	for _, k := range []struct {
		suffix  string
		private crypto.Signer
	}{{"a", rsaKey}, {"e", edKey}} {
		key, err := newKey(k.private)
		if err != nil {
			return nil, err
		}
		key.Domain, key.Selector = domain, now.UTC().Format("2006")+k.suffix
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return nil, fmt.Errorf("write private key: %w", err)
		}
		files[key.Selector+keySuffix] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		record, err := key.Record()
		if err != nil {
			return nil, err
		}
		records += fmt.Sprintf("%s._domainkey.%s. IN TXT %s\n", key.Selector, domain, quoted(record))
	}
	files["dns.txt"] = []byte(records)
	failed := durable.Dir(dir, files)
	keys, err := madeKeys(dir)
	if err == nil && len(keys) == 0 { // not even those of another process that was faster
		return nil, failed
	}
	return keys, err
}

const keySuffix = ".pem"

// madeKeys are the keys in dir, in the order of their selectors. One that
// cannot be read now is among them: it delays mail, it is not made anew.
func madeKeys(dir string) ([]config.DKIMKey, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+keySuffix))
	if err != nil {
		return nil, fmt.Errorf("look for DKIM keys: %w", err)
	}
	var keys []config.DKIMKey
	for _, file := range files {
		k := config.DKIMKey{Selector: strings.TrimSuffix(filepath.Base(file), keySuffix), File: file}
		if key, err := LoadKey(file); err == nil {
			k.Algorithm = key.Algorithm
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// quoted splits a TXT record into strings of at most 255 octets (RFC 1035 §3.3.14).
func quoted(record string) string {
	out := ""
	for len(record) > 255 {
		out += `"` + record[:255] + `" `
		record = record[255:]
	}
	return out + `"` + record + `"`
}
