package signer

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
)

// fasterRSA is the key in the OpenSSL of the system, which signs in a third of
// the time crypto/rsa takes (docs/PERFORMANCE.md). It is used only if it makes
// the same signatures. Without cgo or libcrypto, and for a key OpenSSL does
// not take, it fails and crypto/rsa signs.
func fasterRSA(key *rsa.PrivateKey) (crypto.Signer, error) {
	faster, err := systemRSA(key)
	if err != nil {
		return nil, err
	}
	if err := agree(key, faster); err != nil {
		return nil, err
	}
	return faster, nil
}

// agree makes a signature with both. PKCS #1 v1.5 has exactly one for a
// digest (RFC 8017 §8.2.1).
func agree(a, b crypto.Signer) error {
	digest := sha256.Sum256([]byte("a message both sign"))
	one, err := a.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	other, err := b.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !bytes.Equal(one, other) {
		return errors.New("OpenSSL and crypto/rsa make different signatures")
	}
	return nil
}
