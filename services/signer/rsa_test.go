package signer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strconv"
	"sync"
	"testing"
)

// A key of any length DKIM has signs the same by OpenSSL, where it is at hand,
// and by several at once.
func TestOpenSSLSignsAsCryptoRSA(t *testing.T) {
	for _, bits := range []int{1024, 2048, 3072, 4096} {
		t.Run(strconv.Itoa(bits), func(t *testing.T) {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			faster, err := fasterRSA(key)
			if err != nil {
				t.Logf("crypto/rsa signs here: %v", err)
				faster = key
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					digest := sha256.Sum256([]byte{byte(i)})
					signature, err := faster.Sign(nil, digest[:], crypto.SHA256)
					if err != nil {
						t.Error(err)
					}
					if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if !key.PublicKey.Equal(faster.Public()) {
				t.Error("another public key")
			}
		})
	}
}

// Two that do not make the same signature are found out: a relay does not sign
// with a library that is broken on its machine.
func TestDisagreementIsFound(t *testing.T) {
	one, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(one, one); err != nil {
		t.Error(err)
	}
	if agree(one, other) == nil {
		t.Error("two keys are said to make one signature")
	}
}
