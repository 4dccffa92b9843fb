//go:build cgo && linux

package signer

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/golang-fips/openssl/v2"
)

// Where there is a libcrypto it signs.
func TestOpenSSLIsUsed(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey(private)
	if err != nil {
		t.Fatal(err)
	}
	_, used := key.private.(*openSSL)
	if there, _ := openssl.CheckVersion(libcrypto); there != used || used == (key.slow != nil) {
		t.Errorf("%s is there: %v, and signs: %v (%v)", libcrypto, there, used, key.slow)
	}
}
